"""Mean average precision, exact and tie-aware, over blocks of queries of bounded memory.

Profiles of equal similarity have no order. The average precision here is its expectation over all orders of the
ties, in closed form, so that a collapsed embedding scores at chance; sorting positives first would give it 1.
"""

from __future__ import annotations

import numpy as np

from morphobench.errors import NotApplicable
from morphobench.metrics.evaluation import Evaluation, Score, codes_of, mean_score

# Similarities are compared on a grid of 2**-29: equal profiles tie although their products differ in the last bit.
GRID = float(1 << 29)
NO_CANDIDATE = np.int32(np.iinfo(np.int32).max - 1)
MEMORY_MB = 256.0


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Return the rows as float64 of length 1; a row of zeros stays zero."""
    data = np.asarray(features, dtype=np.float64)
    norm = np.linalg.norm(data, axis=1, keepdims=True)
    return data / np.where(norm > 0, norm, 1)


def ranked_average_precision(
    similarity: np.ndarray, positive: np.ndarray, candidate: np.ndarray | None = None
) -> np.ndarray:
    """Return the expected average precision of each query over random orders of its ties.

    In a group of n tied candidates with r positives, after N candidates with R positives, the expected
    contribution of the group is the sum over i = 1..n of (r/n) (R + 1 + (i - 1)(r - 1)/(n - 1))/(N + i).

    Parameters
    ----------
    similarity
        (Q, C) float64 in [-1, 1].
    positive
        (Q, C) bool; a subset of ``candidate``.
    candidate
        (Q, C) bool, who is ranked at all; None for everybody.

    Returns
    -------
    numpy.ndarray
        (Q,) float64; NaN where a query has no positive.
    """
    key = np.rint(similarity * -GRID).astype(np.int32)
    key <<= 1
    key |= positive
    if candidate is not None:
        key[~candidate] = NO_CANDIDATE
    # One sort orders by falling similarity and, within a tie, puts negatives (low bit 0) before positives.
    key.sort(axis=1)
    mixed = np.any((key[:, 1:] ^ key[:, :-1]) == 1, axis=1)
    result = np.full(len(key), np.nan)
    plain = np.flatnonzero(~mixed)
    rows, ranks = np.nonzero(key[plain] & 1)
    counts = np.bincount(rows, minlength=len(plain))
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    total = np.bincount(rows, nth / (ranks + 1), minlength=len(plain))
    result[plain] = np.divide(total, counts, out=np.full(len(plain), np.nan), where=counts > 0)
    for row in np.flatnonzero(mixed):
        result[row] = tied_average_precision(key[row])
    return result


def tied_average_precision(key: np.ndarray) -> float:
    """Return the expected average precision of one sorted key row (see :func:`ranked_average_precision`)."""
    value, hit = key >> 1, (key & 1).astype(np.float64)
    starts = np.flatnonzero(np.concatenate([[True], value[1:] != value[:-1]]))
    size = np.diff(np.append(starts, len(key)))
    r = np.add.reduceat(hit, starts)
    before = np.cumsum(r) - r
    used = r > 0
    starts, size, r, before = starts[used], size[used], r[used], before[used]
    slope = (r - 1) / np.maximum(size - 1, 1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, len(key) + 1))])
    share = harmonic[starts + size] - harmonic[starts]
    # Sum over i of (R + 1 + (i - 1) slope)/(N + i), with i - 1 = (N + i) - (N + 1).
    sums = (before + 1 - slope * (starts + 1)) * share + slope * size
    return float((r / size * sums).sum() / hit.sum())


def self_matching_average_precision(
    features: np.ndarray, codes: np.ndarray, query: np.ndarray, candidate: np.ndarray, memory_mb: float = MEMORY_MB
) -> np.ndarray:
    """Return the average precision of each query among all candidates, the query itself included.

    Parameters
    ----------
    features
        (N, D) numbers; cosine similarity.
    codes
        (N,) labels; positives share the query's, and the query is its own first positive.
    query, candidate
        (N,) bool.
    memory_mb
        Bound of the temporary memory in MiB beyond float64 copies of the features.
    """
    data = unit_rows(features)
    rows, others = np.flatnonzero(query), np.flatnonzero(candidate)
    result = np.empty(len(rows))
    step = int(max(1, memory_mb * 2**20 / (len(others) * 24)))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        similarity = data[part] @ data[others].T
        result[start : start + step] = ranked_average_precision(similarity, codes[part, None] == codes[others])
    return result


def _mates(codes: np.ndarray, query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each row, its label's query rows padded to the longest (N, P), and which entries are mates."""
    rows = np.flatnonzero(query)
    order = rows[np.argsort(codes[rows], kind="stable")]
    counts = np.bincount(codes[rows], minlength=codes.max() + 1)
    slot = np.arange(counts.max())
    starts = np.cumsum(counts) - counts
    table = order[np.minimum(starts[:, None] + slot, len(order) - 1)]
    present = slot < counts[:, None]
    members = table[codes]
    return members, present[codes] & (members != np.arange(len(codes))[:, None])


def replicate_average_precision(
    features: np.ndarray,
    codes: np.ndarray,
    plates: np.ndarray,
    query: np.ndarray,
    negative: np.ndarray,
    memory_mb: float = MEMORY_MB,
) -> np.ndarray:
    """Return the average precision of replicates against negatives of the query's plate (copairs' protocol).

    Parameters
    ----------
    features
        (N, D) numbers; cosine similarity.
    codes, plates
        (N,) integer labels and plates.
    query
        (N,) bool; positives are the other query wells of the same label, on any plate.
    negative
        (N,) bool; a query's negatives are those on its plate with another label.
    memory_mb
        Bound of the temporary memory in MiB beyond float64 copies of the features.

    Returns
    -------
    numpy.ndarray
        (N,) float64; NaN for rows that are no query, have no positive or have no negative.
    """
    data = unit_rows(features)
    result = np.full(len(data), np.nan)
    if not query.any():
        return result
    members, is_mate = _mates(codes, query)
    for plate in np.unique(plates[query]):
        rows = np.flatnonzero(query & (plates == plate) & is_mate.any(axis=1))
        others = np.flatnonzero(negative & (plates == plate))
        if not len(others):
            continue
        width = members.shape[1]
        step = int(max(1, memory_mb * 2**20 / (width * (data.shape[1] * 8 + 24) + len(others) * 24)))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            mates = np.einsum("qpd,qd->qp", data[members[part]], data[part])
            similarity = np.concatenate([mates, data[part] @ data[others].T], axis=1)
            positive = np.zeros(similarity.shape, dtype=bool)
            positive[:, :width] = is_mate[part]
            is_negative = codes[part, None] != codes[others]
            candidate = np.concatenate([is_mate[part], is_negative], axis=1)
            scores = ranked_average_precision(similarity, positive, candidate)
            result[part] = np.where(is_negative.any(axis=1), scores, np.nan)
    return result


def map_self_matching(evaluation: Evaluation, controls: bool, memory_mb: float = MEMORY_MB) -> Score:
    """MAP as CellPainTR's code computes it: every well is its own first match.

    Queries are all wells but negative controls; candidates all wells of the whole set (without negative controls
    unless ``controls``), the query included; positives share the perturbation. Mean over wells, interval by
    resampling perturbations.
    """
    codes, _ = codes_of(evaluation.column(evaluation.label))
    treated = evaluation.column("Metadata_Control") != "negcon"
    if not treated.any():
        raise NotApplicable("all wells are negative controls; there is no query")
    candidate = np.ones(len(codes), dtype=bool) if controls else treated
    if len(np.unique(codes[candidate])) < 2:
        raise NotApplicable("all candidates have one perturbation; there is nothing to rank them against")
    if np.bincount(codes[treated]).max() < 2:
        raise NotApplicable("no perturbation has a second well; every query would find itself and nothing else")
    scores = self_matching_average_precision(evaluation.profiles.features, codes, treated, candidate, memory_mb)
    return mean_score(scores, evaluation.seed, groups=codes[treated])


def map_replicates(evaluation: Evaluation, negatives: str, memory_mb: float = MEMORY_MB) -> Score:
    """MAP of replicates, as CellPainTR's text and Arevalo et al. 2024 describe it (copairs).

    Average precision per well, averaged per perturbation and then over perturbations; interval over perturbations.

    Parameters
    ----------
    evaluation
        Positive-control wells are neither queries nor negatives, as in Arevalo et al., if there are ``trt`` wells;
        else they are the treatments.
    negatives
        ``"control"``: negative controls of the query's plate. ``"treatment"``: treated wells of other
        perturbations on the query's plate.
    memory_mb
        Bound of the temporary memory in MiB.
    """
    codes, _ = codes_of(evaluation.column(evaluation.label))
    plates, _ = codes_of(evaluation.column("Metadata_Plate"))
    control = evaluation.column("Metadata_Control")
    query = control == ("trt" if (control == "trt").any() else "poscon")
    if not query.any():
        raise NotApplicable("all wells are negative controls; there is no query")
    if negatives not in ("control", "treatment"):
        raise ValueError(f"negatives is {negatives!r}, expected control or treatment")
    negative = control == "negcon" if negatives == "control" else query
    if not negative.any():
        raise NotApplicable("there is no negative control well to rank replicates against")
    scores = replicate_average_precision(evaluation.profiles.features, codes, plates, query, negative, memory_mb)
    counted = ~np.isnan(scores)
    wells, left = int(query.sum()), int(query.sum() - counted.sum())
    if not counted.any():
        if np.bincount(codes[query]).max() < 2:
            raise NotApplicable("no perturbation has a second well; there is no replicate to retrieve")
        raise NotApplicable(f"none of the {wells} treated wells has both a replicate and a negative on its plate")
    owner, _ = codes_of(codes[counted])
    means = np.bincount(owner, scores[counted]) / np.bincount(owner)
    reason = (
        f"{left} of {wells} treated wells left out: no replicate, or no negative on their plate" if left else ""
    )
    return mean_score(means, evaluation.seed, reason=reason)
