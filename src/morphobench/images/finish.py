"""Making one store of the units that jobs have written: checks, samples, statistics, folds, ``store.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from morphobench.errors import DataError
from morphobench.files import atomic_path, write_json
from morphobench.images.folds import IDENTITY, assign_folds, fold_columns
from morphobench.images.layout import FORMAT, channel_names, read_excluded, unit_paths, write_excluded
from morphobench.images.statistics import plate_statistics


def finish_store(
    folder: str | Path,
    units: Sequence[str],
    channels: Sequence[str | Mapping[str, Any]],
    folds: Mapping[str, Any] | None,
    **facts: Any,
) -> dict[str, Any]:
    """Check the units of a store and write what spans them.

    Written are, besides the files of the units:

    ``samples.parquet``
        Metadata of all samples, unit after unit, with ``Metadata_Unit`` and ``Metadata_Row`` (row of the unit).
    ``statistics.parquet``
        One row a plate and channel: ``Metadata_Plate``, ``channel``, ``controls``, ``control_mean``,
        ``control_std`` over all pixels of the plate's negative controls (their number of images in ``controls``),
        ``images``, ``image_mean``, ``image_std`` over all its images. Units: stored pixel values; standard
        deviations are those of the population of pixels.
    ``folds.parquet``
        See :func:`morphobench.images.folds.assign_folds`.
    ``excluded.csv``
        ``unit, what, id, reason``: what the units left out and, as ``plate``, each plate without negative
        controls. Such a plate is kept; its ``control_mean`` and ``control_std`` are NaN.
    ``store.json``
        Format, shape (C, H, W), dtype, channels, number of samples, units with their numbers of samples and the
        SHA-256 of their pixels, and ``facts``. It is written last.

    Parameters
    ----------
    folder
        The store's folder.
    units
        The units, in the order of the samples.
    channels
        The channels as in the spec: names, or mappings with a ``name``.
    folds
        The spec of the folds, None for ``Metadata_Split`` as the only one.
    **facts
        More to keep in ``store.json``, such as ``pixel_size_um``.

    Returns
    -------
    dict
        What ``store.json`` holds.

    Raises
    ------
    DataError
        If a unit is missing or incomplete, units differ in shape, type or channels, no unit has samples, columns
        of two units have different types, or a sample (plate, well, site, ... cell) occurs twice.
    """
    folder = Path(folder)
    (folder / "store.json").unlink(missing_ok=True)
    records = [_read_unit(folder, unit) for unit in units]
    first = _check_agreement(folder, records, channel_names(channels))
    with atomic_path(folder / "samples.parquet") as part:
        _write_samples(folder, records, part)
        _check_duplicates(part)
        columns = [c for c in fold_columns(folds) if c in pq.read_schema(part).names]
        _write_frame(
            assign_folds(pq.read_table(part, columns=columns).to_pandas(), folds), folder / "folds.parquet"
        )
    statistics = plate_statistics(records, channel_names(channels))
    _write_frame(statistics, folder / "statistics.parquet")
    excluded = [row for unit in units for row in read_excluded(unit_paths(folder, unit)["excluded.csv"])]
    for plate in statistics.loc[statistics["controls"] == 0, "Metadata_Plate"].unique():
        excluded.append(["", "plate", plate, "no negative controls: no control statistics of this plate"])
    write_excluded(folder / "excluded.csv", excluded)
    store = {
        **facts,
        "format": FORMAT,
        "shape": first["shape"],
        "dtype": first["dtype"],
        "channels": [{"name": c} if isinstance(c, str) else dict(c) for c in channels],
        "samples": sum(r["samples"] for r in records),
        "excluded": len(excluded),
        "units": [{k: r[k] for k in ("unit", "samples", "pixels_sha256")} for r in records],
    }
    write_json(folder / "store.json", store)
    return store


def _read_unit(folder: Path, unit: str) -> dict[str, Any]:
    """Return ``<unit>.json`` after checking that the unit's other files are as it says."""
    paths = unit_paths(folder, unit)
    for path in paths.values():
        if not path.is_file():
            raise DataError(f"{path}: no such file; unit {unit} is not prepared or was interrupted")
    record = json.loads(paths["json"].read_text(encoding="utf-8"))
    expected = (record["samples"], *record["shape"])
    with open(paths["npy"], "rb") as stream:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        size = stream.tell() + math.prod(shape) * dtype.itemsize
    if (shape, dtype.name) != (expected, record["dtype"]) or paths["npy"].stat().st_size != size:
        raise DataError(
            f"{paths['npy']}: {paths['npy'].stat().st_size} bytes of {shape} {dtype.name}, "
            f"expected {size} bytes of {expected} {record['dtype']}"
        )
    rows = pq.read_metadata(paths["parquet"]).num_rows
    if rows != record["samples"]:
        raise DataError(f"{paths['parquet']}: {rows} rows, expected one for each of {record['samples']} samples")
    return record


def _check_agreement(
    folder: Path, records: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Mapping[str, Any]:
    """Return the first unit that has samples; DataError if another has different pixels."""
    for record in records:
        if record["channels"] != list(names):
            found, expected = ", ".join(record["channels"]), ", ".join(names)
            raise DataError(f"{folder}: unit {record['unit']} has channels {found}, expected {expected}")
    filled = [r for r in records if r["samples"]]
    if not filled:
        raise DataError(
            f"{folder}: none of the {len(records)} units has a sample; excluded.csv of a unit says why"
        )
    first = filled[0]
    for record in filled[1:]:
        for what in ("shape", "dtype"):
            if record[what] != first[what]:
                raise DataError(
                    f"{folder}: images of unit {record['unit']} have {what} {record[what]}, "
                    f"those of unit {first['unit']} {first[what]}; all units must agree"
                )
    return first


def _write_samples(folder: Path, records: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the metadata of all units, one unit in memory at a time."""
    filled = [r for r in records if r["samples"]]
    files = [unit_paths(folder, r["unit"])["parquet"] for r in filled]
    schemas = [pq.read_schema(f) for f in files]
    own = [pa.field("Metadata_Unit", pa.string()), pa.field("Metadata_Row", pa.int64())]
    schema = schemas[0]
    for file, other in zip(files, schemas, strict=True):
        try:
            schema = pa.unify_schemas([schema, other], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"{file}: columns differ in type from those of other units ({error})") from error
    schema = pa.schema([*schema, *own])
    with pq.ParquetWriter(path, schema) as writer:
        for record, file in zip(filled, files, strict=True):
            table, count = pq.read_table(file), record["samples"]
            table = table.append_column(own[0], pa.repeat(record["unit"], count))
            table = table.append_column(own[1], pa.array(np.arange(count)))
            arrays = [
                table.column(f.name).cast(f.type) if f.name in table.column_names else pa.nulls(count, f.type)
                for f in schema
            ]
            writer.write_table(pa.table(arrays, schema=schema))


def _check_duplicates(samples: Path) -> None:
    key = [c for c in IDENTITY if c in pq.read_schema(samples).names]
    frame = pq.read_table(samples, columns=[*key, "Metadata_Unit"]).to_pandas()
    twice = frame.duplicated(key)
    if twice.any():
        row = frame[twice].iloc[0]
        same = (frame[key].eq(row[key]) | (frame[key].isna() & row[key].isna())).all(axis=1)
        units = " and ".join(frame.loc[same, "Metadata_Unit"].unique())
        name = ", ".join(f"{c.removeprefix('Metadata_').lower()} {row[c]}" for c in key if pd.notna(row[c]))
        raise DataError(
            f"{name}: {same.sum()} samples, in unit {units}; each must be there once ({twice.sum()} in all)"
        )


def _write_frame(frame: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as part:
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), part)
