"""The losses of DINO, BYOL, Barlow Twins and CDCL, and the centres of a teacher's outputs.

All are computed in float32, over the joint mini-batch of all processes where rows depend on each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from morphobench.errors import DataError, SpecError
from morphobench.learning.joint import joint_rows, joint_sum, precise, processes, standardise

Pairs = Sequence[tuple[int, int]]


def view_pairs(views: int, *, same_image: bool = True) -> list[tuple[int, int]]:
    """Return the pairs (teacher view, student view) that are compared: all but a view with itself.

    Parameters
    ----------
    views
        Number of the student's views; the teacher sees the first two (DINO, Caron et al. 2021, section 3.1: 2 of 8
        views, 14 pairs).
    same_image
        Whether a crop from one image is compared with the global crop of the same image when the two global crops
        are from two images, the first half of the others being of the first. CDCL's authors keep these pairs.
    """
    image = [0, 1] + [int(k >= (views - 2) / 2) for k in range(views - 2)]
    every = [(t, s) for t in range(2) for s in range(views) if s != t]
    return [(t, s) for t, s in every if same_image or image[t] != image[s]]


def dino_loss(
    centred: Tensor, students: Tensor, pairs: Pairs, teacher_temperature: float, student_temperature: float
) -> Tensor:
    """Cross-entropy of student against teacher probabilities (DINO, Caron et al. 2021, equation 3).

    Parameters
    ----------
    centred
        (T, B, K) teacher logits, their centres subtracted.
    students
        (S, B, K) student logits.
    pairs
        (teacher view, student view) to compare.
    teacher_temperature, student_temperature
        Divisors of the logits.

    Returns
    -------
    Tensor
        Mean over pairs and this process's samples, in nats. DINO's sum of terms is this times the number of pairs;
        CDCL's code divides it by ln K.
    """
    with torch.autocast(students.device.type, enabled=False):
        targets = functional.softmax(precise(centred.detach()) / teacher_temperature, dim=-1)
        predicted = functional.log_softmax(precise(students) / student_temperature, dim=-1)
        terms = [-(targets[t] * predicted[s]).sum(-1).mean() for t, s in pairs]
        return torch.stack(terms).mean()


def byol_loss(predictions: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Squared distance of L2-normalised vectors in both directions (BYOL, Grill et al. 2020, equations 2 and 3).

    Parameters
    ----------
    predictions
        The online network's two (B, P) predictions, one a view.
    targets
        The target network's two (B, P) projections of the same views, which are compared crosswise.

    Returns
    -------
    Tensor
        Mean over this process's samples of the sum over directions of 2 - 2 cos.
    """
    with torch.autocast(predictions[0].device.type, enabled=False):
        cosines = [
            functional.cosine_similarity(precise(p), precise(z.detach()), dim=-1)
            for p, z in zip(predictions, reversed(targets), strict=True)
        ]
        return torch.stack([(2 - 2 * c).mean() for c in cosines]).sum()


def correlation_sums(xs: Sequence[Tensor], ys: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return sums over the cross-correlation matrix R of Barlow Twins (Zbontar et al. 2021, equations 1 and 2).

    R is the mean over P pairs of matrices: columns of each ``x`` and ``y`` are standardised over the joint
    mini-batch of B rows, and R_ij = sum of x_i y_j / (P B). The squares over all of R come from the (PB, PB) Gram
    matrices of the rows where there are fewer rows than columns, which is exact and never forms R.

    Parameters
    ----------
    xs, ys
        P tensors (B, K) each.

    Returns
    -------
    tuple of Tensor
        Sum over i of (1 - R_ii)^2, and sum over i != j of R_ij^2.

    Raises
    ------
    DataError
        If there is only one row to correlate.
    """
    if len(xs[0]) * processes() < 2:
        raise DataError("Barlow loss has a mini-batch of 1 sample, expected 2 or more to correlate features over")
    with torch.autocast(xs[0].device.type, enabled=False):
        x, y = (torch.cat([joint_rows(standardise(precise(part))) for part in parts]) for parts in (xs, ys))
        rows, columns = x.shape
        diagonal = (x * y).sum(0) / rows
        squares = (((x @ x.T) * (y @ y.T)) if rows < columns else (x.T @ y).square()).sum() / rows**2
        return (1 - diagonal).square().sum(), squares - diagonal.square().sum()


def barlow_loss(xs: Sequence[Tensor], ys: Sequence[Tensor], off_diagonal: float) -> Tensor:
    """Barlow loss as CDCL's code weighs it: means in place of sums, scaled to 1 for untrained networks.

    [(1 - a) mean (1 - R_ii)^2 + a mean R_ij^2] / [(1 - a) + 0.01 a]. The paper (CDCL, equation 3) prints the sums
    and does not give its weight; :func:`correlation_sums` has them.

    Parameters
    ----------
    xs, ys
        As for :func:`correlation_sums`. No gradient is stopped here.
    off_diagonal
        a, the share of the off-diagonal terms (CDCL's code: 0.95).
    """
    on, off = correlation_sums(xs, ys)
    columns = xs[0].shape[1]
    parts = (1 - off_diagonal) * on / columns + off_diagonal * off / (columns * max(columns - 1, 1))
    return parts / ((1 - off_diagonal) + 0.01 * off_diagonal)


class Centres(nn.Module):
    """Running means of a teacher's outputs: one vector (DINO), or one for each domain (CDCL, section 3.3).

    A step moves the centre of domain d towards the mean of that domain's outputs in the step by
    (1 - momentum) w_d, where w_d = (n_d / sum n) / (N_d / sum N) says how over-represented the domain is in the
    step (CDCL's code; the paper has the plain moving average). With one domain w is 1, which is DINO's centre.
    Domains that are absent from the step stay. A step never goes beyond the mean itself, which without that bound
    could happen where mini-batches are far smaller than published.

    Parameters
    ----------
    outputs
        Width K of the vectors.
    momentum
        Of the moving average (DINO, CDCL: 0.9).
    sizes
        N_d, training images of each domain; None for one centre whatever the domain.

    Attributes
    ----------
    values
        (D, K) float32 buffer, zero at first.
    """

    def __init__(self, outputs: int, momentum: float, sizes: Sequence[int] | np.ndarray | None = None) -> None:
        super().__init__()
        self.single = sizes is None
        counts = torch.ones(1) if sizes is None else torch.as_tensor(np.asarray(sizes), dtype=torch.float32)
        if counts.ndim != 1 or not len(counts) or counts.min() < 0 or counts.sum() == 0:
            raise SpecError(f"training images of each domain are {sizes}, expected counts of at least one domain")
        self.momentum = momentum
        self.register_buffer("share", counts / counts.sum())
        self.register_buffer("values", torch.zeros(len(counts), outputs))

    def forward(self, domains: Tensor) -> Tensor:
        """Return the (M, K) centres of (M,) domain codes."""
        return self.values[self._codes(domains)]

    @torch.no_grad()
    def update(self, outputs: Tensor, domains: Tensor) -> None:
        """Move the centres by one step.

        Parameters
        ----------
        outputs
            (M, K) teacher outputs of this process; all views of the step together.
        domains
            (M,) int64 codes of the domains they come from.
        """
        codes = self._codes(domains)
        member = (codes[:, None] == torch.arange(len(self.share), device=codes.device)).to(self.values.dtype)
        with torch.autocast(outputs.device.type, enabled=False):
            sums = joint_sum(member.T @ outputs.to(self.values.dtype))
        counts = joint_sum(member.sum(0))
        over = counts / counts.sum() / self.share.clamp_min(torch.finfo(torch.float32).tiny)
        pace = ((1 - self.momentum) * over).clamp_max(1)[:, None]
        mean = sums / counts.clamp_min(1)[:, None]
        # In place, so that the buffer keeps its identity for checkpoints and for DistributedDataParallel.
        self.values.add_(pace * (mean - self.values))

    def _codes(self, domains: Tensor) -> Tensor:
        if self.single:
            return torch.zeros_like(domains)
        # On an accelerator the look-up itself checks the range; asking here would make the host wait.
        if domains.device.type == "cpu" and len(domains):
            low, high = int(domains.min()), int(domains.max())
            if low < 0 or high >= len(self.share):
                raise DataError(f"domains {low} to {high}, expected codes 0 to {len(self.share) - 1}")
        return domains
