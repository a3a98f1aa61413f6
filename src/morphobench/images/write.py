"""Writing one unit of an image store: samples are streamed to disk and appear under their final names at the end.

Of a unit there are ``<unit>.npy`` (N, C, H, W), ``<unit>.parquet`` (N rows of metadata), ``<unit>.excluded.csv``
and ``<unit>.json`` (counts, sums for the plates' statistics). The last appears last and marks the unit as whole.
The same input gives the same bytes; times go to the log only.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from morphobench.errors import DataError
from morphobench.files import atomic_path, write_json
from morphobench.images.layout import channel_names, unit_paths, write_excluded
from morphobench.images.npy import GrowingArray
from morphobench.images.statistics import PlateSums
from morphobench.images.unit import Excluded, Sample, UnitFiles
from morphobench.profiles import COLUMNS, PREFIX, check_column

CHUNK = 10_000
PROGRESS_S = 20
Reader = Callable[[UnitFiles], Iterable[Sample | Excluded]]


def write_unit(
    reader: Reader, unit_files: UnitFiles, folder: str | Path, *, channels: Sequence[str | Mapping[str, Any]]
) -> dict[str, Any]:
    """Read one unit and write its files.

    Samples are written as they come; only their metadata are kept in memory. If the process dies, no file of the
    unit stands under its final name (or all that do are whole, and ``<unit>.json`` is not among them); what an
    earlier attempt left behind is removed.

    Parameters
    ----------
    reader
        Yields :class:`~morphobench.images.unit.Sample` and :class:`~morphobench.images.unit.Excluded`.
    unit_files
        The unit.
    folder
        The store's folder.
    channels
        The channels, in the order of the pixels.

    Returns
    -------
    dict
        What ``<unit>.json`` holds.

    Raises
    ------
    DataError
        If samples differ in shape or type or do not fit the channels, if metadata break the columns' schema, or if
        the disk is full.
    """
    unit, names = unit_files.unit, channel_names(channels)
    paths = unit_paths(folder, unit)
    for path in reversed(paths.values()):
        path.unlink(missing_ok=True)
        for part in path.parent.glob(f".{path.name}.*.part"):
            part.unlink()
    excluded: list[Excluded] = []
    table, sums, started = _Table(unit), PlateSums(len(names)), time.monotonic()
    told = started
    with _disk(paths["npy"]), atomic_path(paths["npy"]) as npy_part, atomic_path(paths["parquet"]) as table_part:
        with GrowingArray(npy_part, ((len(names), 0, 0), np.uint8)) as array:
            for sample in _samples(reader(unit_files), excluded):
                _check_sample(sample, array, names, unit)
                array.append(sample.pixels)
                table.append(sample.metadata)
                plate, control = (sample.metadata.get(f"Metadata_{c}") for c in ("Plate", "Control"))
                sums.add(sample.pixels, str(plate), control == "negcon")
                if time.monotonic() - told > PROGRESS_S:
                    told = time.monotonic()
                    print(f"{unit}: {array.rows:,} samples in {told - started:.0f} s", flush=True)
        pq.write_table(table.finish(), table_part)
    with _disk(paths["npy"]):
        write_excluded(paths["excluded.csv"], [(unit, *astuple(row)) for row in excluded])
        facts = {
            "unit": unit,
            "channels": names,
            "samples": array.rows,
            "excluded": len(excluded),
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "pixels_sha256": array.sha256(),
            "plates": sums.plates,
        }
        write_json(paths["json"], facts)
    seconds = time.monotonic() - started
    rate = array.rows / max(seconds, 1e-9)
    print(f"{unit}: {array.rows:,} samples, {len(excluded):,} excluded, {seconds:.1f} s, {rate:.0f} samples/s")
    return facts


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"{path}: the disk is full; the unit was not written, free some space and try again"
        ) from None


def _samples(rows: Iterable[Sample | Excluded], excluded: list[Excluded]) -> Iterator[Sample]:
    for row in rows:
        if isinstance(row, Excluded):
            excluded.append(row)
        else:
            yield row


def _name(sample: Sample) -> str:
    parts = (f"{p.lower()} {sample.metadata.get(PREFIX + p)}" for p in ("Plate", "Well", "Site"))
    return ", ".join(parts)


def _check_sample(sample: Sample, array: GrowingArray, names: Sequence[str], unit: str) -> None:
    pixels, where = sample.pixels, f"unit {unit}, {_name(sample)}"
    if pixels.ndim != 3 or pixels.shape[0] != len(names):
        raise DataError(f"{where}: pixels have shape {pixels.shape}, expected ({len(names)}, H, W)")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{where}: pixels are {pixels.dtype}, expected uint8 or uint16")
    if array.rows and (pixels.shape, pixels.dtype) != (array.shape, array.dtype):
        raise DataError(
            f"{where}: pixels are {pixels.shape} {pixels.dtype}, "
            f"expected {array.shape} {array.dtype} as of the samples before"
        )


class _Table:
    """Metadata rows, kept as arrow tables because dictionaries of a million cells would fill the memory."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.done: list[pa.Table] = []
        self.rows: list[dict[str, Any]] = []

    def append(self, metadata: dict[str, Any]) -> None:
        self.rows.append(metadata)
        if len(self.rows) == CHUNK:
            self._pack()

    def _pack(self) -> None:
        frame = pd.DataFrame(self.rows)
        check_metadata(frame, f"unit {self.unit}, samples from {sum(map(len, self.done))}")
        try:
            self.done.append(pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata())
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"unit {self.unit}: a metadata column mixes types ({error.args[-1]})") from error
        self.rows = []

    def finish(self) -> pa.Table:
        if self.rows:
            self._pack()
        if not self.done:
            return pa.table({})
        try:
            return pa.concat_tables(self.done, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"unit {self.unit}: a metadata column mixes types ({error.args[-1]})") from error


def check_metadata(frame: pd.DataFrame, where: str) -> None:
    """Raise DataError unless the metadata of samples keep to the schema of the columns."""
    for name in frame.columns:
        if not str(name).startswith(PREFIX):
            raise DataError(f"{where}: column {name} of the samples does not start with {PREFIX}")
    for name, column in COLUMNS.items():
        if name in frame:
            values = frame[name]
            # A column that is empty for all of these samples may still hold numbers for others.
            if column.dtype == "string" or values.notna().any():
                check_column(name, column, values, where)
        elif column.required:
            raise DataError(f"{where}: column {name} is missing; every sample must have it")
