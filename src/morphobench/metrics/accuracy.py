"""Accuracy of the perturbation from training wells to test wells: weighted k-NN and a linear probe (CDCL)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from morphobench.errors import DataError, NotApplicable
from morphobench.metrics.average_precision import unit_rows
from morphobench.metrics.evaluation import Evaluation, Score, codes_of, mean_score


def knn_predictions(
    bank: np.ndarray,
    codes: np.ndarray,
    query: np.ndarray,
    k: int = 10,
    temperature: float = 0.1,
    block_mb: float = 128,
) -> np.ndarray:
    """Return the class with the largest vote among each query's ``k`` most similar bank rows.

    Parameters
    ----------
    bank, query
        (B, D) and (Q, D) numbers; cosine similarity.
    codes
        (B,) classes of the bank.
    k, temperature
        Votes are exp(cosine/temperature); ``k`` is cut to B. Equal similarities come in bank order, and of equal
        votes the lower class wins.
    block_mb
        Bound of the temporary memory in MiB.
    """
    bank, query = unit_rows(bank), unit_rows(query)
    k = min(k, len(bank))
    classes = codes.max() + 1
    predicted = np.empty(len(query), dtype=np.int64)
    rows = int(max(1, block_mb * 2**20 / (8 * (3 * len(bank) + classes))))
    for start in range(0, len(query), rows):
        similarity = np.round(query[start : start + rows] @ bank.T, 9)
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        here = np.arange(len(similarity))[:, None]
        votes = np.zeros((len(similarity), classes))
        np.add.at(votes, (here, codes[nearest]), np.exp(similarity[here, nearest] / temperature))
        predicted[start : start + rows] = votes.argmax(axis=1)
    return predicted


def _split(evaluation: Evaluation):
    """Return (train features, train codes, test features, test codes), rows in order of plate and well."""
    rows = evaluation.order()
    split = evaluation.column("Metadata_Split")[rows]
    for name in ("train", "test"):
        if not (split == name).any():
            raise NotApplicable(f"the {name} split is empty")
    features = evaluation.profiles.features[rows]
    codes, _ = codes_of(evaluation.column(evaluation.label)[rows])
    train, test = split == "train", split == "test"
    if len(np.unique(codes[train])) < 2:
        raise NotApplicable("the training wells have one perturbation only; there is nothing to tell apart")
    if not np.isin(codes[test], codes[train]).any():
        raise NotApplicable("no perturbation of the test split occurs in the training split")
    return features[train], codes[train], features[test], codes[test]


def _score(evaluation: Evaluation, predicted: np.ndarray, truth: np.ndarray, known: np.ndarray) -> Score:
    """Return the accuracy; wells of one perturbation are resampled together."""
    unseen = int((~np.isin(truth, known)).sum())
    reason = f"{unseen} of {len(truth)} test wells count as wrong: no training well has their perturbation"
    right = (predicted == truth).astype(float)
    return mean_score(right, evaluation.seed, groups=truth, reason=reason if unseen else "")


def knn_accuracy(evaluation: Evaluation, k: int = 10, temperature: float = 0.1) -> Score:
    """Weighted k-NN accuracy of the perturbation, training wells as bank, test wells as queries (CDCL, code).

    All perturbations count, controls among them, as published.
    """
    train, train_codes, test, truth = _split(evaluation)
    return _score(evaluation, knn_predictions(train, train_codes, test, k, temperature), truth, train_codes)


def linear_accuracy(evaluation: Evaluation, C: float = 1.0, max_iter: int = 200, tol: float = 1e-4) -> Score:
    """Accuracy of a linear probe: multinomial logistic regression on standardised training wells (CDCL, text).

    Parameters
    ----------
    evaluation
        Needs wells in both splits; means and deviations come from the training wells.
    C, max_iter
        Inverse L2 strength and the limit of L-BFGS iterations; the paper states neither.
    tol
        L-BFGS stops where no component of the gradient of the mean loss is larger. A component is about the share
        of one class, so that with many classes a loose one stops before anything is learnt.
    """
    from sklearn.linear_model import LogisticRegression

    train, train_codes, test, truth = _split(evaluation)
    mean, deviation = train.mean(axis=0, dtype=np.float64), train.std(axis=0, dtype=np.float64)
    deviation[deviation == 0] = 1
    model = LogisticRegression(C=C, max_iter=max_iter, tol=tol)
    predicted = fit_quietly(model, (train - mean) / deviation, train_codes).predict((test - mean) / deviation)
    return _score(evaluation, predicted, truth, train_codes)


def linear_online(evaluation: Evaluation, column: str = "Metadata_ProbePrediction") -> Score:
    """Accuracy of the linear head that was trained along with the network, on test wells (CDCL, authors' code).

    The head saw the network while it was still learning, one augmented view at a time; it belongs to the features
    that the network gave, so that nothing can be learnt from it about corrected ones.

    Parameters
    ----------
    evaluation
        Needs wells in the test split, of profiles that no correction changed.
    column
        Metadata column with the head's prediction of the perturbation.
    """
    correction = evaluation.profiles.provenance.get("correction", "none")
    if correction != "none":
        raise NotApplicable(f"the online probe predicted from the features as they were before {correction}")
    order = evaluation.order()
    rows = order[np.isin(order, evaluation.rows("test"))]
    predicted, truth = (evaluation.column(name)[rows] for name in (column, evaluation.label))
    absent = int(pd.isna(predicted).sum())
    if absent:
        raise DataError(
            f"column {column} is empty in {absent} of {len(rows)} test wells, expected a prediction in each"
        )
    right = (predicted.astype(str) == truth.astype(str)).astype(float)
    return mean_score(right, evaluation.seed, groups=truth)


def fit_quietly(model, features: np.ndarray, codes: np.ndarray):
    """Fit a classifier whose iteration limit is part of the protocol, so that reaching it is no warning."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, codes)
