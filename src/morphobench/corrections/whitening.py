"""Whitening matrices in the low-rank form that few reference wells and many features need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Axes:
    """The principal axes of centred data.

    Attributes
    ----------
    values
        (r,) variances along the axes (ddof 0), falling, all above zero.
    vectors
        (D, r) orthonormal axes; along every direction orthogonal to them the variance is 0.
    """

    values: np.ndarray
    vectors: np.ndarray


def principal_axes(centred: np.ndarray) -> Axes:
    """Return the axes of (n, D) centred data by one eigendecomposition, of the smaller of its two Gram matrices.

    Eigenvalues up to max(n, D) times the float64 resolution of the largest count as zero (the convention of
    ``numpy.linalg.matrix_rank``, applied to eigenvalues).
    """
    n, columns = centred.shape
    if columns <= n:
        values, vectors = np.linalg.eigh(centred.T @ centred / n)
        keep = _nonzero(values, max(n, columns))
        return Axes(values[keep][::-1], vectors[:, keep][:, ::-1])
    values, left = np.linalg.eigh(centred @ centred.T / n)
    keep = _nonzero(values, max(n, columns))
    values, left = values[keep][::-1], left[:, keep][:, ::-1]
    return Axes(values, centred.T @ left / np.sqrt(n * values))


def _nonzero(values: np.ndarray, size: int) -> np.ndarray:
    return values > size * np.finfo(np.float64).eps * max(values.max(initial=0.0), 0.0)


def scale_along(rows: np.ndarray, vectors: np.ndarray, factors: np.ndarray, elsewhere: float) -> np.ndarray:
    """Return rows times V diag(factors) V' + elsewhere (I - V V'), without forming the (D, D) matrix."""
    return rows * elsewhere + ((rows @ vectors) * (factors - elsewhere)) @ vectors.T
