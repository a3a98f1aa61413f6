"""Profiles: the one table that every representation, correction, metric and plot shares.

A profiles file is one parquet file: columns ``Metadata_*`` first, then numeric feature columns (float32), one
row per well (or per gene, guide or cell). It is the layout of pycytominer, copairs and the JUMP releases.
:data:`COLUMNS` is the only place where column names, types and allowed values are stated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from morphobench.errors import DataError
from morphobench.files import atomic_path

PREFIX = "Metadata_"
PROVENANCE_KEY = b"morphobench"


@dataclass(frozen=True)
class Column:
    """What one metadata column must be.

    Attributes
    ----------
    dtype
        ``"string"`` or ``"number"``.
    required
        Whether every profiles file must have it.
    values
        The allowed values, or None for any.
    meaning
        One line for the documentation.
    """

    dtype: str
    required: bool
    values: tuple[str, ...] | None
    meaning: str


COLUMNS: dict[str, Column] = {
    "Metadata_Batch": Column("string", True, None, "experimental batch: what a correction removes"),
    "Metadata_Plate": Column("string", True, None, "plate barcode"),
    "Metadata_Well": Column("string", True, None, "well of the plate; with the plate it names the row"),
    "Metadata_Perturbation": Column("string", True, None, "what was done to the cells: compound at a dose, gene"),
    "Metadata_Control": Column("string", True, ("negcon", "poscon", "trt"), "control type of the well"),
    "Metadata_Split": Column("string", True, ("train", "val", "test"), "what the well may be used for"),
    "Metadata_Compound": Column("string", False, None, "compound without its dose"),
    "Metadata_Concentration": Column("number", False, None, "dose in micromolar"),
    "Metadata_MoA": Column("string", False, None, "mechanism of action; empty where unknown"),
    "Metadata_Gene": Column("string", False, None, "gene perturbed"),
    "Metadata_CellLine": Column("string", False, None, "cell line"),
    "Metadata_Source": Column("string", False, None, "laboratory"),
    "Metadata_Site": Column("string", False, None, "field of view"),
    "Metadata_Microscope": Column("string", False, None, "microscope of the laboratory"),
    "Metadata_PlateType": Column("string", False, None, "JUMP plate type"),
    "Metadata_Guide": Column("string", False, None, "guide RNA"),
    "Metadata_Tile": Column("number", False, None, "number of the tile of a well or a field of view"),
    "Metadata_Time": Column("number", False, None, "hours since the first image of the plate"),
    "Metadata_X": Column("number", False, None, "position in the field of view, in pixels"),
    "Metadata_Y": Column("number", False, None, "position in the field of view, in pixels"),
    "Metadata_CellCount": Column("number", False, None, "cells that were measured together"),
    "Metadata_DoseLevel": Column("number", False, None, "rank of the dose, 0 for none"),
    "Metadata_Filter": Column("string", False, None, "filter set of the microscope"),
    "Metadata_CellProfiler": Column("string", False, None, "version of CellProfiler"),
    "Metadata_Replicate": Column("number", False, None, "replicate index of the plate"),
    "Metadata_ProbePrediction": Column("string", False, None, "class that a model's own linear head predicts"),
}


@dataclass(frozen=True)
class Profiles:
    """A profiles table in memory.

    Attributes
    ----------
    metadata
        (N, M) data frame with the ``Metadata_*`` columns, index 0..N-1.
    features
        (N, D) float32 array, C-contiguous.
    names
        The D feature names.
    provenance
        JSON-able facts about how the file came to be (dataset, method, correction, fitted values, versions).
    """

    metadata: pd.DataFrame
    features: np.ndarray
    names: tuple[str, ...]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.metadata)

    def column(self, name: str) -> np.ndarray:
        """Return a metadata column as an array; DataError if the profiles lack it."""
        if name not in self.metadata:
            raise DataError(f"profiles have no column {name}; they have {', '.join(self.metadata.columns)}")
        return self.metadata[name].to_numpy()

    def with_features(self, features: np.ndarray, names: tuple[str, ...] | None = None, **facts: Any) -> Profiles:
        """Return the same rows with other features; ``facts`` are added to the provenance."""
        features = np.ascontiguousarray(features, dtype=np.float32)
        if names is None:
            names = (
                self.names
                if features.shape[1] == len(self.names)
                else tuple(f"feature_{i:04d}" for i in range(features.shape[1]))
            )
        return replace(self, features=features, names=tuple(names), provenance={**self.provenance, **facts})

    def rows(self, mask: np.ndarray) -> Profiles:
        """Return the rows that ``mask`` (boolean or integer index) selects."""
        return replace(self, metadata=self.metadata.loc[mask].reset_index(drop=True), features=self.features[mask])


def feature_columns(columns) -> list[str]:
    """Return the names among ``columns`` that are features, in their order."""
    return [c for c in columns if not str(c).startswith(PREFIX)]


def _check_names(names: list[str], where: str) -> None:
    """Raise DataError if a column name occurs twice: a parquet file could not tell the two apart."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        if name in places:
            raise DataError(
                f"{where}: column {name} occurs twice, as columns {places[name]} and {place}; "
                f"each name must be unique"
            )
        places[name] = place


def check_column(name: str, column: Column, values: pd.Series, where: str) -> None:
    """Raise DataError for the first value that a known metadata column must not have."""
    if column.dtype == "number" and not pd.api.types.is_numeric_dtype(values):
        raise DataError(f"{where}: column {name} has type {values.dtype}, expected numbers")
    known = values.notna().to_numpy()
    if column.dtype == "string":
        # The test by inference is fast, the one by value says where.
        if pd.api.types.infer_dtype(values, skipna=True) != "string":
            text = np.fromiter((isinstance(v, str) for v in values), bool, len(values))
            wrong = np.flatnonzero(known & ~text)
            if len(wrong):
                row, found = int(wrong[0]), values.iloc[wrong[0]]
                raise DataError(
                    f"{where}: column {name} has {found} ({type(found).__name__}) in row {row}, expected text"
                )
        known = known & ~values.isin([""]).to_numpy()
    if column.required and not known.all():
        row = int(np.flatnonzero(~known)[0])
        raise DataError(f"{where}: column {name} is empty in row {row}; every row needs a value")
    if column.values is not None and (bad := ~values.isin(column.values)).any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{where}: column {name} has {values.iloc[row]!r} in row {row}, "
            f"expected one of {', '.join(column.values)}"
        )


def check_profiles(profiles: Profiles, where: str, *, allow_nan: bool = False) -> None:
    """Raise DataError, one sentence naming ``where`` and the column or row, unless the profiles are sound.

    Checked: required columns, duplicate names, missing, empty or disallowed metadata values, column types, shapes,
    feature dtype, NaN or infinite features (unless ``allow_nan``), duplicate wells (plate, well, site).
    """
    metadata, features = profiles.metadata, profiles.features
    _check_names([*metadata.columns, *profiles.names], where)
    for name, column in COLUMNS.items():
        if name in metadata:
            check_column(name, column, metadata[name], where)
        elif column.required:
            raise DataError(f"{where}: column {name} is missing; a profiles file must have it")
    if features.ndim != 2 or features.shape != (len(metadata), len(profiles.names)):
        raise DataError(
            f"{where}: features have shape {features.shape}, "
            f"expected ({len(metadata)}, {len(profiles.names)}) for its rows and names"
        )
    if not len(metadata):
        raise DataError(f"{where}: no rows; a profiles file must have at least one")
    if not profiles.names:
        raise DataError(f"{where}: no feature columns; expected numeric columns whose names lack {PREFIX}")
    if not allow_nan:
        finite = np.isfinite(features)
        if not finite.all():
            row, col = (int(i) for i in np.argwhere(~finite)[0])
            raise DataError(
                f"{where}: feature {profiles.names[col]} is {features[row, col]} in row {row} "
                f"(plate {metadata['Metadata_Plate'].iloc[row]}, well {metadata['Metadata_Well'].iloc[row]}); "
                f"profiles must be finite"
            )
    key = [c for c in ("Metadata_Plate", "Metadata_Well", "Metadata_Site") if c in metadata]
    twice = metadata.duplicated(key)
    if twice.any():
        row = int(np.flatnonzero(twice)[0])
        raise DataError(
            f"{where}: well {metadata['Metadata_Well'].iloc[row]} of plate {metadata['Metadata_Plate'].iloc[row]} "
            f"occurs again in row {row}; each well must be one row"
        )


def profiles_from_frame(frame: pd.DataFrame, provenance: dict[str, Any] | None = None) -> Profiles:
    """Split a wide data frame into metadata and float32 features; no checks beyond numeric features."""
    names = feature_columns(frame.columns)
    for name in names:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            raise DataError(f"feature column {name} has type {frame[name].dtype}, expected numbers")
    metadata = frame[[c for c in frame.columns if c not in set(names)]].reset_index(drop=True)
    features = np.ascontiguousarray(frame[names].to_numpy(dtype=np.float32))
    return Profiles(metadata, features, tuple(names), dict(provenance or {}))


def to_arrow(profiles: Profiles) -> pa.Table:
    """Return the profiles as an arrow table: metadata first, then float32 features, provenance as metadata."""
    arrays = [pa.array(profiles.metadata[c], from_pandas=True) for c in profiles.metadata]
    arrays += [pa.array(column) for column in profiles.features.T]
    table = pa.table(dict(zip([*profiles.metadata.columns, *profiles.names], arrays, strict=True)))
    text = json.dumps(profiles.provenance, sort_keys=True).encode()
    return table.replace_schema_metadata({PROVENANCE_KEY: text})


def write_profiles(profiles: Profiles, path: str | Path) -> None:
    """Check the profiles and write them to ``path`` atomically (parquet, zstd)."""
    check_profiles(profiles, str(path))
    with atomic_path(path) as part:
        pq.write_table(to_arrow(profiles), part, compression="zstd")


def read_profiles(path: str | Path) -> Profiles:
    """Read and check a profiles file.

    Raises
    ------
    DataError
        If the file is missing, is no readable parquet file, or breaks the schema (see :func:`check_profiles`).
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a profiles file (parquet)")
    try:
        _check_names(pq.read_schema(path).names, str(path))
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        text = str(error).splitlines()[0]
        raise DataError(f"{path}: not a readable parquet file ({text}); expected a profiles file") from error
    raw = (table.schema.metadata or {}).get(PROVENANCE_KEY, b"{}")
    names = feature_columns(table.column_names)
    features = np.empty((table.num_rows, len(names)), dtype=np.float32)
    for i, name in enumerate(names):
        column = table.column(name)
        if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
            raise DataError(f"{path}: feature column {name} has type {column.type}, expected numbers")
        features[:, i] = column.to_numpy()
    metadata = table.select([c for c in table.column_names if c.startswith(PREFIX)]).to_pandas()
    profiles = Profiles(metadata, features, tuple(names), json.loads(raw))
    check_profiles(profiles, str(path))
    return profiles
