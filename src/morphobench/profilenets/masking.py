"""Channel-wise masked morphology (CellPainTR, sections 3.2 and A.1): what is masked, and the loss.

Groups are those of :class:`morphobench.profilenets.features.FeatureSpace`: dye and compartment.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from morphobench.errors import DataError, SpecError
from morphobench.learning.joint import joint_sum, precise
from morphobench.learning.randomness import sample_keys, uniforms

# Keeps the ratios of mini-batches apart from what is drawn for rows of the same numbers.
_RATIO = 0x5241


def draw_ratio(seed: int, epoch: int, batch: int, low: float = 0.05, high: float = 0.40) -> float:
    """Return the share of features to mask in a mini-batch, uniform from ``low`` to ``high``.

    Parameters
    ----------
    seed, epoch, batch
        Name the mini-batch; all processes that share it draw the same.
    low, high
        CellPainTR: 0.05 and 0.40.

    Raises
    ------
    SpecError
        If they are not 0 <= low <= high <= 1.
    """
    if not 0 <= low <= high <= 1:
        raise SpecError(f"masking ratio is from {low} to {high}, expected 0 <= low <= high <= 1")
    key = sample_keys(seed ^ _RATIO, epoch, np.array([batch]))
    return low + (high - low) * float(uniforms(key, 0, 1)[0, 0])


def draw_mask(values: Tensor, present: Tensor, keys: Tensor, ratio: float, groups: Tensor | None = None) -> Tensor:
    """Choose what the network must predict.

    Only values that are present and not zero can be masked: zero stands for imputed values too, and true and false
    zeros cannot be told apart (section 3.2).

    Parameters
    ----------
    values
        (B, F).
    present
        (B, F) bool.
    keys
        (B,) int64, see :func:`morphobench.learning.randomness.sample_keys`; a row's mask depends on its own alone.
    ratio
        p, see :func:`draw_ratio`.
    groups
        None: each value is masked with probability p, as in the authors' code, whose groups have no effect. Or
        (F,) int64 codes: of a row's n values in a group p n are masked, as the text describes; a broken p n is
        rounded up or down at random, such that its mean is p n.

    Returns
    -------
    Tensor
        (B, F) bool.
    """
    if values.shape != present.shape:
        raise DataError(
            f"values have shape {tuple(values.shape)}, present {tuple(present.shape)}; expected the same"
        )
    eligible = present & (values != 0)
    count = values.shape[1]
    if groups is None:
        return eligible & (uniforms(keys, 0, count) < ratio)
    number = int(groups.max()) + 1 if len(groups) else 0
    drawn = uniforms(keys, 0, count + number)
    chances, rounding = drawn[:, :count], drawn[:, count:]
    # Sorted by group and then by chance; what is not eligible comes after all groups.
    order = torch.where(eligible, groups + chances, number).argsort(dim=1)
    member = torch.where(eligible, groups, number)
    sizes = torch.zeros(len(values), number + 1, dtype=torch.int64, device=values.device)
    sizes.scatter_add_(1, member, torch.ones_like(member))
    starts = sizes.cumsum(1) - sizes
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(count, device=values.device).expand_as(order))
    wanted = torch.floor(ratio * sizes[:, :number].double() + rounding)
    wanted = torch.cat([wanted.to(torch.int64), torch.zeros_like(sizes[:, :1])], dim=1)
    return rank - starts.gather(1, member) < wanted.gather(1, member)


def masked_loss(predicted: Tensor, values: Tensor, masked: Tensor, groups: Tensor | None = None) -> Tensor:
    """Squared error of predictions at what was masked (CellPainTR, equation 9).

    Parameters
    ----------
    predicted, values
        (B, F).
    masked
        (B, F) bool, what was masked for training. What is absent from the data has no value to compare with.
    groups
        None: the mean over all masked values, as in the authors' code. Or (F,) int64 codes: the mean over groups
        of the means over their masked values in the mini-batch, as the text prints; groups without any are left
        out.

    Returns
    -------
    Tensor
        Of the joint mini-batch; 0 if nothing is masked.
    """
    with torch.autocast(predicted.device.type, enabled=False):
        # Chosen before it is squared: what is absent may be NaN.
        error = torch.where(masked, precise(predicted) - values, 0).square()
        sums, counts = error.sum(0), masked.sum(0)
        if groups is None:
            sums, counts = sums.sum()[None], counts.sum()[None]
        else:
            # There are no more groups than features; asking for their number would make the host wait.
            shape = (len(groups),)
            sums = torch.zeros(shape, dtype=sums.dtype, device=sums.device).index_add(0, groups, sums)
            counts = torch.zeros(shape, dtype=counts.dtype, device=counts.device).index_add(0, groups, counts)
        sums, counts = joint_sum(sums), joint_sum(counts)
        means = sums / counts.clamp_min(1)
        return means.sum() / (counts > 0).sum().clamp_min(1)
