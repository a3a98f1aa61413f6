"""k-NN and linear accuracy against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from morphobench.errors import DataError, NotApplicable
from morphobench.metrics.accuracy import knn_accuracy, knn_predictions, linear_accuracy, linear_online

from .conftest import changed, evaluation_of, screen


@pytest.mark.parametrize("block_mb", [128, 0.001])
def test_knn_equals_scikit_learn(block_mb):
    rng = np.random.default_rng(0)
    bank, query, codes = rng.normal(size=(200, 6)), rng.normal(size=(90, 6)), rng.integers(0, 7, 200)
    model = KNeighborsClassifier(10, metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1)).fit(bank, codes)
    np.testing.assert_array_equal(knn_predictions(bank, codes, query, block_mb=block_mb), model.predict(query))


def test_linear_equals_scikit_learn(small):
    train, test = (small.rows(small.column("Metadata_Split") == s) for s in ("train", "test"))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(train.features, train.column("Metadata_Perturbation"))
    expected = model.score(test.features, test.column("Metadata_Perturbation"))
    score = linear_accuracy(evaluation_of(small))
    # 24 test wells; the iteration limit may cost one of them.
    assert score.value == pytest.approx(expected, abs=1 / 24 + 1e-9)
    assert score.n == 24


def test_planted_biology_is_found_and_absent_one_is_not():
    for metric in (knn_accuracy, linear_accuracy):
        strong = metric(evaluation_of(screen(biology=6, batch=0, controls=1, n_plates=9))).value
        none = metric(evaluation_of(screen(biology=0, batch=0, controls=1, n_plates=9))).value
        # Chance is 1/9 of 27 test wells; the 3 control wells have no direction that a cosine could find.
        assert strong >= 24 / 27
        assert none < 0.35


def test_unseen_perturbations_count_as_wrong_and_are_named(small):
    label = small.column("Metadata_Perturbation")
    gone = (label == "c0@1") & (small.column("Metadata_Split") == "train")
    score = knn_accuracy(evaluation_of(small.rows(~gone)))
    assert score.n == 24
    assert score.reason.startswith("2 of 24 test wells count as wrong")


@pytest.mark.parametrize("metric", [knn_accuracy, linear_accuracy])
def test_what_does_not_apply(small, metric):
    with pytest.raises(NotApplicable, match="train split is empty"):
        metric(evaluation_of(changed(small, Metadata_Split="test")))
    with pytest.raises(NotApplicable, match="one perturbation only"):
        metric(evaluation_of(changed(small, Metadata_Perturbation="x")))


def test_with_a_tight_tolerance_the_probe_is_at_the_optimum():
    profiles = screen(n_compounds=19, n_plates=12, controls=3, biology=0.9)
    train, test = (profiles.rows(profiles.column("Metadata_Split") == s) for s in ("train", "test"))
    # Newton's method, which ends where the gradient is zero to rounding.
    model = make_pipeline(StandardScaler(), LogisticRegression(solver="newton-cholesky", tol=1e-10))
    model.fit(train.features, train.column("Metadata_Perturbation"))
    expected = model.score(test.features, test.column("Metadata_Perturbation"))
    assert linear_accuracy(evaluation_of(profiles), tol=1e-6, max_iter=2000).value == expected
    assert 0.3 < expected < 1
    assert linear_accuracy(evaluation_of(profiles), tol=0.05).value != expected


def online(profiles, wrong=()):
    predicted = profiles.column("Metadata_Perturbation").copy()
    predicted[list(wrong)] = "nothing"
    return changed(profiles, Metadata_ProbePrediction=predicted)


def test_online_probe_is_right_where_its_prediction_is(small):
    test = np.flatnonzero(small.column("Metadata_Split") == "test")
    train = np.flatnonzero(small.column("Metadata_Split") == "train")
    score = linear_online(evaluation_of(online(small, [*test[:6], *train])))
    assert (score.value, score.n) == (18 / 24, 24)
    assert score.low < score.value < score.high
    # The interval resamples perturbations, as those of the other accuracies do.
    assert linear_online(evaluation_of(online(small))).low == 1


def test_online_probe_needs_predictions_of_the_features_as_they_are(small):
    with pytest.raises(NotApplicable, match="no column Metadata_ProbePrediction"):
        linear_online(evaluation_of(small))
    corrected = online(small).with_features(small.features, correction="znorm")
    with pytest.raises(NotApplicable, match="as they were before znorm"):
        linear_online(evaluation_of(corrected))
    uncorrected = online(small).with_features(small.features, correction="none")
    assert linear_online(evaluation_of(uncorrected)).value == 1
    column = online(small).column("Metadata_ProbePrediction").copy()
    column[np.flatnonzero(small.column("Metadata_Split") == "test")[:2]] = None
    with pytest.raises(DataError, match="empty in 2 of 24 test wells"):
        linear_online(evaluation_of(changed(small, Metadata_ProbePrediction=column)))
