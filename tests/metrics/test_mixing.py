"""k-BET against scipy's chi-square test, its own level under the null, and scib-metrics."""

import numpy as np
import pytest
from scipy.stats import chisquare

from morphobench.errors import NotApplicable
from morphobench.metrics.mixing import kbet, kbet_p_values, kbet_scib
from morphobench.metrics.neighbours import nearest

from .conftest import changed, evaluation_of, screen


def test_p_values_equal_scipy():
    rng = np.random.default_rng(0)
    batches = np.repeat([0, 1, 2], [50, 30, 20])
    neighbours = rng.integers(0, 100, (100, 12))
    frequency = np.array([0.5, 0.3, 0.2])
    expected = [chisquare(np.bincount(batches[row], minlength=3), frequency * 12).pvalue for row in neighbours]
    np.testing.assert_allclose(kbet_p_values(neighbours, batches), expected, atol=1e-12)


def test_acceptance_is_near_its_level_without_batch_effect_and_zero_with_one():
    rng = np.random.default_rng(1)
    mixed = kbet_p_values(rng.integers(0, 4000, (4000, 60)), np.arange(4000) % 4)
    # Expected 0.95; the binomial error at 4,000 is 0.0034, the chi-square approximation's about as large.
    assert (mixed >= 0.05).mean() == pytest.approx(0.95, abs=0.015)
    apart = evaluation_of(screen(batch=50, biology=0.1, n_plates=12))
    assert kbet_scib(apart, k=16).value == 0


def test_mixed_screen_scores_above_separated_one():
    low, high = (
        kbet(evaluation_of(screen(batch=b, biology=0.1, n_plates=12, seed=4)), fraction=0.1).value for b in (5, 0)
    )
    assert low < 0.1 < 0.7 < high


def test_what_does_not_apply(small):
    with pytest.raises(NotApplicable, match="one batch only"):
        kbet(evaluation_of(changed(small, Metadata_Batch="b")))
    with pytest.raises(NotApplicable, match="30 wells are too few for 49 neighbours"):
        kbet_scib(evaluation_of(small.rows(np.arange(30))))


@pytest.mark.slow
def test_agrees_with_scib_metrics():
    from scib_metrics import kbet as theirs
    from scib_metrics.nearest_neighbors import NeighborsResults

    profiles = screen(n_plates=12, batch=0.8)
    evaluation = evaluation_of(profiles)
    graph = evaluation.graph("euclidean", 49)
    own = np.arange(len(profiles))[:, None]
    results = NeighborsResults(
        np.hstack([own, graph.indices]), np.hstack([np.zeros((len(own), 1)), graph.distances])
    )
    expected = theirs(results, profiles.column("Metadata_Batch").astype(str))[0]
    # A share of wells: equal unless a p-value lies within float32 of 0.05.
    assert kbet_scib(evaluation).value == pytest.approx(float(expected), abs=1e-6)
    assert 0 < float(expected) < 1


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_is_scored_as_if_there_were_no_other_rows(split):
    profiles = screen(batch=0.8, biology=0.1, n_plates=12, seed=4)
    alone = profiles.rows(profiles.column("Metadata_Split") == split)
    score = kbet(evaluation_of(profiles), split=split, at_least=15)
    graph = nearest(alone.features, 15)
    codes = np.unique(alone.column("Metadata_Batch").astype(str), return_inverse=True)[1]
    assert score.value == pytest.approx((kbet_p_values(graph.indices, codes) >= 0.05).mean())
    assert score.n == len(alone)
    assert 0 < score.value < 1


def test_three_neighbours_of_two_batches_reject_nothing_and_four_do():
    batches = np.repeat([0, 1], 50)
    own = np.where(batches[:, None] == 0, np.arange(4), 50 + np.arange(4))
    assert (kbet_p_values(own[:, :3], batches) >= 0.05).all()
    assert (kbet_p_values(own, batches) < 0.05).all()


def test_a_split_of_one_batch_has_nothing_to_mix(small):
    split = np.where(small.column("Metadata_Batch") == "b0", "test", "train")
    evaluation = evaluation_of(changed(small, Metadata_Split=split))
    with pytest.raises(NotApplicable, match=r"one batch only in the test split \(b0\)"):
        kbet(evaluation, split="test")
    with pytest.raises(NotApplicable, match="the val split is empty"):
        kbet(evaluation, split="val")
    with pytest.raises(NotApplicable, match="48 wells of the train split are too few for 60 neighbours"):
        kbet(evaluation, split="train", at_least=60)
    with pytest.raises(ValueError, match="expected one of train, val, test"):
        kbet(evaluation, split="tset")
