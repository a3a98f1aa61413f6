"""The planted truth that all simulated profile screens share: mechanisms with directions, potencies, loadings."""

from __future__ import annotations

import numpy as np

# Share of an entity's effect that it has in common with its mechanism (squared: share of the variance).
SHARED = 0.9


def unit_rows(rng: np.random.Generator, n: int, dimensions: int) -> np.ndarray:
    """Return ``n`` random directions, (n, dimensions), each of root mean square 1."""
    rows = rng.standard_normal((n, dimensions))
    return rows / np.sqrt((rows**2).mean(axis=1, keepdims=True))


def effects(
    rng: np.random.Generator, groups: np.ndarray, potency: np.ndarray, dimensions: int, shared: float = SHARED
) -> np.ndarray:
    """Return one effect a row: the direction of its group, some of its own, times its potency.

    Parameters
    ----------
    rng
        Source of randomness.
    groups
        (n,) group of each entity, integers from 0.
    potency
        (n,) factor of each entity.
    dimensions
        Number of phenotype dimensions.
    shared
        Cosine, about, between an entity's effect and its group's direction.

    Returns
    -------
    numpy.ndarray
        (n, dimensions), root mean square of a row about its potency.
    """
    directions = unit_rows(rng, int(groups.max()) + 1, dimensions)
    own = unit_rows(rng, len(groups), dimensions)
    return potency[:, None] * (shared * directions[groups] + np.sqrt(1 - shared**2) * own)


def loadings(rng: np.random.Generator, stems: np.ndarray, dimensions: int, spread: float) -> np.ndarray:
    """Return (dimensions, D) loadings in which features of one stem are nearly the same.

    Parameters
    ----------
    rng
        Source of randomness.
    stems
        (D,) stem of each feature, integers from 0; features of a stem differ by an angle or a scale only.
    dimensions
        Number of hidden dimensions.
    spread
        How far the features of a stem differ, relative to the loading.
    """
    common = rng.standard_normal((dimensions, int(stems.max()) + 1))[:, stems]
    own = rng.standard_normal((dimensions, len(stems)))
    return (common + spread * own) / np.sqrt(dimensions * (1 + spread**2))


def robustise(values: np.ndarray) -> np.ndarray:
    """Return values minus their median, divided by their scaled median absolute deviation, by column."""
    centre = np.median(values, axis=0)
    spread = 1.4826 * np.median(np.abs(values - centre), axis=0)
    return (values - centre) / (spread + 1e-6)
