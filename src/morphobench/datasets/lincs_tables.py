"""Tables of the LINCS pilot (cpg0004, batch 1) joined: every well of every plate that has images.

Tables as in broadinstitute/lincs-cell-painting: ``barcode_platemap.csv``, one platemap a file, the list of plate
folders that have images, and the Drug Repurposing Hub's mechanisms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from morphobench.datasets.collection import need_columns, need_file, read_table, refuse_duplicates
from morphobench.errors import DataError

# A dose has the level, from 1, of the nearest of these, in micromolar (lincs-cell-painting, profile_cells.py).
DOSES = (0.04, 0.12, 0.37, 1.11, 3.33, 10.0, 20.0)
DMSO = "DMSO"
_BARCODES = ("Assay_Plate_Barcode", "Plate_Map_Name")
_PLATEMAP = ("plate_map_name", "well_position", "broad_sample", "mmoles_per_liter")
_MOA = ("broad_sample", "broad_id", "pert_iname", "moa")
# The part of a sample's id that names the compound; what follows is salt, batch and supplier.
_BROAD_ID = 13


def read_plates(files: Mapping[str, Path]) -> pd.DataFrame:
    """Return the plates that have images, sorted by barcode.

    Parameters
    ----------
    files
        ``barcode_platemap`` and ``plates``, the list of plate folders (``<barcode>__<time>-Measurement<k>``).

    Returns
    -------
    DataFrame
        Columns ``plate``, ``folder``, ``platemap`` and ``replicate``: the rank of the barcode among the plates of
        the same platemap, from 1. The rows that neural-profiling's index shows count replicates so.

    Raises
    ------
    DataError
        If a barcode occurs twice or a listed folder is not in the barcode table. Barcodes of the table that have
        no folder (four in the real one) are left out.
    """
    path, listed = need_file(files, "barcode_platemap"), need_file(files, "plates")
    barcodes = read_table(path, _BARCODES, dtype=str)
    refuse_duplicates(path, barcodes, ["Assay_Plate_Barcode"], "plate")
    maps = dict(zip(barcodes["Assay_Plate_Barcode"], barcodes["Plate_Map_Name"], strict=True))
    rows: dict[str, str] = {}
    for number, folder in enumerate(listed.read_text(encoding="utf-8").split(), start=1):
        plate, _, rest = folder.partition("__")
        if not rest:
            raise DataError(f"{listed}: line {number} is {folder!r}, expected <barcode>__<measurement>")
        if plate in rows:
            raise DataError(f"{listed}: plate {plate} occurs again in line {number}; expected it once")
        if plate not in maps:
            raise DataError(f"{path}: has no row of plate {plate}, which {listed} lists")
        rows[plate] = folder
    table = pd.DataFrame({"plate": sorted(rows)})
    table["folder"] = table["plate"].map(rows)
    table["platemap"] = table["plate"].map(maps)
    table["replicate"] = table.groupby("platemap").cumcount() + 1
    return table


def read_platemap(path: Path, name: str, *, suffix: str = "") -> pd.DataFrame:
    """Return the wells of a platemap.

    Parameters
    ----------
    path
        Tab-separated table; ``mmoles_per_liter`` holds micromolar values, an empty ``broad_sample`` is DMSO.
    name
        What ``plate_map_name`` must be.
    suffix
        Text for errors after the path.

    Returns
    -------
    DataFrame
        Columns ``well``, ``broad_sample`` (``DMSO`` for solvent), ``concentration`` in micromolar (0 for solvent)
        and ``level`` 0 to 7.

    Raises
    ------
    DataError
        If a well occurs twice, is no well, or has a compound without a dose or the reverse.
    """
    where = f"{path}{suffix}"
    table = read_table(path, (), dtype=str, sep="\t")
    need_columns(path, table.columns, _PLATEMAP)
    refuse_duplicates(path, table, ["well_position"], "well")
    _need(where, table, table["plate_map_name"] == name, "plate_map_name", name)
    _need(
        where, table, table["well_position"].fillna("").str.fullmatch(r"[A-P]\d\d"), "well_position", "A01 to P24"
    )
    solvent = table["broad_sample"].isna()
    dose = pd.to_numeric(table["mmoles_per_liter"], errors="coerce")
    _need(
        where, table, solvent == table["mmoles_per_liter"].isna(), "mmoles_per_liter", "a dose for each compound"
    )
    _need(where, table, solvent | (dose > 0), "mmoles_per_liter", "a number above 0")
    # Python reads 9.99999999999999999 as 10.0, pandas as the number after it.
    dose = np.array(
        [0.0 if empty else float(d) for d, empty in zip(table["mmoles_per_liter"], solvent, strict=True)]
    )
    level = np.abs(dose[:, None] - np.array(DOSES)).argmin(axis=1) + 1
    wells = pd.DataFrame({"well": table["well_position"], "broad_sample": table["broad_sample"].fillna(DMSO)})
    wells["concentration"] = dose
    wells["level"] = np.where(solvent, 0, level)
    return wells.sort_values("well", ignore_index=True)


def read_mechanisms(path: Path) -> tuple[dict[str, tuple], dict[str, tuple]]:
    """Return ``(name, mechanism)`` by broad_sample, and by the compound part of it where that is unambiguous."""
    table = read_table(path, (), dtype=str, sep="\t")
    need_columns(path, table.columns, _MOA)
    refuse_duplicates(path, table, ["broad_sample"], "compound")
    table = table.astype(object).where(table.notna(), None)
    facts = list(zip(table["pert_iname"], table["moa"], strict=True))
    by_sample = dict(zip(table["broad_sample"], facts, strict=True))
    by_id: dict[str, set] = {}
    for sample, fact in by_sample.items():
        by_id.setdefault(sample[:_BROAD_ID], set()).add(fact)
    return by_sample, {i: next(iter(f)) for i, f in by_id.items() if len(f) == 1}


def read_wells(files: Mapping[str, Path]) -> pd.DataFrame:
    """Return every well of every plate that has images.

    Parameters
    ----------
    files
        ``barcode_platemap``, ``plates``, ``moa`` and, for each platemap in use, ``platemap_<name>``.

    Returns
    -------
    DataFrame
        Columns of :func:`read_plates` and :func:`read_platemap`, and ``compound`` and ``moa``: name and mechanism
        of the sample, else of another batch of the same compound; the compound part of the id and None if neither
        is known. Sorted by plate and well. The same object for the same files: not to be changed.
    """
    names = [n for n in files if n in ("barcode_platemap", "plates", "moa") or n.startswith("platemap_")]
    key = []
    for name in sorted(names):
        state = need_file(files, name).stat()
        key.append((name, str(files[name]), state.st_mtime_ns, state.st_size))
    return _joined(tuple(key))


# A unit's plan needs the wells of all plates, for the draw of DMSO images; a process may do several units.
@lru_cache(maxsize=2)
def _joined(key: tuple[tuple[str, str, int, int], ...]) -> pd.DataFrame:
    files = {name: Path(path) for name, path, _, _ in key}
    plates = read_plates(files)
    by_sample, by_id = read_mechanisms(need_file(files, "moa"))
    maps = []
    for name in sorted(plates["platemap"].unique()):
        wells = read_platemap(need_file(files, f"platemap_{name}"), name)
        maps.append(wells.assign(platemap=name))
    wells = pd.concat(maps, ignore_index=True)
    samples = wells["broad_sample"].unique()
    facts = {s: by_sample.get(s) or by_id.get(s[:_BROAD_ID]) or (None, None) for s in samples}
    compounds = {s: facts[s][0] or s[:_BROAD_ID] for s in samples}
    wells["compound"] = wells["broad_sample"].map(compounds)
    wells["moa"] = wells["broad_sample"].map({s: f[1] for s, f in facts.items()}).astype(object)
    wells["moa"] = wells["moa"].where(wells["moa"].notna(), None)
    return plates.merge(wells, on="platemap").sort_values(["plate", "well"], ignore_index=True)


def read_treatments(source: str | Path) -> dict[str, str]:
    """Return mechanism by broad_sample of a list of treatments (columns ``broad_sample``, ``moa``), without DMSO.

    Parameters
    ----------
    source
        A path, or the name of a list that comes with the package, such as ``cdcl_570_treatments``.

    Raises
    ------
    DataError
        If the list is not there, lacks a column or a value, or names a sample twice.
    """
    packaged = Path(__file__).with_name("lists") / f"{source}.tsv"
    path = packaged if packaged.is_file() else Path(source)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected the list of treatments that images.options names")
    table = read_table(path, (), dtype=str, sep="\t")
    need_columns(path, table.columns, ("broad_sample", "moa"))
    refuse_duplicates(path, table, ["broad_sample"], "treatment")
    _need(str(path), table, table.notna().all(axis=1), "moa", "a mechanism")
    return {s: m for s, m in zip(table["broad_sample"], table["moa"], strict=True) if s != DMSO}


def _need(where: str, table: pd.DataFrame, good: pd.Series, column: str, expected: str) -> None:
    bad = ~good.to_numpy(dtype=bool)
    if bad.any():
        row = int(bad.argmax())
        found = table[column].iloc[row]
        well = f" (well {table['well_position'].iloc[row]})" if "well_position" in table else ""
        raise DataError(f"{where}: {column} is {found!r} in data row {row + 1}{well}, expected {expected}")


def file_stem(well: str, site: int) -> str:
    """Return how the names of a field's files begin: ``C07``, 5 gives ``r03c07f05p01``."""
    match = re.fullmatch(r"([A-P])(\d\d)", well)
    if not match:
        raise DataError(f"well {well!r} is not one of A01 to P24")
    return f"r{ord(match[1]) - ord('A') + 1:02d}c{match[2]}f{site:02d}p01"
