"""k-NN and linear accuracy against scikit-learn."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from morphobench.errors import NotApplicable
from morphobench.metrics.accuracy import knn_accuracy, knn_predictions, linear_accuracy

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
