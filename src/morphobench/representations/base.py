"""What every representation is: profiles in, profiles of the same rows out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import pandas as pd

from morphobench.profiles import Profiles


class Representation(ABC):
    """A representation; constructors store parameters only.

    Parameters
    ----------
    seed
        Of all that is random in it.
    """

    def __init__(self, *, seed: int = 0):
        self.seed = seed

    @abstractmethod
    def embed(self, profiles: Profiles, annotations: pd.DataFrame | None = None) -> Profiles:
        """Return the same rows, in the same order, with the representation's features.

        Parameters
        ----------
        profiles
            The prepared profiles of a data set.
        annotations
            Gene sets (columns ``entity, set, collection``) where the data set has them. Only a control that is
            meant to know the answers may look at them.
        """
