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


def _batches(evaluation: Evaluation) -> np.ndarray:
    codes, names = codes_of(evaluation.column(evaluation.batch))
    if len(names) < 2:
        raise NotApplicable(f"there is one batch only ({names[0]}); nothing to mix")
    return codes


def _score(evaluation: Evaluation, p: np.ndarray, alpha: float) -> Score:
    """Return the accepted share; wells of a plate are resampled together when there are several plates."""
    plates = evaluation.column("Metadata_Plate")
    several = len(np.unique(plates.astype(str))) > 1
    return mean_score((p >= alpha).astype(float), evaluation.seed, groups=plates if several else None)


def kbet(evaluation: Evaluation, fraction: float = 0.005, alpha: float = 0.05) -> Score:
    """k-BET acceptance rate as CDCL's appendix E.1 defines it.

    Neighbours are ``int(fraction N)``, at least 2, the well itself excluded. The paper does not state the
    distance: Euclidean on the features is used. The authors' code counts one neighbour fewer than it expects; this
    does not.
    """
    batches = _batches(evaluation)
    graph = evaluation.graph("euclidean", fraction_of(fraction, len(batches)))
    return _score(evaluation, kbet_p_values(graph.indices, batches), alpha)


def kbet_scib(evaluation: Evaluation, k: int = 50, alpha: float = 0.05) -> Score:
    """k-BET acceptance rate as scib-metrics computes it: ``k`` neighbours, the well itself among them."""
    batches = _batches(evaluation)
    indices = evaluation.graph("euclidean", k - 1).indices
    with_self = np.column_stack([np.arange(len(batches), dtype=indices.dtype), indices])
    return _score(evaluation, kbet_p_values(with_self, batches), alpha)
