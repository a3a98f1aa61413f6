"""Statistics of feature columns that ignore missing values, of one plate at once or of many plates in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from scipy.linalg.blas import dsyrk
from scipy.sparse import csr_array

BYTE = 256
RESOLUTION = 1e-8  # a spread below this share of the mean is rounding: float32 resolves 6e-8


def column_quantiles(values: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return quantiles of each column by linear interpolation, ignoring values that are not finite.

    Parameters
    ----------
    values
        (n, D) floats.
    probabilities
        (Q,) values between 0 and 1.

    Returns
    -------
    np.ndarray
        (Q, D) float64; NaN for a column without a finite value. Equal to ``np.nanquantile(..., method="linear")``.
    """
    finite = np.isfinite(values)
    ordered = np.sort(np.where(finite, values, np.nan).T, axis=1)
    counts = finite.sum(axis=0)
    result = np.empty((len(probabilities), values.shape[1]))
    for row, probability in enumerate(probabilities):
        low, high, share = _positions(counts, probability)
        below, above = (
            np.take_along_axis(ordered, i[:, None], axis=1)[:, 0].astype(np.float64) for i in (low, high)
        )
        result[row] = below + share * (above - below)
    result[:, counts == 0] = np.nan
    return result


def _positions(counts: np.ndarray, probability: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the two order statistics around a quantile and the share of the way between them, by column."""
    position = probability * np.maximum(counts - 1, 0)
    low = np.floor(position).astype(np.int64)
    return low, np.minimum(low + 1, np.maximum(counts - 1, 0)), position - low


def column_median(values: np.ndarray) -> np.ndarray:
    """Return the median of each column, (D,) float64, ignoring values that are not finite."""
    return column_quantiles(values, np.array([0.5]))[0]


def column_mad(values: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the median absolute deviation of each column from ``centre``, (D,) float64, not rescaled."""
    with np.errstate(invalid="ignore"):
        return column_median(np.abs(values.astype(np.float64) - centre))


class Moments:
    """Count, mean and variance of each column over blocks of rows, merged as Chan, Golub and LeVeque (1983) do.

    Parameters
    ----------
    columns
        D, the number of columns.

    Attributes
    ----------
    count, mean, squares
        (D,) number of finite values, their mean, and the sum of their squared deviations from it.
    rows
        Number of rows seen, missing values included.
    """

    def __init__(self, columns: int):
        self.count = np.zeros(columns)
        self.mean = np.zeros(columns)
        self.squares = np.zeros(columns)
        self.rows = 0

    def update(self, values: np.ndarray) -> None:
        """Add a block, (n, D) floats."""
        self.rows += len(values)
        finite = np.isfinite(values)
        count = finite.sum(axis=0).astype(np.float64)
        clean = np.where(finite, values, 0).astype(np.float64)
        mean = clean.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(finite, clean - mean, 0) ** 2).sum(axis=0)
        total = self.count + count
        weight = np.divide(count, total, out=np.zeros_like(total), where=total > 0)
        shift = mean - self.mean
        self.squares += squares + shift**2 * self.count * weight
        self.mean += shift * weight
        self.count = total

    def std(self) -> np.ndarray:
        """Return the population standard deviation of each column (ddof 0); NaN where nothing is finite."""
        return np.sqrt(np.where(self.count > 0, self.squares / np.maximum(self.count, 1), np.nan))


class CrossProducts:
    """Pearson correlation of all pairs of columns over blocks of rows, each on the rows where both are finite.

    Values are shifted by the columns' means, so that sums of products lose no digits. Pairs with a column
    that has gaps need counts and sums of their own; as gaps are rare, it is what falls on the gaps that is summed,
    by sparse products.

    Parameters
    ----------
    moments
        Statistics of the same data from a first pass.
    """

    def __init__(self, moments: Moments):
        self.moments = moments
        columns = len(moments.mean)
        self.gapped = np.flatnonzero(moments.count < moments.rows)
        self.products = np.zeros((columns, columns), order="F")
        self.sums = np.zeros(columns)
        self.lost_count, self.lost_sum, self.lost_squares = (
            np.zeros((len(self.gapped), columns)) for _ in range(3)
        )

    def update(self, values: np.ndarray) -> None:
        """Add a block, (n, D) floats."""
        finite = np.isfinite(values)
        shifted = np.where(finite, values, 0).astype(np.float64)
        shifted -= self.moments.mean
        shifted[~finite] = 0
        self.products = dsyrk(1.0, shifted.T, beta=1.0, c=self.products, overwrite_c=True)
        self.sums += shifted.sum(axis=0)
        if len(self.gapped):
            gaps = csr_array((~finite[:, self.gapped]).T.astype(np.float64))
            self.lost_count += gaps @ finite.astype(np.float64)
            self.lost_sum += gaps @ shifted
            self.lost_squares += gaps @ shifted**2

    def correlation(self) -> np.ndarray:
        """Return the (D, D) float64 correlations; 0 where undefined (constant, or fewer than 2 shared rows)."""
        moments, gapped = self.moments, self.gapped
        products = np.triu(self.products)
        products += np.triu(products, 1).T
        squares = moments.squares + self.sums**2 / np.maximum(moments.count, 1)
        floor = (RESOLUTION * moments.mean) ** 2
        columns = len(moments.mean)
        where = np.full(columns, -1)
        where[gapped] = np.arange(len(gapped))
        for start in range(0, columns, BYTE):
            block = slice(start, min(start + BYTE, columns))
            size = block.stop - block.start
            count = np.repeat(moments.count[block, None], columns, axis=1)
            own = np.repeat(self.sums[block, None], columns, axis=1)
            own_squares = np.repeat(squares[block, None], columns, axis=1)
            other, other_squares = np.tile(self.sums, (size, 1)), np.tile(squares, (size, 1))
            if len(gapped):
                count[:, gapped] -= self.lost_count[:, block].T
                own[:, gapped] -= self.lost_sum[:, block].T
                own_squares[:, gapped] -= self.lost_squares[:, block].T
                rows = np.flatnonzero(where[block] >= 0)
                mine = where[block][rows]
                count[rows] = moments.count - self.lost_count[mine]
                other[rows] -= self.lost_sum[mine]
                other_squares[rows] -= self.lost_squares[mine]
            n = np.maximum(count, 1)
            covariance = products[block] - own * other / n
            variances = (own_squares - own**2 / n, other_squares - other**2 / n)
            defined = (count >= 2) & (variances[0] > n * floor[block, None]) & (variances[1] > n * floor)
            scale = np.sqrt(np.where(defined, variances[0] * variances[1], 1))
            products[block] = np.where(defined, covariance / scale, 0)
        return np.clip(products, -1, 1)


def stream_quantiles(
    blocks: Callable[[], Iterable[np.ndarray]], columns: int, probabilities: np.ndarray
) -> np.ndarray:
    """Return exact quantiles of each column of float32 data that is too large to hold.

    The order of float32 values is the order of their bits read as an integer (with the sign turned round), so four
    passes of histograms, one byte each, find every order statistic exactly; quantiles then interpolate linearly.

    Parameters
    ----------
    blocks
        Called once per pass (four times); yields the blocks, (n, D) float32, values that are not finite ignored.
    columns
        D.
    probabilities
        (Q,) values between 0 and 1.

    Returns
    -------
    np.ndarray
        (Q, D) float64, equal to ``np.nanquantile(..., method="linear")`` on all rows; NaN where nothing is finite.
    """
    counts, rank, prefix, shares = np.zeros(columns, np.int64), None, None, None
    targets = 2 * len(probabilities)
    for level in range(4):
        histogram = np.zeros((1 if level == 0 else targets, columns, BYTE), dtype=np.int64)
        for values in blocks():
            _count_bytes(values, level, prefix, histogram)
        if level == 0:
            counts = histogram[0].sum(axis=1)
            around = [_positions(counts, p) for p in probabilities]
            rank = np.stack([side for low, high, _ in around for side in (low, high)])
            shares = np.stack([share for _, _, share in around])
            prefix = np.zeros((targets, columns), dtype=np.uint32)
            histogram = np.broadcast_to(histogram, (targets, columns, BYTE))
        below = np.cumsum(histogram, axis=2)
        found = np.minimum((below <= rank[:, :, None]).sum(axis=2), BYTE - 1)
        before = np.take_along_axis(below, np.maximum(found - 1, 0)[:, :, None], axis=2)[:, :, 0]
        rank = rank - np.where(found > 0, before, 0)
        prefix = (prefix << np.uint32(8)) | found.astype(np.uint32)
    bits = np.where(prefix >> 31, prefix & np.uint32(0x7FFFFFFF), ~prefix)
    values = bits.astype(np.uint32).view(np.float32).astype(np.float64)
    values[:, counts == 0] = np.nan
    return values[0::2] + shares * (values[1::2] - values[0::2])


def _count_bytes(values: np.ndarray, level: int, prefix: np.ndarray | None, histogram: np.ndarray) -> None:
    """Add to ``histogram`` the next byte of the sortable bits of the values that share the prefix found."""
    columns = values.shape[1]
    finite = np.isfinite(values)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    keys = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    place = np.arange(columns) * BYTE + ((keys >> np.uint32(24 - 8 * level)) & np.uint32(255))
    for target in range(len(histogram)):
        chosen = finite if level == 0 else finite & ((keys >> np.uint32(32 - 8 * level)) == prefix[target])
        histogram[target] += np.bincount(place[chosen], minlength=columns * BYTE).reshape(columns, BYTE)
