import numpy as np
import pytest

from morphobench.metrics.health import health


def test_constant_rows_are_collapsed():
    facts = health(np.full((20, 3), 0.3, np.float32))
    assert facts["status"] == "collapsed"
    assert facts["reason"] == "all 20 rows of the embedding are equal"
    assert facts["duplicate_share"] == pytest.approx(0.95)


def test_constant_up_to_rounding_is_collapsed():
    rng = np.random.default_rng(0)
    facts = health((1000 + 1e-4 * rng.normal(size=(50, 4))).astype(np.float32))
    assert facts["status"] == "collapsed"
    assert "constant up to rounding" in facts["reason"]
    assert health(np.zeros((5, 2)))["status"] == "collapsed"


@pytest.mark.parametrize("shape", [(400, 5), (6, 400)])
def test_effective_rank_of_isotropic_noise_is_nearly_full(shape):
    facts = health(np.random.default_rng(0).normal(size=shape))
    full = min(shape[0] - 1, shape[1])
    assert facts["status"] == "ok"
    assert 0.95 * full < facts["effective_rank"] <= full + 1e-9
    assert (facts["n"], facts["dims"]) == shape


def test_one_direction_has_rank_one():
    data = np.outer(np.arange(30.0), [1.0, 2, 3])
    assert health(data)["effective_rank"] == pytest.approx(1)


def test_an_ideal_embedding_with_repeated_rows_is_sound():
    facts = health(np.repeat(np.eye(8), 5, axis=0))
    assert facts["status"] == "ok"
    assert facts["duplicate_share"] == pytest.approx(0.8)
