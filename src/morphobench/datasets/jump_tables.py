"""JUMP's metadata tables joined: what was done to each well, and with which microscope it was seen.

Joins are on ``Metadata_JCP2022``, never on names or InChIKeys, which do not identify a JUMP compound. What an
outer join would leave dangling is reported.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from morphobench.datasets.collection import need_file, read_table, refuse_duplicates
from morphobench.datasets.jump_annotations import moa_of, read_moa
from morphobench.errors import DataError

WELL_COLUMNS = ("Metadata_Source", "Metadata_Plate", "Metadata_Well", "Metadata_JCP2022")
# Ids that stand for no treatment; wells with them have no place among the profiles.
NO_TREATMENT = {
    "JCP2022_999999": "untreated well",
    "JCP2022_UNKNOWN": "perturbation unknown",
    "JCP2022_900001": "bad construct",
}


@dataclass(frozen=True)
class Tables:
    """The joined tables.

    Attributes
    ----------
    wells
        One row a well of the chosen plates, ``Metadata_*`` columns of profiles, without ``Metadata_Split``.
    excluded
        ``(what, id, reason)`` rows of wells that are left out.
    notes
        Counts of what could not be joined but is kept.
    """

    wells: pd.DataFrame
    excluded: list[tuple[str, str, str]]
    notes: dict[str, object]


def join_tables(files: Mapping[str, Path], plates: pd.DataFrame) -> Tables:
    """Join plate, well, compound, perturbation_control and microscope tables.

    Parameters
    ----------
    files
        ``well``, ``compound``, ``perturbation_control``, ``microscope_config`` as JUMP publishes them; optionally
        ``cellprofiler_version``, and ``jump_moa``, the compounds of JUMP-MOA.
    plates
        Chosen rows of the plate table.

    Returns
    -------
    Tables
        Perturbation is the InChIKey where the compound table has one, else the JCP id; Compound is the name of
        controls, else the JCP id. Microscope, filter set and CellProfiler version are those of the source; MoA is
        None where it is not known.

    Raises
    ------
    DataError
        If a table lacks a column, repeats a key, or does not write sources as ``source_<number>``.
    """
    wells = _wells(need_file(files, "well"), plates)
    excluded = _unusable(wells)
    out = {id_ for _, id_, _ in excluded}
    wells = wells[~(wells["Metadata_Plate"] + "/" + wells["Metadata_Well"]).isin(out)]
    compounds, controls = (
        _compounds(need_file(files, "compound")),
        _controls(need_file(files, "perturbation_control")),
    )
    jcp = wells["Metadata_JCP2022"]
    types = jcp.map(controls["Metadata_pert_type"])
    empty = types == "empty"
    excluded += [("well", f"{p}/{w}", "untreated well") for p, w in _ids(wells[empty])]
    wells, jcp, types = wells[~empty], jcp[~empty], types[~empty]
    keys = jcp.map(compounds)
    names, sources = jcp.map(controls["Metadata_Name"]), wells["Metadata_Source"]
    microscopes = _by_source(
        need_file(files, "microscope_config"), ["Metadata_Microscope_Name", "Metadata_Filter_Configuration"]
    )
    joined = pd.DataFrame(
        {
            "Metadata_Batch": wells["Metadata_Batch"],
            "Metadata_Plate": wells["Metadata_Plate"],
            "Metadata_Well": wells["Metadata_Well"],
            "Metadata_Perturbation": keys.where(keys.notna(), jcp),
            "Metadata_Control": types.where(types.isin(["negcon", "poscon"]), "trt"),
            "Metadata_Compound": names.where(types.notna(), jcp),
            "Metadata_Source": sources,
            "Metadata_Microscope": sources.map(microscopes["Metadata_Microscope_Name"]).astype(object),
            "Metadata_Filter": sources.map(microscopes["Metadata_Filter_Configuration"]).astype(object),
            "Metadata_PlateType": wells["Metadata_PlateType"],
            "Metadata_JCP2022": jcp,
        }
    )
    if "cellprofiler_version" in files:
        version = "Metadata_CellProfiler_Version"
        versions = _by_source(need_file(files, "cellprofiler_version"), [version])[version]
        joined["Metadata_CellProfiler"] = sources.map(versions).astype(object)
    if "jump_moa" in files:
        joined["Metadata_MoA"] = moa_of(jcp, keys, names, read_moa(need_file(files, "jump_moa")))
    joined = joined.reset_index(drop=True)
    no_microscope = sorted(set(plates["Metadata_Source"]) - set(microscopes.index))
    notes = {
        "perturbations without InChIKey": sorted(jcp[keys.isna()].unique()),
        "sources without microscope": no_microscope,
    }
    if "Metadata_MoA" in joined:
        known = joined.loc[joined["Metadata_MoA"].notna(), "Metadata_JCP2022"]
        notes["perturbations of known mechanism"] = int(known.nunique())
    return Tables(joined, excluded, notes)


def split_by_plate(plates: pd.DataFrame, test_fraction: float, seed: int) -> pd.Series:
    """Return ``train`` or ``test`` for every plate, indexed by plate name.

    Whole plates are held out, within each batch: of a batch of n >= 2 plates ``round(n * test_fraction)``, at
    least one and at most n - 1, are for testing; a batch of one plate is for training. Which ones depends on the
    seed and the names of the batch's plates alone, not on their order or on other batches.
    """
    splits = pd.Series("train", index=plates["Metadata_Plate"].to_numpy(), dtype=object)
    for _, group in plates.groupby(["Metadata_Source", "Metadata_Batch"], sort=True):
        names = sorted(
            group["Metadata_Plate"], key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
        )
        count = min(len(names) - 1, max(1, math.floor(len(names) * test_fraction + 0.5)))
        splits[names[:count]] = "test"
    return splits


def _ids(wells: pd.DataFrame):
    return zip(wells["Metadata_Plate"], wells["Metadata_Well"], strict=True)


def _wells(path: Path, plates: pd.DataFrame) -> pd.DataFrame:
    table = read_table(path, WELL_COLUMNS, dtype=str)[list(WELL_COLUMNS)]
    _check_sources(path, table)
    table = table[table["Metadata_Plate"].isin(set(plates["Metadata_Plate"]))]
    refuse_duplicates(path, table, ["Metadata_Plate", "Metadata_Well"], "well")
    key = ["Metadata_Source", "Metadata_Plate"]
    joined = table.merge(plates, on=key, how="left", validate="many_to_one")
    lost = joined["Metadata_Batch"].isna()
    if lost.any():
        row = joined[lost].iloc[0]
        raise DataError(
            f"{path}: plate {row['Metadata_Plate']} has source {row['Metadata_Source']!r}, "
            "but the plate table names another"
        )
    return joined


def _unusable(wells: pd.DataFrame) -> list[tuple[str, str, str]]:
    jcp = wells["Metadata_JCP2022"]
    reasons = jcp.map(NO_TREATMENT).where(jcp.notna(), "no label in the well table")
    bad = reasons.notna()
    return [("well", f"{p}/{w}", r) for (p, w), r in zip(_ids(wells[bad]), reasons[bad], strict=True)]


def _compounds(path: Path) -> pd.Series:
    columns = ("Metadata_JCP2022", "Metadata_InChIKey")
    table = read_table(path, columns, dtype=str, usecols=lambda c: c in columns)
    refuse_duplicates(path, table, ["Metadata_JCP2022"], "compound")
    return table.set_index("Metadata_JCP2022")["Metadata_InChIKey"]


def _controls(path: Path) -> pd.DataFrame:
    columns = ("Metadata_JCP2022", "Metadata_pert_type", "Metadata_Name")
    table = read_table(path, columns, dtype=str)[list(columns)]
    refuse_duplicates(path, table, ["Metadata_JCP2022"], "control")
    bad = ~table["Metadata_pert_type"].isin(["negcon", "poscon", "empty"])
    if bad.any():
        row = table[bad].iloc[0]
        found = row["Metadata_pert_type"]
        raise DataError(
            f"{path}: Metadata_pert_type of {row['Metadata_JCP2022']} is {found!r}, "
            "expected negcon, poscon or empty"
        )
    return table.set_index("Metadata_JCP2022")


def _by_source(path: Path, values: list[str]) -> pd.DataFrame:
    table = read_table(path, ("Metadata_Source", *values), dtype=str)
    _check_sources(path, table)
    refuse_duplicates(path, table, ["Metadata_Source"], "source")
    return table.set_index("Metadata_Source")[values]


def _check_sources(path: Path, table: pd.DataFrame) -> None:
    # An older release of one table wrote 1 for source_1: a join would match nothing and say nothing.
    bad = ~table["Metadata_Source"].fillna("").str.fullmatch(r"source_\d+").to_numpy(dtype=bool)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        found = table["Metadata_Source"].iloc[row]
        raise DataError(f"{path}: Metadata_Source is {found!r} in data row {row + 1}, expected source_<number>")
