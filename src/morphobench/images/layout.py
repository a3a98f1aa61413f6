"""Where the files of an image store lie, and the list of what was left out of it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from morphobench.errors import DataError
from morphobench.files import atomic_path

FORMAT = 1
EXCLUDED_COLUMNS = ("unit", "what", "id", "reason")
RESERVED = ("samples", "statistics", "folds", "excluded", "store")


def channel_names(channels: Sequence[str | Mapping[str, Any]]) -> list[str]:
    """Return the names of channels given as names or as mappings with a ``name``."""
    return [c if isinstance(c, str) else str(c["name"]) for c in channels]


def unit_paths(folder: str | Path, unit: str) -> dict[str, Path]:
    """Return the files of a unit by ``npy``, ``parquet``, ``excluded.csv`` and ``json``, in the order of writing.

    Raises
    ------
    DataError
        If the unit's name cannot be a file's name in a store.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", unit) or unit in RESERVED:
        raise DataError(f"unit {unit!r} cannot name a file of an image store; expected letters, digits and ._+-")
    return {kind: Path(folder) / f"{unit}.{kind}" for kind in ("npy", "parquet", "excluded.csv", "json")}


def write_excluded(path: str | Path, rows: Iterable[Sequence[str]]) -> None:
    """Write rows of ``unit, what, id, reason`` as CSV, atomically."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(EXCLUDED_COLUMNS)
        writer.writerows(rows)


def read_excluded(path: str | Path) -> list[list[str]]:
    """Read the rows of an ``excluded.csv``."""
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    if not rows or tuple(rows[0]) != EXCLUDED_COLUMNS:
        raise DataError(f"{path}: expected a CSV file with columns {', '.join(EXCLUDED_COLUMNS)}")
    return rows[1:]
