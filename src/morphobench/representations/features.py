"""Representations that are the prepared features themselves, or some of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from morphobench.errors import DataError
from morphobench.profiles import Profiles
from morphobench.representations.base import Representation


class Identity(Representation):
    """The features as prepared."""

    def embed(self, profiles: Profiles, annotations: pd.DataFrame | None = None) -> Profiles:
        """Return the profiles with the features they have."""
        return profiles.with_features(profiles.features)


class FeatureSubset(Representation):
    """The features whose names start with one of some prefixes, in the order of the profiles.

    Parameters
    ----------
    prefixes
        Beginnings of feature names.
    """

    def __init__(self, prefixes: Sequence[str], *, seed: int = 0):
        super().__init__(seed=seed)
        self.prefixes = tuple(prefixes)

    def embed(self, profiles: Profiles, annotations: pd.DataFrame | None = None) -> Profiles:
        """Return the profiles with those features; DataError if a prefix has none."""
        for prefix in self.prefixes:
            if not any(name.startswith(prefix) for name in profiles.names):
                raise DataError(
                    f"no feature starts with {prefix!r}; the profiles have {len(profiles.names)} features, "
                    f"{profiles.names[0]} the first"
                )
        chosen = np.flatnonzero([name.startswith(self.prefixes) for name in profiles.names])
        return profiles.with_features(profiles.features[:, chosen], tuple(profiles.names[i] for i in chosen))
