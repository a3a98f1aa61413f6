"""The arithmetic of the preprocessing steps, as functions on arrays; missing values pass through unchanged."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from morphobench.preprocessing.statistics import column_mad, column_median

MAD_TO_SIGMA = 1.4826


def median_and_mad(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return median and 1.4826 x median absolute deviation of each column, (D,) float64, of the finite values.

    A column without a finite value has NaN in both.
    """
    centre = column_median(reference)
    return centre, MAD_TO_SIGMA * column_mad(reference, centre)


def mad_normalise(values: np.ndarray, centre: np.ndarray, spread: np.ndarray, epsilon: float = 0.0) -> np.ndarray:
    """Return (x - median) / (1.4826 MAD + epsilon), float32 (CellPainTR, appendix C.3, item 2).

    Parameters
    ----------
    values
        (n, D) floats.
    centre, spread
        (D,) from :func:`median_and_mad` of the reference wells.
    epsilon
        Added to the spread; CellPainTR's model branch uses 1e-6. With 0 no spread may be 0.

    Raises
    ------
    ValueError
        If a divisor is 0 or undefined: the caller must drop those columns first.
    """
    divisor = spread + epsilon
    if not (divisor > 0).all():
        raise ValueError(f"column {int(np.flatnonzero(~(divisor > 0))[0])} has no spread to divide by")
    return _keep_missing(values, (values - centre) / divisor)


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks 1..n of each column's finite values, ties averaged, (n, D) float64; NaN where missing."""
    columns = np.where(np.isfinite(values), values, np.nan).T
    order = np.argsort(columns, axis=1)
    ordered = np.take_along_axis(columns, order, axis=1)
    ranks = np.broadcast_to(np.arange(1.0, len(values) + 1), ordered.shape)
    new = np.ones(ordered.shape, dtype=bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    if not new.all():
        index = np.arange(len(values))
        first = np.maximum.accumulate(np.where(new, index, 0), axis=1)
        last_of_run = np.ones(ordered.shape, dtype=bool)
        last_of_run[:, :-1] = new[:, 1:]
        last = np.minimum.accumulate(np.where(last_of_run, index, len(values))[:, ::-1], axis=1)[:, ::-1]
        ranks = (first + last) / 2 + 1
    result = np.empty(ordered.shape)
    np.put_along_axis(result, order, ranks, axis=1)
    result[np.isnan(columns)] = np.nan
    return result.T


def inverse_normal(values: np.ndarray, c: float = 0.375) -> np.ndarray:
    """Return the rank-based inverse normal transform of each column, float32 (CellPainTR, appendix C.3, item 3).

    The normal quantile of (r - c) / (N - 2c + 1), with r the average rank among the N finite values of the column;
    c = 3/8 is Blom's.
    """
    ranks = average_ranks(values)
    count = np.isfinite(values).sum(axis=0)
    return _keep_missing(values, ndtri((ranks - c) / (count - 2 * c + 1)))


def clip(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the values limited to [low, high], (D,) or (1,) each, float32."""
    return _keep_missing(values, np.clip(values, low, high))


def impute(values: np.ndarray, fill: np.ndarray, what: tuple[str, ...] = ("nan", "inf")) -> tuple[np.ndarray, int]:
    """Return the values with missing ones replaced by ``fill`` ((D,) or scalar), float32, and how many were.

    ``what`` names the kinds that are replaced: ``nan``, ``inf`` (of both signs).
    """
    missing = np.zeros(values.shape, dtype=bool)
    if "nan" in what:
        missing |= np.isnan(values)
    if "inf" in what:
        missing |= np.isinf(values)
    return np.where(missing, fill, values).astype(np.float32), int(missing.sum())


def low_variation(mean: np.ndarray, std: np.ndarray, threshold: float) -> np.ndarray:
    """Return which columns, (D,) bool, vary too little: |std / mean| < threshold, or constant, or all missing.

    CellPainTR, appendix C.3, item 1: the absolute coefficient of variation. ``std`` is the population's (ddof 0).
    A column of mean 0 that varies has an infinite coefficient and stays.
    """
    return ~(std > 0) | (std < threshold * np.abs(mean))


def correlated_features(
    correlation: np.ndarray, names: tuple[str, ...], threshold: float, *, absolute: bool = True
) -> dict[str, str]:
    """Return the features to drop, each with its reason, so that no pair correlates above the threshold.

    Of each pair above the threshold the feature with the larger mean absolute correlation to all features goes,
    ties (to 12 digits) by name. All pairs are judged at once, so the order of columns does not matter.

    Parameters
    ----------
    correlation
        (D, D) float64.
    names
        The D names.
    threshold
        A pair above it is redundant.
    absolute
        Whether r = -0.95 is above 0.9. With False the rule is that of ``pycytominer``'s ``correlation_threshold``,
        which compares the signed correlation.
    """
    strength = np.abs(correlation) if absolute else correlation.copy()
    np.fill_diagonal(strength, 0)
    mean = np.round(np.abs(correlation).mean(axis=1), 12)
    place = np.empty(len(names), dtype=np.int64)
    place[np.lexsort((np.array(names), mean))] = np.arange(len(names))
    stronger = np.where((strength > threshold) & (place[:, None] > place[None, :]), strength, -np.inf)
    partner = stronger.argmax(axis=1)
    best = stronger[np.arange(len(names)), partner]
    return {
        names[i]: f"correlation {correlation[i, partner[i]]:.3f} with {names[partner[i]]}"
        for i in np.flatnonzero(np.isfinite(best))
    }


def _keep_missing(values: np.ndarray, result: np.ndarray) -> np.ndarray:
    """Return ``result`` as float32 with the missing entries of ``values`` put back."""
    return np.where(np.isfinite(values), result, values).astype(np.float32)
