import numpy as np
import pytest

from morphobench.errors import DataError
from morphobench.representations.features import FeatureSubset, Identity


def test_identity(profiles):
    result = Identity().embed(profiles)
    np.testing.assert_array_equal(result.features, profiles.features)
    assert result.names == profiles.names


def test_subset_by_prefix(profiles):
    result = FeatureSubset(["background_"]).embed(profiles)
    assert result.names == tuple(f"background_{i}" for i in range(5))
    np.testing.assert_array_equal(result.features, profiles.features[:, 5:])
    both = FeatureSubset(["background_", "salient_"]).embed(profiles)
    np.testing.assert_array_equal(both.features, profiles.features)


def test_prefix_without_features(profiles):
    with pytest.raises(DataError, match="no feature starts with 'latent_'"):
        FeatureSubset(["salient_", "latent_"]).embed(profiles)
