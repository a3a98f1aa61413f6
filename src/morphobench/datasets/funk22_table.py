"""The cell table of the Funk et al. 2022 pooled screen: parquet parts in a Dataverse data set, one row a cell.

The table lies in two folders of parts, one of interphase and one of mitotic cells. Parts are not ordered by plate
or well, so whoever wants one well scans the key columns of all parts; features are never read for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from morphobench.datasets.collection import need_columns, need_file
from morphobench.errors import DataError, FetchError, SpecError
from morphobench.fetch.dataverse import parse_listing
from morphobench.fetch.requests import RawFile

DATAVERSE = "https://dataverse.harvard.edu"
DATAFILE = DATAVERSE + "/api/access/datafile/{id}"
STAGES = {
    "interphase-reclassified_cp_phenotype_normalized.parquet": "interphase",
    "mitotic-reclassified_cp_phenotype_normalized.parquet": "mitotic",
}
CONTROL = "nontargeting"
KEY = ("plate", "well", "tile", "sgRNA_0", "gene_symbol_0", "cell_i", "cell_j")


@dataclass(frozen=True)
class Part:
    """One parquet file of the table.

    Attributes
    ----------
    id
        Its number in the Dataverse, by which it is fetched.
    table
        The folder it belongs to, a key of :data:`STAGES`.
    raw
        Address, folder and name, size and checksum.
    """

    id: str
    table: str
    raw: RawFile

    @property
    def name(self) -> str:
        """Folder and file name."""
        return self.raw.local


def list_parts(path: Path, tables: Iterable[str] | None = None) -> list[Part]:
    """Read which parts there are from the Dataverse's listing of the data set.

    Parameters
    ----------
    path
        Answer of ``api/datasets/:persistentId/?persistentId=...`` (JSON).
    tables
        The folders wanted, by default those of :data:`STAGES`. A folder is the last part of a file's directory.

    Returns
    -------
    list of Part
        By folder and file name.

    Raises
    ------
    DataError
        If the file is not such a listing, or has no part of a wanted folder.
    """
    tables = list(STAGES if tables is None else tables)
    try:
        files = parse_listing(path.read_bytes(), str(path), DATAVERSE)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected the Dataverse's listing") from error
    except FetchError as error:
        raise DataError(str(error)) from error
    found = []
    for file in files:
        table = file.directory.split("/")[-1]
        if table in tables and file.name.endswith(".parquet"):
            checksum = f"md5:{file.md5}" if file.md5 else None
            found.append(
                Part(
                    str(file.id), table, RawFile(file.url, f"{table}/{file.name}", None, file.size, checksum, True)
                )
            )
    for table in tables:
        if not any(part.table == table for part in found):
            raise DataError(f"{path}: lists {len(files)} files, none of them a parquet part in folder {table}")
    return sorted(found, key=lambda part: (tables.index(part.table), len(part.name), part.name))


def choose_parts(path: Path, tables: Iterable[str] | None, wanted: int | Iterable[str] | None) -> list[Part]:
    """Return the parts to use: all of them, the first ``wanted`` of each folder, or those with the given names."""
    parts = list_parts(path, tables)
    if wanted is None:
        return parts
    if isinstance(wanted, int):
        return [p for _, group in groupby(parts, key=lambda p: p.table) for p in islice(group, wanted)]
    names = list(wanted)
    unknown = sorted(set(names) - {part.name for part in parts})
    if unknown:
        raise SpecError(f"{path}: lists no part {unknown[0]!r}, which the options ask for")
    return [part for part in parts if part.name in set(names)]


def select_parts(files: Mapping[str, Path], select: Mapping[str, Any]) -> pd.DataFrame:
    """Select the parts that the profiles need, as a selector of the ``plates`` key of a dataset spec.

    Parameters
    ----------
    files
        ``listing``: the Dataverse's listing.
    select
        ``tables``: folders (by default both); ``parts``: so many of each folder, or names (by default all).

    Returns
    -------
    pandas.DataFrame
        ``Metadata_Source`` (``dataverse``), ``Metadata_Batch`` (the folder), ``Metadata_Plate`` (the file's id).
    """
    parts = choose_parts(need_file(files, "listing"), select.get("tables"), select.get("parts"))
    rows = [("dataverse", part.table, part.id) for part in parts]
    return pd.DataFrame(rows, columns=["Metadata_Source", "Metadata_Batch", "Metadata_Plate"])


def open_part(path: Path, columns: Iterable[str]) -> pq.ParquetFile:
    """Open a part that must have ``columns``; DataError, naming the file, if it cannot be read or lacks one."""
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    try:
        need_columns(path, file.schema_arrow.names, columns)
    except DataError:
        file.close()
        raise
    return file


def batches(file: pq.ParquetFile, path: Path, columns: Iterable[str]) -> Iterator[pa.Table]:
    """Yield a part's rows, a bounded number at a time; DataError if it is damaged."""
    try:
        for batch in file.iter_batches(batch_size=20_000, columns=list(columns)):
            yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]}); fetch it again")


def cells_of_well(parts: Iterable[tuple[Path, str]], plate: str, well: str) -> pd.DataFrame:
    """Read where the cells of one well lie, in the order of tile and position.

    Parameters
    ----------
    parts
        Files with the stage of their cells.
    plate, well
        As in the columns of these names.

    Returns
    -------
    pandas.DataFrame
        :data:`KEY` and ``stage``; ``tile`` float64 (NaN where it is no whole number), positions float64.
    """
    found = []
    for path, stage in parts:
        with open_part(path, KEY) as file:
            columns = [*KEY, *(["stage"] if "stage" in file.schema_arrow.names else [])]
            for table in batches(file, path, columns):
                here = pc.and_(
                    pc.equal(pc.cast(table["plate"], pa.string()), plate),
                    pc.equal(pc.cast(table["well"], pa.string()), well),
                )
                rows = table.filter(here).to_pandas(ignore_metadata=True)
                found.append(rows if "stage" in columns else rows.assign(stage=stage))
    found = [rows for rows in found if len(rows)]
    if not found:
        return pd.DataFrame({c: pd.Series(dtype=float) for c in (*KEY, "stage")})
    cells = pd.concat(found, ignore_index=True)
    for column in ("tile", "cell_i", "cell_j"):
        cells[column] = pd.to_numeric(cells[column].astype(object), errors="coerce").astype(np.float64)
    cells["tile"] = cells["tile"].where(np.isfinite(cells["tile"]) & (cells["tile"] % 1 == 0))
    return cells.sort_values(["tile", "cell_i", "cell_j", "sgRNA_0"], kind="stable").reset_index(drop=True)
