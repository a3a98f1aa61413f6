"""Schedules: arrays with one value for each optimiser step."""

from __future__ import annotations

import numpy as np

from morphobench.errors import SpecError


def value_at(schedule: np.ndarray, step: int) -> float:
    """Return a schedule's value at a step; after its end the last value holds."""
    return float(schedule[min(step, len(schedule) - 1)])


def cosine(start: float, end: float, steps: int) -> np.ndarray:
    """Return half a cosine from ``start`` at step 0 towards ``end``, which step ``steps`` would reach.

    The teacher's momentum and the weight decay in DINO (Caron et al. 2021) and in CDCL's code follow it.

    Returns
    -------
    ndarray
        (steps,) float64.
    """
    return end + (start - end) / 2 * (1 + np.cos(np.pi * np.arange(_checked(steps)) / steps))


def warmup_cosine(peak: float, floor: float, steps: int, warmup: int) -> np.ndarray:
    """Return a learning rate that rises linearly from ``floor`` to ``peak``, then falls back as a cosine.

    Parameters
    ----------
    peak
        Value at step ``warmup``.
    floor
        Value at step 0, and where the cosine ends; if there is no warm-up the schedule starts at ``peak``.
    steps
        Number of steps in all.
    warmup
        How many of them the rise takes (CDCL, appendix B: 1,000; the authors' committed run: 10 epochs).

    Raises
    ------
    SpecError
        If the warm-up is not shorter than the training.
    """
    if not 0 <= warmup < _checked(steps):
        raise SpecError(f"learning rate warms up for {warmup} steps, expected fewer than the {steps} of training")
    return np.concatenate([np.linspace(floor, peak, warmup, endpoint=False), cosine(peak, floor, steps - warmup)])


def cosine_restarts(start: float, end: float, period: int, steps: int) -> np.ndarray:
    """Return a cosine from ``start`` towards ``end`` that starts again after each ``period`` steps."""
    return np.resize(cosine(start, end, period), _checked(steps))


def temperature(start: float, end: float, warmup_epochs: int, epochs: int, steps_per_epoch: int) -> np.ndarray:
    """Return the teacher's temperature: constant in an epoch, rising linearly, then constant.

    Parameters
    ----------
    start, end
        In the first epoch, and from the last warm-up epoch on (DINO, Caron et al. 2021; CDCL: 0.04 and 0.07).
    warmup_epochs
        Number of epochs of the rise, both ends included (CDCL's code: 10); with 0 or 1 of them ``end`` holds
        throughout.
    epochs, steps_per_epoch
        Length of training, which may be shorter than the rise.
    """
    rise = np.linspace(start, end, warmup_epochs) if warmup_epochs > 1 else np.array([end])
    by_epoch = rise[np.minimum(np.arange(_checked(epochs)), len(rise) - 1)]
    return np.repeat(by_epoch.astype(np.float64), _checked(steps_per_epoch))


def _checked(steps: int) -> int:
    if steps < 1:
        raise SpecError(f"training has {steps} steps or epochs, expected 1 or more")
    return steps
