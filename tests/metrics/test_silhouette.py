"""Silhouettes against scikit-learn and scib-metrics."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_samples as sklearn_silhouette

from morphobench.errors import NotApplicable
from morphobench.metrics.silhouette import silhouette_batch, silhouette_label, silhouette_samples

from .conftest import changed, evaluation_of, screen


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(4, 40), st.integers(1, 5), st.sampled_from([128, 1e-4]))
def test_equals_scikit_learn(seed, n, dims, block_mb):
    rng = np.random.default_rng(seed)
    codes = np.concatenate([[0, 1, 2], rng.integers(0, 3, n - 3)]) * 2 + 1
    features = rng.normal(size=(n, dims))
    # Distances from products keep about eight digits for close points, in both.
    np.testing.assert_allclose(
        silhouette_samples(features, codes, block_mb), sklearn_silhouette(features, codes), atol=1e-7
    )


def test_label_score_is_the_rescaled_mean(small):
    label = small.column("Metadata_Perturbation").astype(str)
    score = silhouette_label(evaluation_of(small))
    assert score.value == pytest.approx((sklearn_silhouette(small.features, label).mean() + 1) / 2, abs=1e-6)
    assert score.low < score.value < score.high


def test_batch_score_by_a_plain_loop(small):
    label, batch = (small.column(c).astype(str) for c in ("Metadata_Perturbation", "Metadata_Batch"))
    means = [
        np.mean(1 - np.abs(sklearn_silhouette(small.features[label == name], batch[label == name])))
        for name in np.unique(label)
    ]
    score = silhouette_batch(evaluation_of(small))
    assert score.value == pytest.approx(np.mean(means), abs=1e-6)
    assert score.n == 9


def test_labels_in_one_batch_or_one_well_a_batch_are_left_out(small):
    label, plate = small.column("Metadata_Perturbation"), small.column("Metadata_Plate")
    one_each = (label != "DMSO") & ~np.isin(plate, ["p0", "p2", "p4"])
    score = silhouette_batch(evaluation_of(small.rows(~one_each)))
    assert (score.n, score.reason[:30]) == (1, "8 of 9 perturbations left out:")
    assert score.low < score.value < score.high


def test_what_does_not_apply(small):
    with pytest.raises(NotApplicable, match="one batch only"):
        silhouette_batch(evaluation_of(changed(small, Metadata_Batch="b")))
    with pytest.raises(NotApplicable, match="wells in two batches"):
        silhouette_batch(evaluation_of(changed(small, Metadata_Batch=small.column("Metadata_Perturbation"))))
    with pytest.raises(NotApplicable, match="one perturbation"):
        silhouette_label(evaluation_of(changed(small, Metadata_Perturbation="x")))
    with pytest.raises(NotApplicable, match="more than one well"):
        silhouette_label(evaluation_of(changed(small, Metadata_Perturbation=np.arange(len(small)).astype(str))))


@pytest.mark.slow
def test_agree_with_scib_metrics():
    import scib_metrics

    profiles = screen(seed=5)
    label, batch = (profiles.column(c).astype(str) for c in ("Metadata_Perturbation", "Metadata_Batch"))
    evaluation = evaluation_of(profiles)
    # scib-metrics computes in float32.
    expected = scib_metrics.silhouette_batch(profiles.features, label, batch)
    assert silhouette_batch(evaluation).value == pytest.approx(float(expected), abs=1e-5)
    expected = scib_metrics.silhouette_label(profiles.features, label)
    assert silhouette_label(evaluation).value == pytest.approx(float(expected), abs=1e-5)
