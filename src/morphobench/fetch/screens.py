"""Fetching one unit of a screen as the workflow's jobs do it: manifests in, a manifest out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from morphobench.errors import DataError
from morphobench.fetch.manifest import read_manifest, write_unit_manifest
from morphobench.fetch.unit import fetch_unit


def fixed_files(entries: Sequence[Mapping[str, Any]], manifest: str | Path) -> dict[str, Path]:
    """Return where the files that all units share lie, by their names in the dataset's spec.

    Parameters
    ----------
    entries
        The ``files`` of the spec.
    manifest
        The manifest of what was fetched.

    Raises
    ------
    DataError
        If the manifest lacks one of them.
    """
    paths = {row["url"]: Path(row["path"]) for row in read_manifest(manifest)}
    for entry in entries:
        if entry["url"] not in paths:
            raise DataError(f"{manifest}: has no row for {entry['url']}; fetch the dataset again")
    return {entry["name"]: paths[entry["url"]] for entry in entries}


def fetch_screen_unit(
    spec: Mapping[str, Any],
    unit: str,
    raw_root: str | Path,
    *,
    files: str | Path,
    manifest: str | Path,
    mirror: str | Path | None = None,
    simulated: str | Path | None = None,
    workers: int = 8,
) -> None:
    """Fetch the raw images of one unit and list them in its manifest.

    Parameters
    ----------
    spec
        Keys used: ``id``, ``files``, ``licence``, ``local``, ``images`` (``lister``, ``options``).
    unit
        The unit's name.
    raw_root
        Folder of raw files.
    files
        The manifest of the files that all units share.
    manifest
        The manifest to write, see :func:`morphobench.fetch.manifest.write_unit_manifest`.
    mirror
        Folder or base address of copies; ignored where the spec names the user's own copy (``local``).
    simulated
        The manifest of a simulator: its folder takes the mirror's place, its sizes and checksums that of the pins.
    workers
        Connections at a time.
    """
    pins = None
    if simulated is not None:
        mirror = Path(simulated).parent
        pins = {row["url"]: row for row in read_manifest(simulated)}
    records = fetch_unit(
        spec,
        unit,
        fixed_files(spec["files"], files),
        raw_root,
        mirror=mirror,
        local=spec.get("local"),
        pins=pins,
        workers=workers,
    )
    write_unit_manifest(records, manifest)
    print(f"{unit}: " + ", ".join(f"{n} {status}" for status, n in Counter(r["status"] for r in records).items()))
