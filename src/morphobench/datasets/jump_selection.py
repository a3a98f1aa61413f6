"""Which plates of JUMP (cpg0016): by source, plate type, named scenario, less the curated block list."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.datasets.collection import need_file, read_table, refuse_duplicates
from morphobench.errors import DataError, SpecError

PLATE_COLUMNS = ("Metadata_Source", "Metadata_Batch", "Metadata_Plate", "Metadata_PlateType")

# Arevalo et al. 2024 (Nature Communications), scenarios 1 to 5: sources and plate types.
SCENARIOS: dict[int, dict[str, list[str]]] = {
    1: {"sources": ["source_6"], "plate_types": ["TARGET2"]},
    2: {"sources": ["source_2", "source_6", "source_10"], "plate_types": ["TARGET2"]},
    3: {"sources": ["source_2", "source_6", "source_10"], "plate_types": ["COMPOUND", "TARGET2"]},
    4: {"sources": ["source_2", "source_3", "source_6", "source_8", "source_10"], "plate_types": ["TARGET2"]},
    5: {
        "sources": ["source_2", "source_3", "source_6", "source_8", "source_10"],
        "plate_types": ["COMPOUND", "TARGET2"],
    },
}
_OPTIONS = ("scenario", "sources", "plate_types", "batches", "plates", "block")
_BLOCK_KEYS = ("source", "batch", "plate", "keep_types", "reason")


def select_plates(files: Mapping[str, Path], select: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of the plate table that ``select`` chooses, less the blocked ones.

    See :func:`split_plates`.
    """
    return split_plates(files, select)[0]


def split_plates(files: Mapping[str, Path], select: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose plates from ``plate.csv.gz``.

    Parameters
    ----------
    files
        Holds ``plate``, the path of the plate table.
    select
        ``scenario``: 1 to 5, sets ``sources`` and ``plate_types`` unless those are given too; ``sources``,
        ``plate_types``, ``batches``, ``plates``: lists of values to keep, absent or null for all; ``block``: list
        of ``source`` with ``batch`` or ``plate``, a ``reason``, and optionally ``keep_types``, plate types it
        spares.

    Returns
    -------
    chosen, blocked : DataFrame
        Rows of the plate table sorted by source, batch and plate; ``blocked`` has a further column ``reason``.

    Raises
    ------
    SpecError
        If an option is unknown or names a source, plate type, batch or plate that the table lacks.
    DataError
        If the table is not as expected, or nothing is chosen.
    """
    path = need_file(files, "plate")
    table = read_table(path, PLATE_COLUMNS, dtype=str)[list(PLATE_COLUMNS)]
    refuse_duplicates(path, table, ["Metadata_Plate"], "plate")
    wanted = _wanted(select)
    mask = pd.Series(True, index=table.index)
    for column, option in zip(PLATE_COLUMNS, ("sources", "batches", "plates", "plate_types"), strict=True):
        values = wanted.get(option)
        if values is None:
            continue
        unknown = sorted(set(values) - set(table[column]))
        if unknown:
            raise SpecError(f"plates.select.{option} names {unknown[0]!r}, which {path} does not have")
        mask &= table[column].isin(values)
    chosen = table[mask]
    reasons = _blocked(chosen, select.get("block") or [])
    kept = chosen[reasons.isna()].sort_values(list(PLATE_COLUMNS[:3]), ignore_index=True)
    if kept.empty:
        raise DataError(f"{path}: no plate fits plates.select; expected at least one")
    blocked = chosen.assign(reason=reasons)[reasons.notna()].sort_values(
        list(PLATE_COLUMNS[:3]), ignore_index=True
    )
    return kept, blocked


def _wanted(select: Mapping[str, Any]) -> dict[str, Any]:
    for key in select:
        if key not in _OPTIONS:
            raise SpecError(f"plates.select has unknown key {key!r}; known keys are {', '.join(_OPTIONS)}")
    wanted: dict[str, Any] = {}
    if select.get("scenario") is not None:
        if select["scenario"] not in SCENARIOS:
            raise SpecError(f"plates.select.scenario is {select['scenario']!r}, expected one of 1, 2, 3, 4, 5")
        wanted |= SCENARIOS[select["scenario"]]
    wanted |= {k: v for k, v in select.items() if k in _OPTIONS[1:5] and v is not None}
    return wanted


def _blocked(chosen: pd.DataFrame, block: list[Mapping[str, Any]]) -> pd.Series:
    reasons = pd.Series(None, index=chosen.index, dtype=object)
    for entry in block:
        extra = [k for k in entry if k not in _BLOCK_KEYS]
        if extra or "source" not in entry or not entry.get("reason") or ("batch" in entry) == ("plate" in entry):
            raise SpecError(f"plates.select.block entry {dict(entry)} needs source, batch or plate, and reason")
        column, value = (
            ("Metadata_Batch", entry["batch"]) if "batch" in entry else ("Metadata_Plate", entry["plate"])
        )
        hit = (chosen["Metadata_Source"] == entry["source"]) & (chosen[column] == value)
        hit &= ~chosen["Metadata_PlateType"].isin(entry.get("keep_types", []))
        reasons[hit & reasons.isna()] = entry["reason"]
    return reasons
