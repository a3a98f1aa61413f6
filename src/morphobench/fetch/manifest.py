"""The manifest: one row a raw file, also for files that could not be had."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from morphobench.errors import DataError
from morphobench.files import write_text

COLUMNS = ("url", "path", "size", "sha256", "licence", "status")


def write_manifest(records: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Write records as tab-separated ``url path size sha256 licence status``, atomically."""
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    for record in records:
        writer.writerow(["" if record.get(c) is None else record[c] for c in COLUMNS])
    write_text(path, stream.getvalue())


def read_manifest(path: str | Path) -> list[dict[str, Any]]:
    """Read a manifest; sizes are integers, empty cells None.

    Raises
    ------
    DataError
        If the file is missing or its columns are not :data:`COLUMNS`.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a manifest of raw files") from error
    rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
    if not rows or tuple(rows[0]) != COLUMNS:
        found = ", ".join(rows[0]) if rows else "nothing"
        raise DataError(f"{path}: columns are {found}, expected {', '.join(COLUMNS)}")
    records = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(COLUMNS) or not (row[2].isdigit() or not row[2]):
            raise DataError(
                f"{path}: line {number} is not a manifest row of {len(COLUMNS)} cells with a whole size"
            )
        record: dict[str, Any] = {c: v or None for c, v in zip(COLUMNS, row, strict=True)}
        record["size"] = int(row[2]) if row[2] else None
        records.append(record)
    return records
