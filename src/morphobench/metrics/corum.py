"""Recovery of protein complexes from gene similarities (mcVAE, Figure 2): precision, recall, average precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from morphobench.errors import NotApplicable
from morphobench.metrics.average_precision import ranked_average_precision, unit_rows
from morphobench.metrics.evaluation import Evaluation, Score
from morphobench.metrics.genes import gene_profiles, sets_of

PERCENTILES = tuple(range(80, 100))


@dataclass(frozen=True)
class RankedPairs:
    """All unordered gene pairs, by rising cosine distance.

    Attributes
    ----------
    first, second
        (P,) gene indices of each pair.
    distance
        (P,) float64, sorted.
    related
        (P,) bool, whether the two share a complex.
    n
        Number of genes.
    left
        Number of annotated genes without a partner, left out.
    """

    first: np.ndarray
    second: np.ndarray
    distance: np.ndarray
    related: np.ndarray
    n: int
    left: int = 0


def rank_pairs(features: np.ndarray, related: np.ndarray, left: int = 0) -> RankedPairs:
    """Rank the pairs of genes by cosine distance.

    Parameters
    ----------
    features
        (G, D) numbers.
    related
        (G, G) symmetric bool.
    """
    n = len(features)
    first, second = np.triu_indices(n, 1)
    data = unit_rows(features)
    distance = np.clip(1 - (data @ data.T)[first, second], 0, 2)
    # The grid of the average precision: equal profiles tie although their products differ in the last bit.
    distance = np.rint(distance * (1 << 29)) / (1 << 29)
    order = np.argsort(distance, kind="stable")
    first, second = first[order].astype(np.int32), second[order].astype(np.int32)
    return RankedPairs(first, second, distance[order], related[first, second], n, left)


def _threshold(pairs: RankedPairs, cumulated: np.ndarray, selves: float, q: float) -> float:
    """Return the ``q``-th percentile (linear interpolation) of the whole square matrix, selves at distance 0."""
    total = selves + 2 * cumulated[-1]
    # numpy's own order of operations: a threshold that falls on a pair must include it here as there.
    place = (total - 1) * (q / 100)
    values = []
    for rank in (np.floor(place), np.ceil(place)):
        k = np.searchsorted(cumulated, (rank - selves) / 2, side="right") if rank >= selves else -1
        values.append(0.0 if k < 0 else pairs.distance[min(k, len(cumulated) - 1)])
    low, high = values
    share = place - np.floor(place)
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)


def two_sided_curve(
    pairs: RankedPairs, weights: np.ndarray, percentiles=PERCENTILES
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision at each percentile.

    A pair is predicted if its distance is at most the (100 - p)-th or at least the p-th percentile of all entries
    of the distance matrix, self-distances included (the authors' code; the text names the closest pairs only).

    Parameters
    ----------
    pairs
        The ranked pairs.
    weights
        (G,) how often each gene is drawn; ones for the value itself. A gene and its own copy are no pair.
    """
    w = weights[pairs.first] * weights[pairs.second]
    cumulated, hits = np.cumsum(w), np.cumsum(w * pairs.related)
    recall, precision = np.empty(len(percentiles)), np.empty(len(percentiles))
    padded = np.concatenate([[0.0], cumulated]), np.concatenate([[0.0], hits])
    for i, p in enumerate(percentiles):
        low, high = (_threshold(pairs, cumulated, weights.sum(), q) for q in (100 - p, p))
        near = np.searchsorted(pairs.distance, low, side="right")
        far = max(np.searchsorted(pairs.distance, high, side="left"), near)
        predicted, found = (c[near] + c[-1] - c[far] for c in padded)
        recall[i] = found / hits[-1] if hits[-1] else np.nan
        precision[i] = found / predicted if predicted else np.nan
    return recall, precision


def partial_area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Return the trapezoidal area under precision over recall between the outermost points; recall falls."""
    return float(np.trapezoid(precision[::-1], recall[::-1]))


def precision_at(recall: np.ndarray, precision: np.ndarray, wanted: float) -> float:
    """Return precision interpolated linearly at a recall; NaN outside the curve. Recall falls."""
    return float(np.interp(wanted, recall[::-1], precision[::-1], left=np.nan, right=np.nan))


def pair_average_precision(pairs: RankedPairs) -> float:
    """Return the average precision of all unordered pairs, expected over random orders of ties."""
    return float(ranked_average_precision(1 - pairs.distance[None], pairs.related[None])[0])


def weighted_average_precision(pairs: RankedPairs, weights: np.ndarray) -> float:
    """Return the average precision with drawn genes, as scikit-learn weighs samples."""
    w = weights[pairs.first] * weights[pairs.second]
    hit = w * pairs.related
    cumulated, hits = np.cumsum(w), np.cumsum(hit)
    return float((hit * hits / np.maximum(cumulated, 1)).sum() / hits[-1]) if hits[-1] else np.nan


def corum_pairs(evaluation: Evaluation, collection: str = "corum") -> RankedPairs:
    """Return the ranked pairs of the genes that share a complex with another screened gene, computed once.

    Each dimension is z-scored over all genes of the profiles before genes are chosen (authors' code).
    """

    def compute() -> RankedPairs:
        names, features = gene_profiles(evaluation)
        genes, sets, _ = sets_of(evaluation, collection, names)
        shared = np.bincount(sets)[sets] > 1
        chosen = np.unique(genes[shared])
        if len(chosen) < 3:
            raise NotApplicable(
                f"{len(chosen)} genes share a set of collection {collection}; at least 3 are needed"
            )
        deviation = features.std(axis=0)
        scaled = (features - features.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
        member = np.zeros((len(names), sets.max() + 1), dtype=np.float32)
        member[genes, sets] = 1
        member = member[chosen]
        left = len(np.unique(genes)) - len(chosen)
        pairs = rank_pairs(scaled[chosen], member @ member.T > 0, left)
        if pairs.related.all():
            raise NotApplicable(
                f"all {len(chosen)} genes share sets of collection {collection}; no pair is unrelated"
            )
        return pairs

    return evaluation.once(("corum", collection), compute)


def _resampled(evaluation: Evaluation, collection: str, resamples: int) -> dict[str, np.ndarray]:
    """Return recall and precision curves and average precision of resampled genes, computed once.

    Which genes are drawn depends on their number and the seed, not on the features: embeddings of the same genes
    are resampled alike.
    """

    def compute() -> dict[str, np.ndarray]:
        pairs = corum_pairs(evaluation, collection)
        rng = np.random.default_rng(evaluation.seed)
        recall, precision = np.empty((2, resamples, len(PERCENTILES)))
        average = np.empty(resamples)
        for b in range(resamples):
            drawn = rng.integers(0, pairs.n, pairs.n)
            weights = np.bincount(drawn, minlength=pairs.n).astype(np.float64)
            recall[b], precision[b] = two_sided_curve(pairs, weights)
            average[b] = weighted_average_precision(pairs, weights)
        return {"recall": recall, "precision": precision, "average": average}

    return evaluation.once(("corum resampled", collection, resamples), compute)


def _score(value: float, draws: np.ndarray, pairs: RankedPairs) -> Score:
    """Return a value with the 95 % percentile interval of its draws; NaN, NaN with fewer than two defined."""
    defined = draws[~np.isnan(draws)]
    low, high = np.percentile(defined, [2.5, 97.5]) if len(defined) > 1 else (np.nan, np.nan)
    left = f"{pairs.left} annotated genes left out: no other screened gene in their complexes"
    reason = left if pairs.left else ""
    return Score(float(value), float(low), float(high), pairs.n, reason=reason, draws=tuple(draws.tolist()))


def corum_curve(
    evaluation: Evaluation, part: str, collection: str = "corum", resamples: int = 200
) -> dict[str, Score]:
    """Recall or precision of shared complexes at percentiles 80 to 99 (mcVAE, Figure 2), intervals over genes.

    Parameters
    ----------
    evaluation
        Needs the annotations.
    part
        ``"recall"`` or ``"precision"``.
    collection
        Which gene sets.
    resamples
        Bootstrap resamples of genes, shared by all metrics on the collection.

    Returns
    -------
    dict
        Keys ``"80"`` to ``"99"``.
    """
    pairs = corum_pairs(evaluation, collection)
    recall, precision = two_sided_curve(pairs, np.ones(pairs.n))
    values = {"recall": recall, "precision": precision}[part]
    drawn = _resampled(evaluation, collection, resamples)[part]
    return {str(p): _score(values[i], drawn[:, i], pairs) for i, p in enumerate(PERCENTILES)}


def corum_auprc(evaluation: Evaluation, collection: str = "corum", resamples: int = 200) -> Score:
    """Trapezoidal area under precision over recall, percentiles 80 to 99 only."""
    pairs = corum_pairs(evaluation, collection)
    value = partial_area(*two_sided_curve(pairs, np.ones(pairs.n)))
    drawn = _resampled(evaluation, collection, resamples)
    areas = np.array([partial_area(r, p) for r, p in zip(drawn["recall"], drawn["precision"], strict=True)])
    return _score(value, areas, pairs)


def corum_precision_at(
    evaluation: Evaluation, recalls: list[float], collection: str = "corum", resamples: int = 200
) -> dict[str, Score]:
    """Precision interpolated at given recalls on the curve of percentiles 80 to 99; keys such as ``"0.20"``."""
    pairs = corum_pairs(evaluation, collection)
    curve = two_sided_curve(pairs, np.ones(pairs.n))
    drawn = _resampled(evaluation, collection, resamples)
    scores = {}
    for wanted in recalls:
        value = precision_at(*curve, wanted)
        at = [precision_at(r, p, wanted) for r, p in zip(drawn["recall"], drawn["precision"], strict=True)]
        if np.isnan(value):
            span = f"{np.nanmin(curve[0]):.3f} to {np.nanmax(curve[0]):.3f}"
            reason = f"the curve spans recalls {span} and does not reach {wanted:.2f}"
            scores[f"{wanted:.2f}"] = Score(value, value, value, pairs.n, "not_applicable", reason)
        else:
            scores[f"{wanted:.2f}"] = _score(value, np.array(at), pairs)
    return scores


def corum_average_precision(evaluation: Evaluation, collection: str = "corum", resamples: int = 200) -> Score:
    """Average precision of all unordered pairs ranked by cosine similarity, tie-aware; interval over genes."""
    pairs = corum_pairs(evaluation, collection)
    drawn = _resampled(evaluation, collection, resamples)["average"]
    return _score(pair_average_precision(pairs), drawn, pairs)
