"""k-BET: how often the batches among a well's neighbours are those expected by chance."""

from __future__ import annotations

import numpy as np
from scipy.special import chdtrc

from morphobench.errors import NotApplicable
from morphobench.metrics.evaluation import Evaluation, Score, codes_of, mean_score
from morphobench.metrics.neighbours import fraction_of


def kbet_p_values(neighbours: np.ndarray, batches: np.ndarray) -> np.ndarray:
    """Return each row's chi-square p-value of its neighbours' batch counts against the global frequencies.

    Parameters
    ----------
    neighbours
        (N, K) row indices.
    batches
        (N,) codes 0..B-1, each used, B >= 2; B - 1 degrees of freedom.
    """
    n, k = neighbours.shape
    count = batches.max() + 1
    flat = batches[neighbours] + np.arange(n)[:, None] * count
    observed = np.bincount(flat.ravel(), minlength=n * count).reshape(n, count)
    expected = np.bincount(batches) / n * k
    statistic = (np.square(observed - expected) / expected).sum(axis=1)
    return chdtrc(count - 1, statistic)


def _batches(evaluation: Evaluation, split: str | None = None) -> np.ndarray:
    codes, names = codes_of(evaluation.column(evaluation.batch)[evaluation.rows(split)])
    if len(names) < 2:
        where = f" in the {split} split" if split else ""
        raise NotApplicable(f"there is one batch only{where} ({names[0]}); nothing to mix")
    return codes


def _score(evaluation: Evaluation, p: np.ndarray, alpha: float, split: str | None = None) -> Score:
    """Return the accepted share; wells of a plate are resampled together when there are several plates."""
    plates = evaluation.column("Metadata_Plate")[evaluation.rows(split)]
    several = len(np.unique(plates.astype(str))) > 1
    return mean_score((p >= alpha).astype(float), evaluation.seed, groups=plates if several else None)


def kbet(
    evaluation: Evaluation,
    fraction: float = 0.005,
    alpha: float = 0.05,
    split: str | None = None,
    at_least: int = 2,
) -> Score:
    """k-BET acceptance rate as CDCL's appendix E.1 defines it.

    Neighbours are ``int(fraction N)``, at least ``at_least``, the well itself excluded. The paper does not state
    the distance: Euclidean on the features is used. The authors' code counts one neighbour fewer than it expects;
    this does not.

    Parameters
    ----------
    evaluation
        Needs the neighbours, within the split if one is named, and two batches there.
    fraction
        Neighbours as a share of the wells.
    alpha
        Level of the test.
    split
        ``train``, ``val`` or ``test`` (CDCL's Table 4): the wells of that split stand for all, as neighbours and
        in the global frequencies; None for all wells.
    at_least
        Least number of neighbours. Few neighbours cannot contradict the frequencies: of two equal batches, less
        than four neighbours are accepted wherever they lie (the statistic is at most their number).
    """
    batches = _batches(evaluation, split)
    graph = evaluation.graph("euclidean", fraction_of(fraction, len(batches), at_least), split)
    return _score(evaluation, kbet_p_values(graph.indices, batches), alpha, split)


def kbet_scib(evaluation: Evaluation, k: int = 50, alpha: float = 0.05) -> Score:
    """k-BET acceptance rate as scib-metrics computes it: ``k`` neighbours, the well itself among them."""
    batches = _batches(evaluation)
    indices = evaluation.graph("euclidean", k - 1).indices
    with_self = np.column_stack([np.arange(len(batches), dtype=indices.dtype), indices])
    return _score(evaluation, kbet_p_values(with_self, batches), alpha)
