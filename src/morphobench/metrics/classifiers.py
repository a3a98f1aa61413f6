"""Random forest classifiers of batch and of biology, with and without negative controls (CellPainTR)."""

from __future__ import annotations

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
    classes = max(truth.max(), predicted.max()) + 1
    real, guess = np.eye(classes)[truth], np.eye(classes)[predicted]
    weights = np.asarray(weights, dtype=np.float64)
    support, guessed = weights @ real, weights @ guess
    both = weights @ (real * guess)
    total = support + guessed
    f1 = np.divide(2 * both, total, out=np.zeros_like(total), where=total > 0)
    return (f1 * support).sum(axis=1) / support.sum(axis=1)


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
    value = weighted_f1(truth, predicted, np.ones((1, len(truth))))[0]
    if len(truth) < 2:
        return float(value), float("nan"), float("nan"), len(truth)
    draws = np.random.default_rng(evaluation.seed).multinomial(
        len(truth), np.full(len(truth), 1 / len(truth)), 1000
    )
    low, high = np.percentile(weighted_f1(truth, predicted, draws), [2.5, 97.5])
    return float(value), float(low), float(high), len(truth)


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
