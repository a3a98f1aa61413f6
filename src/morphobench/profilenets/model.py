"""CellPainTR's network (CellPainTR, sections 3.1 and A; its authors' code where the text leaves things open).

One token for each feature, between a [CLS] token, whose output is the representation, and a token for the source
that a profile comes from. Blocks mix tokens by Hyena operators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from morphobench.errors import DataError, SpecError
from morphobench.learning.joint import precise
from morphobench.profilenets.features import Alignment, FeatureSpace
from morphobench.profilenets.hyena import Hyena

_SPREAD = 0.02
ADAPTERS = ("shared", "own")


class SourceEmbedding(nn.Module):
    """A vector for each source of profiles: those trained from the start, and those added later.

    Attributes
    ----------
    known
        (K, W) rows of codes 0 to K - 1.
    added
        (n, W) rows of the codes after them, a parameter of its own so that an optimiser can be given these alone.
    """

    def __init__(self, known: int, added: int, width: int) -> None:
        super().__init__()
        if known < 1 or added < 0:
            raise SpecError(f"network has {known} sources and {added} added, expected 1 or more and 0 or more")
        self.known = nn.Parameter(torch.randn(known, width) * _SPREAD)
        self.added = nn.Parameter(torch.zeros(added, width))

    def __len__(self) -> int:
        return len(self.known) + len(self.added)

    def extend(self, count: int) -> None:
        """Add rows, each the mean of those there are: a source like all others."""
        if count < 1:
            raise SpecError(f"{count} sources to add, expected 1 or more")
        table = torch.cat([self.known, self.added]).detach()
        self.known = nn.Parameter(table)
        self.added = nn.Parameter(table.mean(0, keepdim=True).repeat(count, 1))

    def forward(self, codes: Tensor) -> Tensor:
        """Return (B, W) vectors of (B,) codes."""
        # On an accelerator the look-up itself checks the range; asking here would make the host wait.
        if codes.device.type == "cpu" and len(codes):
            low, high = int(codes.min()), int(codes.max())
            if low < 0 or high >= len(self):
                raise DataError(
                    f"sources {low} to {high}, expected codes 0 to {len(self) - 1}; a new source needs a row"
                )
        return functional.embedding(codes, torch.cat([self.known, self.added]))


class OwnAdapters(nn.Module):
    """A linear layer for each feature's value (equation 6), instead of one for all."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, width) * _SPREAD)
        self.bias = nn.Parameter(torch.zeros(features, width))

    def forward(self, values: Tensor) -> Tensor:
        """Return (B, F, W) of (B, F, 1)."""
        return values * self.weight + self.bias


class Block(nn.Module):
    """Pre-norm: x + Hyena(norm x), then x + MLP(norm x), with x kept in float32."""

    def __init__(self, width: int, expansion: int, mixer: Hyena) -> None:
        super().__init__()
        self.norm1, self.mixer = nn.LayerNorm(width), mixer
        self.norm2 = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, expansion * width), nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, W) of (B, L, W)."""
        x = precise(x) + self.mixer(self.norm1(x))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class CellPainTR(nn.Module):
    """The network: profiles with named features to a representation and predicted feature values.

    Parameters
    ----------
    names
        The features, in the order in which ``forward`` takes and returns them. Tokens, and with them the weights,
        follow the sorted names: the order given has no influence on representation or prediction.
    sources
        K, number of sources in training.
    width
        W (CellPainTR: 256).
    blocks, expansion, dropout
        Number of blocks (4), width of their MLPs in units of W (4), and dropout of the first one's input (0.1).
    order, filter_options
        See :class:`morphobench.profilenets.hyena.Hyena`.
    adapter
        ``shared``: one linear layer takes the values of all features, as in the authors' code; ``own``: each
        feature has one of its own, as equation 6 says.
    added_sources
        Rows by which the source embedding was extended.

    Attributes
    ----------
    arguments
        JSON-able arguments that build the same network; its weights are ``state_dict()``.

    Notes
    -----
    Weights start as in the authors' code: normal with deviation 0.02, divided by sqrt(2 blocks) where a block adds
    to the residual stream; biases, [CLS] and the mask vector at zero; PyTorch's start for the short convolutions
    and the regressor.

    What is invariant: permuting columns with their names, and any value where ``masked`` is set. What is not: the
    operator convolves over positions, so it matters to training which names lie next to each other in sorted
    order, and a network of other names gives each feature another position. A feature that a table lacks keeps its
    position, with the mask vector in place of its value, which differs from a network without that feature.
    """

    def __init__(
        self,
        names: Sequence[str],
        sources: int,
        *,
        width: int = 256,
        blocks: int = 4,
        expansion: int = 4,
        dropout: float = 0.1,
        order: int = 2,
        filter_options: Mapping[str, Any] | None = None,
        adapter: str = "shared",
        added_sources: int = 0,
    ) -> None:
        super().__init__()
        if adapter not in ADAPTERS:
            raise SpecError(f"adapter is {adapter!r}, expected one of {', '.join(ADAPTERS)}")
        self.names = FeatureSpace.from_names(names).names
        self._options = {
            "width": width,
            "blocks": blocks,
            "expansion": expansion,
            "dropout": dropout,
            "order": order,
            "filter_options": dict(filter_options or {}),
            "adapter": adapter,
        }
        by_name = torch.as_tensor(np.argsort(np.array(self.names, dtype=object), kind="stable"))
        # They follow from the names, so they are no part of the state.
        self.register_buffer("to_tokens", by_name, persistent=False)
        self.register_buffer("to_names", torch.argsort(by_name), persistent=False)
        self.value = nn.Linear(1, width) if adapter == "shared" else OwnAdapters(len(names), width)
        self.identity = nn.Parameter(torch.randn(len(names), width) * _SPREAD)
        self.cls_identity = nn.Parameter(torch.randn(width) * _SPREAD)
        self.cls = nn.Parameter(torch.zeros(width))
        self.mask = nn.Parameter(torch.zeros(width))
        self.sources = SourceEmbedding(sources, added_sources, width)
        self.dropout = nn.Dropout(dropout)
        length = len(names) + 2
        mixers = [Hyena(width, length, order=order, **self._options["filter_options"]) for _ in range(blocks)]
        self.blocks = nn.ModuleList(Block(width, expansion, mixer) for mixer in mixers)
        self.norm = nn.LayerNorm(width)
        self._start(blocks)
        self.regressor = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, 1)
        )

    @torch.no_grad()
    def _start(self, blocks: int) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                adds = name.endswith(("out_proj", "fc2"))
                nn.init.normal_(module.weight, std=_SPREAD / math.sqrt(2 * blocks) if adds else _SPREAD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def arguments(self) -> dict[str, Any]:
        """JSON-able arguments that build the same network."""
        rows = {"sources": len(self.sources.known), "added_sources": len(self.sources.added)}
        return {"names": list(self.names), **rows, **self._options}

    def align(self, names: Sequence[str], where: str, *, unknown: str = "error") -> Alignment:
        """Find this network's features in a table with other columns.

        What the table lacks is to be ``masked``. Names that the network does not know are refused or, with
        ``unknown="leave_out"``, listed and not used; see
        :meth:`morphobench.profilenets.features.FeatureSpace.align` for arguments and errors.
        """
        return FeatureSpace.from_names(self.names).align(names, where, unknown=unknown)

    def forward(self, values: Tensor, masked: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Represent profiles and predict the values of all their features.

        Parameters
        ----------
        values
            (B, F) float, columns in the order of ``names``.
        masked
            (B, F) bool, what the network must not see: masked for training, or absent from the data.
        source
            (B,) int64 codes.

        Returns
        -------
        tuple of Tensor
            (B, W) representations and (B, F) predictions.

        Raises
        ------
        DataError
            If shapes are not these, or a source has no row.
        """
        tokens = self.tokens(values, masked, source)
        return tokens[:, 0], self.regressor(tokens[:, 1:-1])[..., 0][:, self.to_names]

    def represent(self, values: Tensor, masked: Tensor, source: Tensor) -> Tensor:
        """Return only the (B, W) representations of ``forward``."""
        return self.tokens(values, masked, source)[:, 0]

    def tokens(self, values: Tensor, masked: Tensor, source: Tensor) -> Tensor:
        """Return (B, F + 2, W) outputs after the last normalisation: [CLS], features by sorted name, source."""
        self._check(values, masked, source)
        values, masked = values[:, self.to_tokens], masked[:, self.to_tokens]
        # What is masked may be NaN, whose product with a gradient of zero would be NaN.
        seen = self.value(values.masked_fill(masked, 0)[..., None])
        features = torch.where(masked[..., None], self.mask.to(seen.dtype), seen) + self.identity
        first = (self.cls + self.cls_identity).expand(len(values), 1, -1)
        x = self.dropout(torch.cat([first, precise(features), self.sources(source)[:, None]], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def _check(self, values: Tensor, masked: Tensor, source: Tensor) -> None:
        shape = (len(source), len(self.names))
        for what, found in (("values", values), ("masked", masked)):
            if tuple(found.shape) != shape:
                raise DataError(f"{what} has shape {tuple(found.shape)}, expected {shape}: profiles, features")

    def extend_sources(self, count: int) -> None:
        """Add rows for sources that were not trained on (CellPainTR, section D.3).

        The new rows start as the mean of the others and get the next codes. Rows added before become known ones.
        Optimisers must be made anew afterwards.
        """
        self.sources.extend(count)

    def new_source_parameters(self) -> list[nn.Parameter]:
        """Return what fitting to new sources trains: the rows added last and nothing else.

        Raises
        ------
        SpecError
            If no rows were added.
        """
        if not len(self.sources.added):
            raise SpecError("the network has no added sources to fit, expected extend_sources before")
        return [self.sources.added]

    def source_parameters(self) -> list[nn.Parameter]:
        """Return the rows of all sources, which alone are trained in the first epoch of stage 2 (section A.3)."""
        return [rows for rows in (self.sources.known, self.sources.added) if len(rows)]
