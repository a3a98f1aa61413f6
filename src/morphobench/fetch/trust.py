"""Trust on first use: files that nobody could pin are pinned to what came the first time."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from morphobench.errors import DataError
from morphobench.fetch.checksums import expectation
from morphobench.fetch.disk import exclusive_part
from morphobench.fetch.failures import DamagedError
from morphobench.fetch.files import fetch

FOLDER = ".first_use"
COLUMNS = ("url", "member", "size", "sha256", "date")


class FirstUse:
    """What files without a pin were when they were first fetched.

    Parameters
    ----------
    raw_root
        The folder of raw files; the record lies in ``<raw_root>/.first_use/<group>.tsv``.
    group
        A dataset or ``<dataset>/<unit>``: one small file each, so that jobs do not wait for each other.
    """

    def __init__(self, raw_root: str | Path, group: str) -> None:
        safe = group.replace("%", "%25").replace("..", "%2e%2e")
        self.path = Path(raw_root) / FOLDER / f"{safe}.tsv"
        self._rows = self._read()

    def get(self, url: str, member: str | None = None) -> dict[str, str] | None:
        """Return the row of a file, None if it was never fetched."""
        return self._rows.get((url, member or ""))

    def record(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add records (``url, member, size, sha256``) that are not there; atomic, safe between processes."""
        today = datetime.now(UTC).date().isoformat()
        new = {
            (r["url"], r.get("member") or ""): {
                "url": r["url"],
                "member": r.get("member") or "",
                "size": str(r["size"]),
                "sha256": r["sha256"],
                "date": today,
            }
            for r in records
            if r.get("sha256")
        }
        if not new.keys() - self._rows.keys():
            return
        with exclusive_part(self.path) as part:
            self._rows = {**new, **self._read()}
            stream = io.StringIO()
            writer = csv.DictWriter(stream, COLUMNS, delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(self._rows[key] for key in sorted(self._rows))
            part.write_text(stream.getvalue(), encoding="utf-8")
            os.replace(part, self.path)

    def explain(self, row: Mapping[str, str]) -> str:
        """Return what to add to the error of a file that is no longer what it was."""
        return (
            f"it was so when first fetched on {row['date']}; if the provider has really changed it, remove its "
            f"row from {self.path}"
        )

    def _read(self) -> dict[tuple[str, str], dict[str, str]]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        reader = csv.DictReader(io.StringIO(text), delimiter="\t")
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise DataError(f"{self.path}: columns are not {', '.join(COLUMNS)}; remove it to trust anew")
        return {(row["url"], row["member"]): row for row in reader}


def fetch_trusted(
    trust: FirstUse | None,
    url: str,
    destination: str | Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    git_sha1: str | None = None,
    checksum: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Fetch one file as :func:`morphobench.fetch.fetch` does; without a checksum it must be what it was at first.

    Parameters
    ----------
    trust
        The record to compare with; None trusts without comparing. The caller records what is new.
    url, destination, size, sha256, git_sha1, checksum, options
        See :func:`morphobench.fetch.fetch`.

    Raises
    ------
    DamagedError
        If the file has other bytes than when it was first fetched; the message says so.
    """
    pins = {"size": size, "sha256": sha256, "git_sha1": git_sha1, "checksum": checksum}
    row = None
    if trust is not None and not expectation(None, checksum, sha256=sha256, git=git_sha1).hashes:
        row = trust.get(url)
    if row is None:
        return fetch(url, destination, **pins, **options)
    try:
        return fetch(url, destination, size=int(row["size"]), sha256=row["sha256"], **options)
    except DamagedError as error:
        raise DamagedError(f"{error}; {trust.explain(row)}") from error
