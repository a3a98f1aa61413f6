"""Controls that know nothing: random, constant and shuffled features. A metric that rewards them is broken."""

from __future__ import annotations

import numpy as np
import pandas as pd

from morphobench.profiles import Profiles
from morphobench.representations.base import Representation


class RandomEmbedding(Representation):
    """Independent standard normal numbers, without any relation to the wells.

    Parameters
    ----------
    dims
        Number of features.
    """

    def __init__(self, dims: int = 64, *, seed: int = 0):
        super().__init__(seed=seed)
        self.dims = dims

    def embed(self, profiles: Profiles, annotations: pd.DataFrame | None = None) -> Profiles:
        """Return noise for each row."""
        noise = np.random.default_rng(self.seed).standard_normal((len(profiles), self.dims), dtype=np.float32)
        return profiles.with_features(noise, tuple(f"random_{i:03d}" for i in range(self.dims)))


class ConstantEmbedding(Representation):
    """The same numbers for every well: a representation that has collapsed.

    Parameters
    ----------
    dims
        Number of features, each 1.
    """

    def __init__(self, dims: int = 64, *, seed: int = 0):
        super().__init__(seed=seed)
        self.dims = dims

    def embed(self, profiles: Profiles, annotations: pd.DataFrame | None = None) -> Profiles:
        """Return ones for each row."""
        ones = np.ones((len(profiles), self.dims), dtype=np.float32)
        return profiles.with_features(ones, tuple(f"constant_{i:03d}" for i in range(self.dims)))


class ShuffledFeatures(Representation):
    """The prepared features with their rows dealt out anew over all wells: the same cloud, no meaning."""

    def embed(self, profiles: Profiles, annotations: pd.DataFrame | None = None) -> Profiles:
        """Return a permutation of the rows of the features; metadata stay."""
        order = np.random.default_rng(self.seed).permutation(len(profiles))
        return profiles.with_features(profiles.features[order])
