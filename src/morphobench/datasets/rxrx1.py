"""RxRx1 (Recursion): siRNA knockdown in 51 experiments; here one experiment is a unit, a batch and CDCL's domain.

Images are members ``rxrx1/images/<experiment>/Plate<k>/<well>_s<site>_w<channel>.png`` of one zip of 49 GB, of
which the wanted ones are read by byte ranges; what they show stands in ``rxrx1/metadata.csv`` of another zip.
Channels w1 to w6: Hoechst, concanavalin A, phalloidin, SYTO 14, MitoTracker, wheat germ agglutinin. Layout and
columns: README of recursionpharma/rxrx-datasets; the domain is CDCL's (Haslum et al. 2023, authors' code,
``defaults/datasets.py``).
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.datasets.collection import need_columns, need_file, refuse_duplicates
from morphobench.datasets.fields import Field, grey8, parse_options, read_fields
from morphobench.errors import DataError
from morphobench.fetch.requests import RawFile, Variant
from morphobench.images.unit import Excluded, Sample, UnitFiles

MEMBER = "rxrx1/metadata.csv"
COLUMNS = ("cell_type", "experiment", "plate", "well", "site", "well_type", "sirna", "sirna_id")
CHANNELS = (1, 2, 3, 4, 5, 6)
CONTROLS = {"negative_control": "negcon", "positive_control": "poscon", "treatment": "trt"}


@dataclass(frozen=True)
class Options:
    """``images.options`` of the spec.

    Attributes
    ----------
    archive
        Address of the zip of images.
    size
        Height and width of the samples, in pixels.
    raw_size
        Height and width of the provider's images; null for any.
    sites, wells, plates
        Which to take of each experiment, such as ``[1]``, ``[B02, C07]``, ``[1, 2]``; null for all.
    """

    archive: str
    size: int = 256
    raw_size: int | None = 512
    sites: tuple | None = None
    wells: tuple | None = None
    plates: tuple | None = None


def list_files(unit: str, files: Mapping[str, Path], options: Mapping[str, Any]) -> list[Variant]:
    """Return the images of an experiment: one variant, a member of the zip for each channel of each site.

    Parameters
    ----------
    unit
        The experiment, such as ``HUVEC-05``.
    files
        ``metadata``, the zip with ``rxrx1/metadata.csv``.
    options
        See :class:`Options`.

    Raises
    ------
    DataError
        If the table is not as expected or has nothing of the experiment that the options want.
    """
    chosen = parse_options(Options, options)
    names = [name for field in _fields(unit, files, chosen) for name in field.names]
    return [Variant("zip", tuple(RawFile(chosen.archive, name, name) for name in names))]


def read_unit(unit: UnitFiles) -> Iterator[Sample | Excluded]:
    """Yield the sites of an experiment as (6, size, size) uint8, channels w1 to w6.

    Perturbation is the siRNA's id (``EMPTY`` where none was given), Class its number as published (0 to 1107
    treatments, to 1137 positive controls, 1138 untreated), Domain the number of the experiment from 0.

    Raises
    ------
    DataError
        See :func:`list_files`.
    """
    chosen = parse_options(Options, unit.options)
    yield from read_fields(unit, _fields(unit.unit, unit.files, chosen), grey8(chosen.raw_size), chosen.size)


def _fields(experiment: str, files: Mapping[str, Path], chosen: Options) -> list[Field]:
    table = _experiment(experiment, need_file(files, "metadata"))
    for column, wanted in (("site", chosen.sites), ("well", chosen.wells), ("plate", chosen.plates)):
        if wanted is not None:
            table = table[table[column].isin([str(w) for w in wanted])]
    if table.empty:
        raise DataError(f"{files['metadata']}: experiment {experiment} has no site that images.options select")
    return [_field(row) for row in table.to_dict("records")]


def _field(row: Mapping[str, Any]) -> Field:
    experiment, plate, well, site = (row[c] for c in ("experiment", "plate", "well", "site"))
    stem = f"rxrx1/images/{experiment}/Plate{plate}/{well}_s{site}"
    metadata = {
        "Metadata_Batch": experiment,
        "Metadata_Plate": f"{experiment}_Plate{plate}",
        "Metadata_Well": well,
        "Metadata_Site": site,
        "Metadata_Perturbation": row["sirna"],
        "Metadata_Control": CONTROLS[row["well_type"]],
        "Metadata_Split": "train",
        "Metadata_CellLine": row["cell_type"],
        "Metadata_Class": int(row["sirna_id"]),
        "Metadata_Domain": int(experiment[-2:]) - 1,
    }
    return Field(metadata, tuple(f"{stem}_w{c}.png" for c in CHANNELS))


def _experiment(experiment: str, path: Path) -> pd.DataFrame:
    """Return the rows of one experiment, all columns as text, sorted by plate, well and site."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(MEMBER) as stream:
            table = pd.read_csv(stream, dtype=str, keep_default_na=False, na_values=[""])
    except KeyError as error:
        raise DataError(f"{path}: has no member {MEMBER}; expected the metadata zip of RxRx1") from error
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: {MEMBER} is not readable ({reason}); expected a table in a zip") from error
    where = Path(f"{path}!{MEMBER}")
    need_columns(where, table.columns, COLUMNS)
    table = table.loc[table["experiment"] == experiment, list(COLUMNS)]
    if table.empty:
        raise DataError(f"{where}: has no rows of experiment {experiment}")
    _check(where, table)
    return table.sort_values(["plate", "well", "site"], kind="stable", ignore_index=True)


def _check(where: Path, table: pd.DataFrame) -> None:
    for column in COLUMNS:
        if table[column].isna().any():
            row = table.index[table[column].isna()][0]
            raise DataError(f"{where}: column {column} is empty in data row {row + 1}")
    rules = {"plate": r"\d+", "site": r"\d+", "sirna_id": r"\d+", "well": r"[A-P]\d\d", "experiment": r".*\d\d"}
    for column, rule in rules.items():
        bad = ~table[column].str.fullmatch(rule)
        if bad.any():
            row, found = table.index[bad][0], table.loc[bad, column].iloc[0]
            raise DataError(f"{where}: {column} is {found!r} in data row {row + 1}, expected a form like {rule}")
    bad = ~table["well_type"].isin(list(CONTROLS))
    if bad.any():
        row, found = table.index[bad][0], table.loc[bad, "well_type"].iloc[0]
        raise DataError(f"{where}: well_type is {found!r} in data row {row + 1}, expected {', '.join(CONTROLS)}")
    refuse_duplicates(where, table, ["experiment", "plate", "well", "site"], "site")
    wells = table[["experiment", "plate", "well", "well_type", "sirna", "sirna_id"]].drop_duplicates()
    refuse_duplicates(where, wells, ["experiment", "plate", "well"], "contradicting row of well")
