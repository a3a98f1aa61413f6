"""The bidirectional Hyena operator: a long convolution whose filter a small network writes, between two gates.

Poli et al. 2023 (Hyena Hierarchy, section 3) made the operator causal; scHyena (Oh et al. 2023) lets the filter
reach both ways, and CellPainTR (section 2) takes it over. What the text leaves open follows the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn

from morphobench.errors import DataError, SpecError
from morphobench.learning.joint import precise

WINDOWS = ("two_sided", "one_sided")


def fft_convolution(u: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolve each channel with a filter that reaches over the whole sequence, both ways, and add a skip.

    ``y[b, w, t] = sum over s of kernel[w, L - 1 + t - s] u[b, w, s] + bias[w] u[b, w, t]``, in O(L log L).

    Parameters
    ----------
    u
        (B, W, L), any floating type.
    kernel
        (W, 2L - 1) values at offsets ``t - s`` from -(L - 1) to L - 1.
    bias
        (W,) weights of the skip.

    Returns
    -------
    Tensor
        (B, W, L) float32, or float64 if ``u`` is.

    Raises
    ------
    DataError
        If the filter is not of length 2L - 1.

    Notes
    -----
    A transform of 2L - 1 points is enough: of the 3L - 2 values of the full convolution only numbers L - 1 to
    2L - 2 are wanted, and those that wrap around fall on numbers 0 to L - 2.
    """
    length = u.shape[-1]
    if kernel.shape[-1] != 2 * length - 1:
        raise DataError(f"filter has length {kernel.shape[-1]}, expected {2 * length - 1} for {length} tokens")
    # Half precision has no transforms of these lengths, and a filter's tail would drown in its rounding.
    with torch.autocast(u.device.type, enabled=False):
        u, kernel, bias = precise(u), precise(kernel), precise(bias)
        # Transforms of odd lengths, such as 3^8, take more than twice as long.
        points = 16 * next_fast_len(-(-(2 * length - 1) // 16), real=True)
        spectrum = torch.fft.rfft(u, n=points) * torch.fft.rfft(kernel, n=points)
        full = torch.fft.irfft(spectrum, n=points)
        return torch.addcmul(full[..., length - 1 : 2 * length - 1], u, bias[:, None])


class Sine(nn.Module):
    """sin(frequency x) with a trained frequency for each channel."""

    def __init__(self, width: int, frequency: float) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.full((width,), float(frequency)))

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the same shape, (..., width)."""
        return torch.sin(self.frequency * x)


class ImplicitFilter(nn.Module):
    """A filter over offsets, written by a network from features of the offset and faded by a window.

    Parameters
    ----------
    width
        Channels W, each with its filter.
    length
        L, the most tokens a sequence may have. Offsets are measured in units of L - 1, so a shorter sequence gets
        the middle of the same filter.
    hidden
        Width of the three hidden layers (CellPainTR: 64), which share one set of sine frequencies.
    frequency
        Start of these (CellPainTR: 10).
    bands
        Frequencies f of the positional features, which are the relative offset, and for each f the cosine and the
        negative sine of 2 pi f offset/L. CellPainTR's code sets both to 1e-4, where Poli et al. spread them from
        1e-4 to 1; with the former the offset is the only feature that varies noticeably.
    fast, slow, target, shift
        The window is exp(-d r) + shift at relative offset d; the rates r run over the channels evenly from
        -ln(target)/slow to -ln(target)/fast (CellPainTR: 0.3, 1.5, 0.01, 0.05).
    window
        ``two_sided``: d is the distance, so that far tokens count less on both sides. ``one_sided``: d keeps its
        sign, as in CellPainTR's code, where causal Hyena's window was applied to offsets from -1 to 1: it grows
        towards later tokens, up to target^(-1/fast) = 4.6e6.

    Attributes
    ----------
    bias
        (width,) weights of the convolution's skip, standard normal at first.
    """

    def __init__(
        self,
        width: int,
        length: int,
        *,
        hidden: int = 64,
        frequency: float = 10.0,
        bands: Sequence[float] = (1e-4, 1e-4),
        fast: float = 0.3,
        slow: float = 1.5,
        target: float = 0.01,
        shift: float = 0.05,
        window: str = "two_sided",
    ) -> None:
        super().__init__()
        if window not in WINDOWS:
            raise SpecError(f"window is {window!r}, expected one of {', '.join(WINDOWS)}")
        if length < 1:
            raise SpecError(f"length is {length}, expected 1 token or more")
        self.width, self.length, self.shift = width, length, shift
        sine = Sine(hidden, frequency)
        self.network = nn.Sequential(
            nn.Linear(1 + 2 * len(bands), hidden),
            sine,
            nn.Linear(hidden, hidden),
            sine,
            nn.Linear(hidden, hidden),
            sine,
            nn.Linear(hidden, width, bias=False),
        )
        self.bias = nn.Parameter(torch.randn(width))
        offsets = torch.arange(1 - length, length, dtype=torch.float64)
        relative = offsets / max(length - 1, 1)
        angles = 2 * torch.pi / length * offsets[:, None] * torch.tensor(list(bands), dtype=torch.float64)
        features = torch.cat([relative[:, None], angles.cos(), -angles.sin()], dim=1)
        rates = torch.linspace(-math.log(target) / slow, -math.log(target) / fast, width, dtype=torch.float64)
        distance = relative.abs() if window == "two_sided" else relative
        # They follow from the arguments, so they are no part of the state.
        self.register_buffer("features", features.float(), persistent=False)
        self.register_buffer("distance", distance.float(), persistent=False)
        self.register_buffer("rates", rates.float(), persistent=False)

    def forward(self, tokens: int) -> Tensor:
        """Return the (W, 2 tokens - 1) filter of a sequence; DataError if it is longer than ``length``."""
        if not 1 <= tokens <= self.length:
            raise DataError(f"sequence has {tokens} tokens, expected 1 to {self.length}")
        middle = slice(self.length - tokens, self.length + tokens - 1)
        with torch.autocast(self.features.device.type, enabled=False):
            written = self.network(self.features[middle])
            window = torch.exp(-self.distance[middle, None] * self.rates) + self.shift
            return (written * window).T


class Hyena(nn.Module):
    """The operator that takes the place of attention: (B, L, W) to (B, L, W).

    Projections of the input, each smoothed over three tokens, are gated and convolved in turn: with order 2,
    ``x0 (h * (x1 v))``.

    Parameters
    ----------
    width
        W.
    length
        The most tokens L.
    order
        Number of gates; there is one long convolution fewer. CellPainTR's code has 2, its text "3 recurrences".
    filter_options
        Keyword arguments of :class:`ImplicitFilter`.

    Notes
    -----
    The short convolution reaches from a token to the two before it, as in causal Hyena and in CellPainTR's code;
    only the long one looks both ways. The operator is equivariant under neither permutations nor reversal of
    tokens.
    """

    def __init__(self, width: int, length: int, *, order: int = 2, **filter_options: Any) -> None:
        super().__init__()
        if order < 2:
            raise SpecError(f"order is {order}, expected 2 or more")
        self.width, self.order = width, order
        inner = width * (order + 1)
        self.in_proj = nn.Linear(width, inner)
        self.short = nn.Conv1d(inner, inner, 3, padding=2, groups=inner)
        self.filter = ImplicitFilter(width * (order - 1), length, **filter_options)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the operator's output for (B, L, W) tokens."""
        tokens = x.shape[1]
        # Convolved over tokens, the last axis from here on.
        projected = self.short(self.in_proj(x).transpose(1, 2))[..., :tokens]
        *gates, v = projected.split(self.width, dim=1)
        kernels = self.filter(tokens).split(self.width)
        biases = self.filter.bias.split(self.width)
        for gate, kernel, bias in zip(reversed(gates[1:]), kernels, biases, strict=True):
            v = fft_convolution(v * gate, kernel, bias)
        return self.out_proj((v * gates[0]).transpose(1, 2))
