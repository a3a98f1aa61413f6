"""Silhouette widths by batch and by biology, Euclidean, as scib defines them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from morphobench.errors import NotApplicable
from morphobench.metrics.evaluation import Evaluation, Score, bootstrap_mean, codes_of, mean_score


def silhouette_samples(features: np.ndarray, codes: np.ndarray, block_mb: float = 128) -> np.ndarray:
    """Return the silhouette width of each row (Rousseeuw 1987), Euclidean; 0 in a cluster of one.

    Parameters
    ----------
    features
        (N, D) numbers.
    codes
        (N,) cluster ids, at least two different ones.
    block_mb
        Bound of the temporary memory in MiB beyond float64 copies of the features.

    Returns
    -------
    numpy.ndarray
        (N,) float64 in [-1, 1].
    """
    _, codes = np.unique(codes, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    data = np.asarray(features, dtype=np.float64)[order]
    data = data - data.mean(axis=0)
    cluster = codes[order]
    sizes = np.bincount(cluster)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    square = np.einsum("ij,ij->i", data, data)
    widths = np.empty(len(data))
    rows = int(max(1, min(len(data), block_mb * 2**20 / (len(data) * 8 * 3))))
    for start in range(0, len(data), rows):
        stop = min(start + rows, len(data))
        distance = data[start:stop] @ data.T
        distance *= -2
        distance += square
        distance += square[start:stop, None]
        np.sqrt(np.maximum(distance, 0, out=distance), out=distance)
        here = np.arange(stop - start)
        distance[here, start + here] = 0
        # Columns are sorted by cluster, so each cluster's sum is one contiguous reduction.
        sums = np.add.reduceat(distance, starts, axis=1)
        own = cluster[start:stop]
        inside = sums[here, own] / np.maximum(sizes[own] - 1, 1)
        sums /= sizes
        sums[here, own] = np.inf
        outside = sums.min(axis=1)
        larger = np.maximum(inside, outside)
        width = np.divide(outside - inside, larger, out=np.zeros_like(larger), where=larger > 0)
        widths[start:stop] = np.where(sizes[own] > 1, width, 0)
    result = np.empty_like(widths)
    result[order] = widths
    return result


def batch_silhouettes(features: np.ndarray, labels: np.ndarray, batches: np.ndarray) -> list[np.ndarray]:
    """Return, per usable label, 1 - abs(silhouette by batch) of its wells.

    A label is left out, as scib does, if its wells lie in one batch or all in different ones.

    Parameters
    ----------
    features
        (N, D) numbers.
    labels, batches
        (N,) integer codes.
    """
    order = np.argsort(labels, kind="stable")
    found = []
    for rows in np.split(order, np.cumsum(np.bincount(labels))[:-1]):
        codes, names = codes_of(batches[rows])
        if 1 < len(names) < len(rows):
            found.append(1 - np.abs(silhouette_samples(features[rows], codes)))
    return found


def silhouette_batch(evaluation: Evaluation) -> Score:
    """Mean over perturbations of 1 - abs(silhouette by batch), Euclidean (scib 1.1)."""
    labels, names = codes_of(evaluation.column(evaluation.label))
    batches, batch_names = codes_of(evaluation.column(evaluation.batch))
    if len(batch_names) < 2:
        raise NotApplicable(f"there is one batch only ({batch_names[0]}); nothing to separate")
    found = batch_silhouettes(evaluation.profiles.features, labels, batches)
    if not found:
        raise NotApplicable(
            f"none of the {len(names)} perturbations has wells in two batches, more than one well in one of them"
        )
    left = len(names) - len(found)
    reason = f"{left} of {len(names)} perturbations left out: one batch only, or one well in each batch"
    means = np.array([values.mean() for values in found])
    score = mean_score(means, evaluation.seed, reason=reason if left else "")
    if len(found) > 1:
        return score
    # One perturbation (often the negative control) leaves only its wells to judge the spread from.
    low, high = bootstrap_mean(found[0], evaluation.seed)
    return replace(score, low=low, high=high)


def silhouette_label(evaluation: Evaluation) -> Score:
    """(ASW + 1)/2 of all wells by perturbation, Euclidean (scib 1.1); interval over perturbations."""
    codes, names = codes_of(evaluation.column(evaluation.label))
    if len(names) < 2:
        raise NotApplicable(f"all wells have the one perturbation {names[0]}; nothing to separate")
    if len(names) == len(codes):
        raise NotApplicable("no perturbation has more than one well; all silhouettes are 0 by definition")
    widths = silhouette_samples(evaluation.profiles.features, codes)
    return mean_score((widths + 1) / 2, evaluation.seed, groups=codes)
