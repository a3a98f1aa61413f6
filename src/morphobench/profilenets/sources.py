"""The sources (laboratories) that a network has tokens for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from morphobench.errors import DataError
from morphobench.images.folds import natural_key


@dataclass(frozen=True)
class Sources:
    """The sources that a network has tokens for, in the order of the tokens.

    Attributes
    ----------
    names
        Each once.
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> Sources:
        """Return the sources among the values, ``source_10`` after ``source_9``."""
        return cls(tuple(sorted({str(value) for value in values}, key=natural_key)))

    def extended(self, values: np.ndarray) -> Sources:
        """Return these sources and after them, in natural order, those among the values that are new."""
        new = Sources.of(np.array([value for value in set(values) if str(value) not in self.names]))
        return Sources(self.names + new.names)

    def codes(self, values: np.ndarray, where: str) -> np.ndarray:
        """Return the token of each value, (N,) int64; DataError if a source has none."""
        places = {name: place for place, name in enumerate(self.names)}
        codes = pd.Series(values).astype(str).map(places)
        if codes.isna().any():
            strange = str(values[int(codes.isna().to_numpy().argmax())])
            raise DataError(
                f"{where}: source {strange} has no token; the model knows {', '.join(self.names)}, and a token "
                f"for another source must be fitted first"
            )
        return codes.to_numpy(dtype=np.int64)
