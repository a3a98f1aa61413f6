"""The sources (laboratories) that a network has tokens for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


def with_new_sources(
    metadata: pd.DataFrame, column: str, known: Sources, where: str
) -> tuple[Sources, dict[str, Any]]:
    """Return the sources with those of the wells that are new after them, and a split that trains on these alone.

    Raises
    ------
    DataError
        If the wells lack the column, or none of them is of a new source.
    """
    if column not in metadata:
        raise DataError(f"{where}: column {column}, whose values have tokens, is missing")
    found = metadata[column].astype(str).to_numpy()
    sources = known.extended(found)
    if sources == known:
        raise DataError(
            f"{where}: the model has tokens for all of its sources ({', '.join(sorted(set(found)))}); "
            f"expected a new one to fit"
        )
    old = [name for name in known.names if name in set(found)]
    return sources, {"strategy": "sources", "hidden": old} if old else {"strategy": "none"}


def held_out_without_token(metadata: pd.DataFrame, column: str, known: Sources) -> list[str]:
    """Return the sources of the test split that have no token, sorted."""
    held_out = metadata.loc[metadata["Metadata_Split"] == "test", column].astype(str)
    return sorted(set(held_out) - set(known.names))
