"""What CellPainTR's stages minimise: masked prediction, and supervised contrast of the representations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from morphobench.errors import SpecError
from morphobench.learning.joint import joint_rows, precise
from morphobench.profilenets.masking import masked_loss

REDUCTIONS = ("sum", "mean")


def supcon_loss(
    representations: Tensor, labels: Tensor, *, temperature: float = 0.07, reduction: str = "mean"
) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020, L_out; CellPainTR, equation 11).

    ``l_i = -1/|P(i)| sum over p in P(i) of log[exp(h_i h_p / t) / sum over a != i of exp(h_i h_a / t)]``, where
    P(i) are the other rows with row i's label. A row without any contributes 0.

    Parameters
    ----------
    representations
        (B, W), normalised here to length 1. Rows of all processes are compared.
    labels
        (B,) int64 codes.
    temperature
        t.
    reduction
        ``sum`` over rows as CellPainTR's text prints, or ``mean`` over all rows, those without positives included,
        as its code has it.

    Raises
    ------
    SpecError
        If the reduction or temperature is none.
    """
    if reduction not in REDUCTIONS:
        raise SpecError(f"reduction is {reduction!r}, expected one of {', '.join(REDUCTIONS)}")
    if not temperature > 0:
        raise SpecError(f"temperature is {temperature}, expected more than 0")
    with torch.autocast(representations.device.type, enabled=False):
        rows = joint_rows(functional.normalize(precise(representations), dim=-1))
        labels = joint_rows(labels)
        others = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        positive = (labels[:, None] == labels) & others
        logits = rows @ rows.T / temperature
        # The least number and not minus infinity: a lone row would have nothing left to be normalised over.
        logits = logits.masked_fill(~others, torch.finfo(logits.dtype).min)
        chance = functional.log_softmax(logits, dim=1).masked_fill(~positive, 0)
        losses = -chance.sum(1) / positive.sum(1).clamp_min(1)
        return losses.sum() if reduction == "sum" else losses.mean()


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss of a stage: masked prediction, plus supervised contrast in stages 2 and 3 (equations 9 to 11).

    Parameters
    ----------
    grouped
        See :func:`morphobench.profilenets.masking.masked_loss`.
    contrast
        Weight of the contrastive loss (CellPainTR: 1); with 0, as in stage 1, it is not computed.
    temperature, reduction
        See :func:`supcon_loss`.
    """

    grouped: bool
    contrast: float
    temperature: float = 0.07
    reduction: str = "mean"

    def __call__(
        self,
        representations: Tensor,
        predicted: Tensor,
        values: Tensor,
        masked: Tensor,
        groups: Tensor,
        labels: Tensor,
    ) -> dict[str, Tensor]:
        """Return ``loss`` and its parts, ``masked`` and, if it has weight, ``contrast``.

        Parameters
        ----------
        representations
            (B, W).
        predicted, values
            (B, F).
        masked
            (B, F) bool, what was masked for training; not what is absent from the data.
        groups
            (F,) int64 codes of the features' groups.
        labels
            (B,) int64 codes.
        """
        parts = {"masked": masked_loss(predicted, values, masked, groups if self.grouped else None)}
        if not self.contrast:
            return {"loss": parts["masked"], **parts}
        contrast = supcon_loss(representations, labels, temperature=self.temperature, reduction=self.reduction)
        parts["contrast"] = contrast
        return {"loss": parts["masked"] + self.contrast * contrast, **parts}
