"""k-BET against scipy's chi-square test, its own level under the null, and scib-metrics."""

import numpy as np
import pytest
from scipy.stats import chisquare

from morphobench.errors import NotApplicable
from morphobench.metrics.mixing import kbet, kbet_p_values, kbet_scib

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
