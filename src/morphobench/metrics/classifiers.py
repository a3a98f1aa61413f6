"""Random forest classifiers of batch and of biology (CellPainTR), and of what is held out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from morphobench.errors import NotApplicable
from morphobench.metrics.evaluation import Evaluation, Score, codes_of

FEWEST_WELLS = 5


def weighted_f1(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the support-weighted F1 for each row of sample weights.

    Parameters
    ----------
    truth, predicted
        (N,) integer class ids.
    weights
        (B, N) non-negative sample weights; ones give the ordinary score.

    Returns
    -------
    numpy.ndarray
        (B,) float64. A class that occurs in neither adds nothing; F1 of a class never predicted is 0.
    """
    f1, support = f1_by_class(truth, predicted, weights)
    return (np.nan_to_num(f1) * support).sum(axis=1) / support.sum(axis=1)


def f1_by_class(truth: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return F1 and weight of each class for each row of sample weights: see :func:`weighted_f1`.

    Returns
    -------
    f1, support
        (B, C) float64; F1 is NaN where a class occurs neither in truth nor among the predictions.
    """
    classes = max(truth.max(), predicted.max()) + 1
    real, guess = np.eye(classes)[truth], np.eye(classes)[predicted]
    weights = np.asarray(weights, dtype=np.float64)
    support, guessed = weights @ real, weights @ guess
    both = weights @ (real * guess)
    total = support + guessed
    return np.divide(2 * both, total, out=np.full_like(total, np.nan), where=total > 0), support


def forest_predictions(features: np.ndarray, codes: np.ndarray, trees: int, seed: int):
    """Return true and predicted classes of a random fifth of the rows, the forest being fitted on the rest."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(len(codes)), test_size=0.2, random_state=seed)
    forest = RandomForestClassifier(n_estimators=trees, random_state=seed, n_jobs=1)
    forest.fit(features[train], codes[train])
    return codes[test], forest.predict(features[test])


def _forest_f1(evaluation: Evaluation, column: str, controls: bool, trees: int, forest_seed: int):
    """Return (value, low, high, number of test wells) of the weighted F1."""
    rows = evaluation.order()
    if not controls:
        rows = rows[evaluation.column("Metadata_Control")[rows] != "negcon"]
    if len(rows) < FEWEST_WELLS:
        raise NotApplicable(f"{len(rows)} wells are too few to split; the classifier needs {FEWEST_WELLS}")
    codes, names = codes_of(evaluation.column(column)[rows])
    if len(names) < 2:
        raise NotApplicable(f"all wells have the one {column.removeprefix('Metadata_').lower()} {names[0]}")
    if np.bincount(codes).max() < 2:
        raise NotApplicable(f"no {column.removeprefix('Metadata_').lower()} has more than one well to learn from")
    truth, predicted = forest_predictions(evaluation.profiles.features[rows], codes, trees, forest_seed)
    return _with_interval(lambda weights: weighted_f1(truth, predicted, weights), len(truth), evaluation.seed)


def _with_interval(f1: Callable[[np.ndarray], np.ndarray], n: int, seed: int) -> tuple[float, float, float, int]:
    """Return (value, low, high, n) of an F1, a function of (B, n) sample weights, over 1,000 resamples."""
    value = float(f1(np.ones((1, n)))[0])
    if n < 2:
        return value, float("nan"), float("nan"), n
    draws = f1(np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), 1000))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return value, float(low), float(high), n


def batch_classifier(evaluation: Evaluation, controls: bool, trees: int = 100, forest_seed: int = 42) -> Score:
    """1 - weighted F1 of a random forest that predicts the batch (CellPainTR code).

    Parameters
    ----------
    evaluation
        The wells; sorted by plate and well before the random 80/20 split.
    controls
        Whether negative controls take part.
    trees, forest_seed
        Of the forest, and the seed of the split, as published. Not the evaluation's seed, which draws the
        interval: 1,000 resamples of the test wells.
    """
    value, low, high, n = _forest_f1(evaluation, evaluation.batch, controls, trees, forest_seed)
    return Score(1 - value, 1 - high, 1 - low, n)


def bio_classifier(evaluation: Evaluation, controls: bool, trees: int = 100, forest_seed: int = 42) -> Score:
    """Weighted F1 of a random forest that predicts the perturbation; see :func:`batch_classifier`."""
    return Score(*_forest_f1(evaluation, evaluation.label, controls, trees, forest_seed))


def _sides(evaluation: Evaluation, controls: bool, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Return as many rows of the test as of the training split, which of them are test, and what was left out."""
    rows = evaluation.order()
    if not controls:
        rows = rows[evaluation.column("Metadata_Control")[rows] != "negcon"]
    split = evaluation.column("Metadata_Split")[rows]
    sides = {name: np.flatnonzero(split == name) for name in ("train", "test")}
    for name, side in sides.items():
        what = f"{name} split" if controls else f"{name} split without its negative controls"
        if not len(side):
            raise NotApplicable(f"the {what} is empty")
        if len(side) < FEWEST_WELLS:
            raise NotApplicable(
                f"the {what} has {len(side)} wells, which are too few; the classifier needs {FEWEST_WELLS} of each"
            )
    size = min(map(len, sides.values()))
    reason = ""
    for name, side in sides.items():
        if len(side) > size:
            sides[name] = np.random.default_rng(seed).choice(side, size, replace=False)
            left = len(side) - size
            reason = f"{left} of {len(side)} {name} wells left out at random, so that both splits have as many"
    # In the order of plate and well, in which every forest here gets its wells.
    kept = np.sort(np.concatenate(list(sides.values())))
    return rows[kept], split[kept] == "test", reason


def held_out_classifier(evaluation: Evaluation, controls: bool, trees: int = 100, forest_seed: int = 42) -> Score:
    """1 - F1 of a random forest that tells held-out wells (test split) from training wells.

    It is the F1 of the class ``test`` alone: 0 where every held-out well is recognised, about 0.5 where nothing
    tells the two apart. So that this is so whatever the sizes of the splits, the forest gets equally many wells of
    both; then the procedure is that of :func:`batch_classifier`.

    It exceeds 0.5 where a perturbation has few wells that lie close together: with one of them among the wells
    that are judged, most of those the forest has learnt from are of the other split. Without any difference of
    the splits, 40 compounds far apart gave 0.95 with one well in each split, 0.73 with two and 0.64 with six.

    Parameters
    ----------
    evaluation
        Needs five wells in the training and in the test split; wells for validation take no part.
    controls
        Whether negative controls take part.
    trees, forest_seed
        Of the forest; the seed also chooses the wells of the larger split that take part, from those sorted by
        plate and well, and the random fifth that is judged. The interval comes from 1,000 resamples of that fifth
        by the evaluation's seed; one with neither a held-out well nor a prediction of one does not count.
    """
    rows, held_out, reason = _sides(evaluation, controls, forest_seed)
    features = evaluation.profiles.features[rows]
    truth, predicted = forest_predictions(features, held_out.astype(np.int64), trees, forest_seed)
    if not truth.any():
        raise NotApplicable(
            f"there is no held-out well among the {len(truth)} wells that the classifier is judged by"
        )
    value, low, high, n = _with_interval(
        lambda weights: f1_by_class(truth, predicted, weights)[0][:, 1], len(truth), evaluation.seed
    )
    return Score(1 - value, 1 - high, 1 - low, n, reason=reason)
