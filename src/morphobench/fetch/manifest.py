"""The manifests: one row a raw file, also for files that could not be had."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from morphobench.errors import DataError
from morphobench.files import write_text

COLUMNS = ("url", "path", "size", "sha256", "licence", "status")
UNIT_COLUMNS = ("name", "url", "member", "path", "size", "sha256", "licence", "status", "reason", "variant")


def write_manifest(records: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Write records as tab-separated ``url path size sha256 licence status``, atomically."""
    _write(records, path, COLUMNS)


def write_unit_manifest(records: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Write a unit's records (see :func:`morphobench.fetch.fetch_unit`) as tab-separated text, atomically."""
    _write(records, path, UNIT_COLUMNS)


def read_manifest(path: str | Path) -> list[dict[str, Any]]:
    """Read a manifest; sizes are integers, empty cells None.

    Raises
    ------
    DataError
        If the file is missing or its columns are not :data:`COLUMNS`.
    """
    return _read(path, COLUMNS)


def read_unit_manifest(path: str | Path) -> list[dict[str, Any]]:
    """Read the manifest of a unit; sizes are integers, empty cells None.

    Raises
    ------
    DataError
        If the file is missing or its columns are not :data:`UNIT_COLUMNS`.
    """
    return _read(path, UNIT_COLUMNS)


def read_any_manifest(path: str | Path) -> list[dict[str, Any]]:
    """Read a manifest of either kind, told apart by its columns."""
    text = _text(path)
    return _read(path, UNIT_COLUMNS if text.startswith("\t".join(UNIT_COLUMNS)) else COLUMNS, text)


def open_raw(record: Mapping[str, Any]) -> bytes:
    """Return the bytes of one raw file: the file at ``path``, or its ``member`` if ``path`` is a zip.

    Parameters
    ----------
    record
        A row of a unit's manifest; keys ``path`` and ``member`` are used.

    Raises
    ------
    DataError
        If the file or the member is not there or cannot be read.
    """
    path, member = Path(record["path"]), record.get("member")
    try:
        if not member:
            return path.read_bytes()
        state = path.stat()
        return _archive(os.getpid(), str(path), state.st_mtime_ns, state.st_size).read(member)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); fetch it again") from error
    except KeyError as error:
        raise DataError(f"{path}: has no member {member!r}; fetch it again") from error
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: member {member!r} cannot be read ({error}); fetch it again") from error


# A zip's directory is read once, not once a member. The process is part of the key since a forked process would
# share, and move, its parent's place in the file.
@lru_cache(maxsize=4)
def _archive(process: int, path: str, modified: int, size: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _write(records: Iterable[Mapping[str, Any]], path: str | Path, columns: tuple[str, ...]) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        writer.writerow(["" if record.get(c) is None else record[c] for c in columns])
    write_text(path, stream.getvalue())


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); expected a manifest of raw files") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text; expected a manifest of raw files") from error


def _read(path: str | Path, columns: tuple[str, ...], text: str | None = None) -> list[dict[str, Any]]:
    rows = list(csv.reader(io.StringIO(_text(path) if text is None else text), delimiter="\t"))
    if not rows or tuple(rows[0]) != columns:
        found = ", ".join(rows[0]) if rows else "nothing"
        raise DataError(f"{path}: columns are {found}, expected {', '.join(columns)}")
    size = columns.index("size")
    records = []
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(columns) or not (row[size].isdigit() or not row[size]):
            raise DataError(
                f"{path}: line {number} is not a manifest row of {len(columns)} cells with a whole size"
            )
        record: dict[str, Any] = {c: v or None for c, v in zip(columns, row, strict=True)}
        record["size"] = int(row[size]) if row[size] else None
        records.append(record)
    return records
