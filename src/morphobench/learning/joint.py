"""The joint mini-batch: statistics over all processes of a run, through which gradients flow.

With one process, or none initialised, everything here is the plain computation. With several, each process holds
an equal part of the mini-batch, and every function returns what one process with the joined mini-batch would.
Backward passes add up the gradients of all processes' losses, so that the average over processes that
``DistributedDataParallel`` takes afterwards is the gradient of the mean loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def processes() -> int:
    """Return how many processes share the mini-batch."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


class _Sum(torch.autograd.Function):
    """All-reduce whose backward pass is an all-reduce."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


class _Rows(torch.autograd.Function):
    """All-gather along the first axis; backward, each process gets its rows of the summed gradient."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        ctx.rows = len(part)
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(processes())]
        dist.all_gather(parts, part.detach().contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = _Sum.forward(ctx, gradient)
        return total[rank() * ctx.rows : (rank() + 1) * ctx.rows]


def precise(x: Tensor) -> Tensor:
    """Return a tensor in float32 at least: halves are converted, doubles stay."""
    return x if x.dtype == torch.float64 else x.float()


def joint_sum(part: Tensor) -> Tensor:
    """Return the sum of a tensor over processes."""
    return _Sum.apply(part) if processes() > 1 else part


def joint_rows(part: Tensor) -> Tensor:
    """Return the rows (first axis) of all processes, in the order of their ranks; equally many on each."""
    return _Rows.apply(part) if processes() > 1 else part


def joint_moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return mean and population variance of the columns over the joint mini-batch, and its number of rows.

    Parameters
    ----------
    x
        (B, K), the same B on every process.
    """
    rows = len(x) * processes()
    mean = joint_sum(x.sum(0)) / rows
    return mean, joint_sum((x - mean).square().sum(0)) / rows, rows


def standardise(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Return columns of mean 0 and variance 1 over the joint mini-batch: batch normalisation without parameters.

    Parameters
    ----------
    x
        (B, K), the same B on every process.
    eps
        Added to the variance; the default is that of ``torch.nn.BatchNorm1d``.
    """
    mean, variance, _ = joint_moments(x)
    return (x - mean) * torch.rsqrt(variance + eps)


class JointBatchNorm1d(nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` whose statistics are of the joint mini-batch.

    ``torch.nn.SyncBatchNorm`` does the same on accelerators only; this one works on any device, and equals
    ``BatchNorm1d`` where there is one process.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, K) features."""
        if not self.training or processes() == 1:
            return super().forward(x)
        mean, variance, rows = joint_moments(precise(x))
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * rows / (rows - 1), self.momentum)
        normalised = (precise(x) - mean) * torch.rsqrt(variance + self.eps)
        return (normalised * self.weight + self.bias).to(x.dtype)
