"""What a metric is given and what it returns, and the intervals that all metrics share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from morphobench.errors import NotApplicable
from morphobench.metrics.neighbours import SPLITS
from morphobench.profiles import Profiles

if TYPE_CHECKING:
    from morphobench.metrics.neighbours import Graph, Neighbours

T = TypeVar("T")
RESAMPLED_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Score:
    """One value with its 95 % interval.

    Attributes
    ----------
    value
        The metric's value; NaN unless ``status`` is ``ok``.
    low, high
        Bounds of the interval; NaN where one unit leaves no spread to judge from.
    n
        Number of units the value is a mean or a count over.
    status
        ``ok`` or another status of the scores format.
    reason
        One sentence: why there is no value, or what was left out of it.
    draws
        The value on each resample or split; NaN where one leaves it undefined, empty if the metric keeps none.
        What is drawn must follow from the units, their labels and the seed alone, never from the features: then
        the draws of two embeddings are of the same resamples, and their differences are paired.
    """

    value: float
    low: float
    high: float
    n: int
    status: str = "ok"
    reason: str = ""
    draws: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything a metric may look at.

    Attributes
    ----------
    profiles
        The profiles to be judged.
    neighbours
        The neighbour graph of these profiles, shared by all metrics; None if no metric needs one.
    annotations
        Long table ``entity, set, collection``, or None.
    seed
        Seed of everything random.
    batch, label
        Metadata columns of the nuisance and of the biology.
    """

    profiles: Profiles
    neighbours: Neighbours | None
    annotations: pd.DataFrame | None
    seed: int
    batch: str = "Metadata_Batch"
    label: str = "Metadata_Perturbation"
    _shared: dict[Any, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Any, compute: Callable[[], T]) -> T:
        """Return ``compute()``, computed on the first call with this ``key`` and kept for later metrics."""
        if key not in self._shared:
            self._shared[key] = compute()
        return self._shared[key]

    def restricted(self, split: str) -> Evaluation:
        """Return the evaluation of one split's wells, as if there were no others.

        Every call returns the same object, so that what :meth:`once` keeps is shared among the metrics of a split
        and with no others.

        Parameters
        ----------
        split
            ``train``, ``val`` or ``test``. The rows are numbered as :meth:`rows` has them; annotations, seed and
            columns stay, and the neighbour graphs are those within the split.

        Raises
        ------
        NotApplicable
            If the split is empty.
        """

        def compute() -> Evaluation:
            profiles = self.profiles.rows(self.rows(split))
            graphs = self.neighbours
            within = None if graphs is None else graphs.within(split, profiles.features)
            return replace(self, profiles=profiles, neighbours=within, _shared={})

        return self.once(("restricted", split), compute)

    def column(self, name: str) -> np.ndarray:
        """Return a metadata column as an object array; NotApplicable if the profiles lack it."""
        if name not in self.profiles.metadata:
            raise NotApplicable(f"the profiles have no column {name}")
        return self.profiles.metadata[name].to_numpy(dtype=object)

    def order(self) -> np.ndarray:
        """Return the rows sorted by plate, well and site, so that splits do not depend on the file's row order."""
        keys = [c for c in ("Metadata_Plate", "Metadata_Well", "Metadata_Site") if c in self.profiles.metadata]
        return self.profiles.metadata[keys].astype(str).sort_values(keys, kind="stable").index.to_numpy()

    def rows(self, split: str | None) -> np.ndarray:
        """Return the rows of a split, all for None, in the file's order; NotApplicable if it is empty."""
        if split is None:
            return np.arange(len(self.profiles))
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {', '.join(SPLITS)}")
        rows = np.flatnonzero(self.column("Metadata_Split") == split)
        if not len(rows):
            raise NotApplicable(f"the {split} split is empty")
        return rows

    def graph(self, space: str, k: int, split: str | None = None) -> Graph:
        """Return the first ``k`` neighbours (self excluded) in ``space``; NotApplicable if wells are too few.

        With a ``split`` the rows and their neighbours are those of the split alone, numbered as :meth:`rows` has
        them.
        """
        n = len(self.rows(split))
        if n <= k:
            where = f" of the {split} split" if split else ""
            raise NotApplicable(f"{n} wells{where} are too few for {k} neighbours of each")
        if self.neighbours is None:
            raise ValueError("the evaluation was given no neighbour graph")
        return self.neighbours.first(space, k, split)


def codes_of(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 codes by first appearance, and the distinct values in that order."""
    codes, names = pd.factorize(values)
    return codes.astype(np.int64), np.asarray(names, dtype=object)


def bootstrap_mean(
    values: np.ndarray, seed: int, groups: np.ndarray | None = None, n: int = 1000
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a mean.

    Parameters
    ----------
    values
        (N,) finite numbers.
    seed
        Seed of the resampling.
    groups
        (N,) labels of the units that are resampled whole (wells of one perturbation are not independent); None
        resamples the values themselves. The statistic stays the mean over values.
    n
        Number of resamples.

    Returns
    -------
    low, high
        NaN, NaN with fewer than two units.
    """
    values = np.asarray(values, dtype=np.float64)
    sums, counts = values, np.ones_like(values)
    if groups is not None:
        codes, _ = codes_of(np.asarray(groups))
        sums, counts = np.bincount(codes, values), np.bincount(codes).astype(np.float64)
    if len(sums) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = np.empty(n)
    step = max(1, RESAMPLED_AT_ONCE // len(sums))
    for start in range(0, n, step):
        drawn = rng.integers(0, len(sums), (min(step, n - start), len(sums)))
        means[start : start + len(drawn)] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def mean_score(values: np.ndarray, seed: int, groups: np.ndarray | None = None, reason: str = "") -> Score:
    """Return the mean of ``values`` with its bootstrap interval; ``n`` is the number of values."""
    low, high = bootstrap_mean(values, seed, groups)
    return Score(float(np.mean(values)), low, high, len(values), reason=reason)


def jackknife_interval(
    statistic: Callable[[np.ndarray], float],
    n: int,
    seed: int,
    groups: int = 20,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[float, float]:
    """Return value +- 1.96 standard errors of the delete-a-group jackknife, clipped to ``bounds``.

    For statistics that a bootstrap biases because it repeats units: agreement of two partitions (NMI, ARI)
    grows when the same well is counted twice.

    Parameters
    ----------
    statistic
        Function of an integer index array, the units kept.
    n
        Number of units; they are dealt at random into ``groups`` groups (at most ``n``), each left out once.
    seed
        Seed of the deal.
    bounds
        Range of the statistic.
    """
    groups = min(groups, n)
    if groups < 2:
        return float("nan"), float("nan")
    deal = np.random.default_rng(seed).permutation(n) % groups
    left = np.array([statistic(np.flatnonzero(deal != g)) for g in range(groups)])
    error = np.sqrt((groups - 1) / groups * np.square(left - left.mean()).sum())
    value = statistic(np.arange(n))
    return float(max(value - 1.96 * error, bounds[0])), float(min(value + 1.96 * error, bounds[1]))
