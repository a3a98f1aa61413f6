"""Random numbers that belong to a sample, not to a place in a batch.

A counter-based generator (SplitMix64; Steele, Lea and Flood 2014): the n-th number of a key is a hash of both.
What is drawn for a sample therefore depends on nothing but the seed, the epoch and the sample; not on the other
samples of the batch, the number of processes, or where an interrupted training was taken up again.
"""

from __future__ import annotations

import numpy as np
import torch

_GOLDEN, _FIRST, _SECOND = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _mixed(z: torch.Tensor) -> torch.Tensor:
    """Return SplitMix64's finaliser of int64 bit patterns; multiplications wrap around."""

    def shifted(x: torch.Tensor, by: int) -> torch.Tensor:
        # torch shifts signed numbers arithmetically; the mask makes it logical.
        return (x >> by) & ((1 << (64 - by)) - 1)

    z = (z ^ shifted(z, 30)) * _signed(_FIRST)
    z = (z ^ shifted(z, 27)) * _signed(_SECOND)
    return z ^ shifted(z, 31)


def sample_keys(seed: int, epoch: int, rows: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Return one int64 key per sample.

    Parameters
    ----------
    seed, epoch
        Whole numbers.
    rows
        (B,) whole numbers that name the samples, such as their rows of the store.
    """
    key = torch.as_tensor(np.array(rows, dtype=np.int64))
    for part in (epoch, seed):
        key = _mixed(key + _signed(_GOLDEN)) + part
    return _mixed(key + _signed(_GOLDEN))


def uniforms(keys: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """Return the numbers ``first`` to ``first + count - 1`` of each key.

    Returns
    -------
    Tensor
        (B, count) float64 in [0, 1), on the device of the keys.
    """
    counters = torch.arange(first + 1, first + count + 1, device=keys.device)
    bits = _mixed(keys[:, None] + counters * _signed(_GOLDEN))
    return ((bits >> 11) & ((1 << 53) - 1)).double() * 2.0**-53


def normals(keys: torch.Tensor, first: int, count: int) -> torch.Tensor:
    """Return (B, count) standard normal numbers; uses the uniform numbers ``first`` to ``first + 2 count - 1``."""
    radius, angle = uniforms(keys, first, 2 * count).chunk(2, dim=1)
    return torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * torch.pi * angle)
