import numpy as np

from morphobench.representations.controls import ConstantEmbedding, RandomEmbedding, ShuffledFeatures


def test_random_is_standard_normal_and_seeded(profiles):
    result = RandomEmbedding(dims=64, seed=1).embed(profiles).features
    assert result.shape == (len(profiles), 64)
    assert abs(result.mean()) < 0.05
    assert abs(result.std() - 1) < 0.05
    np.testing.assert_array_equal(result, RandomEmbedding(dims=64, seed=1).embed(profiles).features)
    assert not np.array_equal(result, RandomEmbedding(dims=64, seed=2).embed(profiles).features)


def test_constant(profiles):
    result = ConstantEmbedding(dims=3).embed(profiles).features
    assert result.shape == (len(profiles), 3)
    assert np.ptp(result) == 0


def test_shuffled_is_a_permutation_of_rows(profiles):
    result = ShuffledFeatures(seed=4).embed(profiles)
    assert not np.array_equal(result.features, profiles.features)

    def rows(x: np.ndarray) -> list:
        return sorted(map(tuple, x.tolist()))

    assert rows(result.features) == rows(profiles.features)
    assert result.names == profiles.names
    moved = (result.features != profiles.features).any(axis=1).mean()
    assert moved > 0.9
