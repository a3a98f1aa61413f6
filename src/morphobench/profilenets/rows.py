"""Rows of profiles, read when they are needed: from a file, by its row groups, or from a table in memory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from morphobench.errors import DataError
from morphobench.profiles import COLUMNS, PREFIX, Profiles, check_column, check_profiles, feature_columns

# Columns of a row group that are decoded together: what is decoded and not yet copied is this share of it.
COLUMNS_AT_ONCE = 128


class Rows(Protocol):
    """Profiles whose features are read by row.

    Attributes
    ----------
    where
        What they are called in messages.
    names
        Feature names.
    """

    where: str
    names: tuple[str, ...]

    def metadata(self) -> pd.DataFrame:
        """Return the metadata of all rows."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of these rows, in this order, (n, D) float32, finite."""


class HeldRows:
    """Profiles in memory as :class:`Rows`."""

    def __init__(self, profiles: Profiles, where: str = "profiles") -> None:
        check_profiles(profiles, where)
        self.where, self.names, self._profiles = where, profiles.names, profiles

    def metadata(self) -> pd.DataFrame:
        """Return the metadata of all rows."""
        return self._profiles.metadata

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of these rows, in this order, (n, D) float32."""
        return self._profiles.features[rows]


class FileRows:
    """A profiles file as :class:`Rows`: memory holds its footer and one row group, never the whole file.

    Files that :func:`morphobench.preprocessing.pipeline.run_pipeline` writes have row groups of about 64 MB, each
    of whole plates. The last one read is kept, so rows in ascending order read each row group once. The footer
    takes about 1.2 kB per feature and row group: for 3,255 features and plates of 384 wells 0.3 MB a plate, a
    sixteenth of the plate's own 5 MB.

    Parameters
    ----------
    path
        A profiles file.

    Raises
    ------
    DataError
        If the file is missing, is no readable parquet file, or has no features.
    """

    def __init__(self, path: str | Path) -> None:
        self.where = str(path)
        if not Path(path).is_file():
            raise DataError(f"{path}: no such file; expected a profiles file (parquet)")
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        schema = self._file.schema_arrow
        self.names = tuple(feature_columns(schema.names))
        if not self.names:
            raise DataError(f"{path}: no feature columns; expected numeric columns whose names lack {PREFIX}")
        for name in self.names:
            if not (pa.types.is_floating(schema.field(name).type) or pa.types.is_integer(schema.field(name).type)):
                raise DataError(
                    f"{path}: feature column {name} has type {schema.field(name).type}, expected numbers"
                )
        sizes = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self._kept: tuple[int, np.ndarray] | None = None
        # A batch may be asked for while the next plates are read in the background.
        self._lock = threading.Lock()

    def metadata(self) -> pd.DataFrame:
        """Return the metadata of all rows, checked; it is not kept."""
        labels = [name for name in self._file.schema_arrow.names if name.startswith(PREFIX)]
        try:
            table = self._file.read(columns=labels).to_pandas()
        except (pa.ArrowException, OSError) as error:
            raise self._unreadable(error) from error
        for name, column in COLUMNS.items():
            if name in table:
                check_column(name, column, table[name], self.where)
            elif column.required:
                raise DataError(f"{self.where}: column {name} is missing; a profiles file must have it")
        return table

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of these rows, in this order, (n, D) float32; DataError if one is not finite."""
        rows = np.asarray(rows, dtype=np.int64)
        features = np.empty((len(rows), len(self.names)), dtype=np.float32)
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        with self._lock:
            for group in np.unique(groups):
                here = groups == group
                features[here] = self._group(int(group))[rows[here] - self._starts[group]]
        self._check_finite(features, rows)
        return features

    def _group(self, group: int) -> np.ndarray:
        """Return a row group, (n, D) float32."""
        if self._kept is None or self._kept[0] != group:
            # Let go of the last one before the next is made.
            self._kept = None
            size = int(self._starts[group + 1] - self._starts[group])
            decoded = np.empty((size, len(self.names)), dtype=np.float32)
            for first in range(0, len(self.names), COLUMNS_AT_ONCE):
                names = self.names[first : first + COLUMNS_AT_ONCE]
                try:
                    table = self._file.read_row_group(group, columns=list(names), use_threads=False)
                except (pa.ArrowException, OSError) as error:
                    raise self._unreadable(error) from error
                part = np.stack([table.column(name).to_numpy().astype(np.float32, copy=False) for name in names])
                decoded[:, first : first + len(names)] = part.T
            self._kept = (group, decoded)
        return self._kept[1]

    def _check_finite(self, features: np.ndarray, rows: np.ndarray) -> None:
        finite = np.isfinite(features)
        if not finite.all():
            row, column = (int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"{self.where}: feature {self.names[column]} is {features[row, column]} in row {rows[row]}; "
                f"profiles must be finite"
            )

    def _unreadable(self, error: Exception) -> DataError:
        reason = str(error).splitlines()[0]
        return DataError(f"{self.where}: not a readable parquet file ({reason}); expected a profiles file")
