"""The lock table: every pinned address with size, checksum, licence and date, in one reviewed file.

``python -m morphobench.fetch.lock specs`` writes ``specs/lock.tsv`` anew from the ``files`` of
``specs/datasets/*.yaml``; rows that never came from a spec stay, and so do the dates of rows that do not change.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from morphobench.errors import MorphobenchError, SpecError
from morphobench.fetch.checksums import parse_checksum
from morphobench.files import write_text

LOCK = "lock.tsv"


@dataclass(frozen=True)
class Locked:
    """One row of the lock table.

    Parameters
    ----------
    url
        The address.
    size
        Bytes, None where nobody could tell.
    hash_type
        ``sha256``, ``md5``, ``crc32c``, ``git`` or ``none``; of the last kind what came first is trusted.
    hash
        Lower-case hexadecimal, "" for ``none``.
    licence
        As the provider states it.
    date
        The day on which the row got its present size and checksum, as ``YYYY-MM-DD``.
    source
        The spec that pins it, or where the figures come from.
    """

    url: str
    size: int | None
    hash_type: str
    hash: str
    licence: str
    date: str
    source: str

    @property
    def checksum(self) -> str | None:
        """The checksum as ``kind:value``, None without one."""
        return None if self.hash_type == "none" else f"{self.hash_type}:{self.hash}"


COLUMNS = tuple(f.name for f in fields(Locked))


def read_lock(path: str | Path) -> dict[str, Locked]:
    """Read a lock table as address to row.

    Raises
    ------
    SpecError
        If it cannot be read or a row is wrong; the message names file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from error
    rows = list(csv.reader(io.StringIO(text), delimiter="\t"))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise SpecError(f"{path}: line 1: expected the columns {', '.join(COLUMNS)}")
    locked: dict[str, Locked] = {}
    for number, row in enumerate(rows[1:], start=2):
        try:
            values = dict(zip(COLUMNS, row, strict=True))
            entry = Locked(**{**values, "size": int(values["size"]) if values["size"] else None})
            date.fromisoformat(entry.date)
            if entry.checksum is not None and parse_checksum(entry.checksum) != {entry.hash_type: entry.hash}:
                raise ValueError(f"{entry.checksum!r} is not a checksum in lower-case hexadecimal")
            if entry.checksum is None and entry.hash:
                raise ValueError("has a hash of type none")
        except (ValueError, TypeError, MorphobenchError) as error:
            raise SpecError(f"{path}: line {number}: {error}") from error
        if entry.url in locked:
            raise SpecError(f"{path}: line {number}: {entry.url} comes twice")
        locked[entry.url] = entry
    return locked


def write_lock(rows: Sequence[Locked], path: str | Path) -> None:
    """Write a lock table, sorted by address, atomically."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda r: r.url):
        writer.writerow({**asdict(row), "size": "" if row.size is None else row.size})
    write_text(path, stream.getvalue())


def pinned_files(specs: str | Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield ``(spec file, entry, licence)`` of every entry of ``files`` in ``<specs>/datasets/*.yaml``.

    Addresses under ``.invalid`` name files that only users have (RFC 2606) and are left out.
    """
    for path in sorted(Path(specs).glob("datasets/*.yaml")):
        try:
            spec = yaml.safe_load(path.read_text(encoding="utf-8"))
            entries, licence = spec["files"] or [], spec["licence"]["name"]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise SpecError(f"{path}: not a dataset spec with `files` and `licence` ({error!r})") from error
        for entry in entries:
            if (urlsplit(entry["url"]).hostname or "").endswith(".invalid"):
                continue
            yield f"{Path(specs).name}/datasets/{path.name}", entry, entry.get("licence", licence)


def pin_of(entry: dict[str, Any]) -> tuple[str, str]:
    """Return kind and value of the checksum of a spec's entry, ``("none", "")`` without one."""
    if entry.get("sha256"):
        return "sha256", entry["sha256"].lower()
    if entry.get("git_sha1"):
        return "git", entry["git_sha1"].lower()
    if entry.get("checksum"):
        for kind, value in parse_checksum(entry["checksum"]).items():
            return kind, value
    return "none", ""


def locked_rows(specs: str | Path, before: dict[str, Locked], today: str) -> list[Locked]:
    """Return the rows of the lock table that the specs and the table before give.

    Parameters
    ----------
    specs
        The folder of specs.
    before
        The table as it is; supplies what no spec says, and dates.
    today
        The date of new and changed rows.

    Raises
    ------
    SpecError
        If two specs pin one address to different files.
    """
    folder = f"{Path(specs).name}/datasets/"
    rows = {url: row for url, row in before.items() if not row.source.startswith(folder)}
    by_spec: dict[str, Locked] = {}
    for source, entry, licence in pinned_files(specs):
        url, (kind, value) = entry["url"], pin_of(entry)
        old = before.get(url)
        size = entry.get("size")
        if old is not None:
            size = old.size if size is None else size
            kind, value = (old.hash_type, old.hash) if kind == "none" else (kind, value)
        same = old is not None and (old.size, old.hash_type, old.hash) == (size, kind, value)
        row = Locked(url, size, kind, value, licence, old.date if same else today, source)
        other = by_spec.setdefault(url, row)
        if (other.size, other.hash_type, other.hash) != (row.size, row.hash_type, row.hash):
            raise SpecError(f"{source} and {other.source} pin {url} to different files")
    return list({**rows, **by_spec}.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite ``<specs>/lock.tsv``; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m morphobench.fetch.lock", description=__doc__)
    parser.add_argument("specs", type=Path, help="the folder of specs")
    options = parser.parse_args(arguments)
    path = options.specs / LOCK
    try:
        before = read_lock(path) if path.exists() else {}
        rows = locked_rows(options.specs, before, datetime.now(UTC).date().isoformat())
        write_lock(rows, path)
    except MorphobenchError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path}: {len(rows)} addresses, {sum(r.hash_type == 'none' for r in rows)} without a checksum")
    return 0


if __name__ == "__main__":
    sys.exit(main())
