"""All raw files of a dataset: the fixed ones, then one object a plate as its metadata tables say."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphobench.errors import FetchError, SpecError
from morphobench.fetch.addresses import local_path
from morphobench.fetch.files import fetch
from morphobench.fetch.manifest import read_manifest
from morphobench.fetch.transport import MissingError


def fetch_dataset(
    spec: Mapping[str, Any],
    raw_root: str | Path,
    mirror: str | Path | None = None,
    *,
    manifest: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Fetch every file of a dataset spec (resolved for a scale) to ``<raw_root>/<host>/<path>``.

    Parameters
    ----------
    spec
        Keys used: ``files`` (list of ``name, url, size, sha256, licence`` and, where only a
        commit is known, ``git_sha1``), ``plates`` (None, or ``url`` with
        ``{source} {batch} {plate}``, ``selector`` as module:callable, ``select`` options, ``missing`` as ``error``
        or ``record``), ``licence``.
    raw_root
        Folder of raw files. Simulated files carry the real addresses: give them a root of their own.
    mirror
        Folder or base address of copies; None for the providers themselves.
    manifest
        Sizes and checksums that replace the pins of the spec: the ``manifest.tsv`` of a simulator.

    Returns
    -------
    list of dict
        One record a file with ``name, url, path, size, sha256, licence, status``, and ``plate`` for plates. A
        plate that the provider does not have gets status ``missing`` and no size if the spec says ``missing:
        record``.

    Raises
    ------
    FetchError
        If a file cannot be had or is not the one pinned, or if no plate at all is there.
    """
    pins = {} if manifest is None else {row["url"]: row for row in read_manifest(manifest)}
    licence = spec["licence"]["name"]
    records = []
    for entry in spec["files"]:
        record = _fetch_entry(entry, raw_root, mirror, pins, manifest)
        records.append({"name": entry["name"], **record, "licence": entry.get("licence", licence)})
    if spec.get("plates"):
        files = {record["name"]: Path(record["path"]) for record in records}
        records += _fetch_plates(spec, files, raw_root, mirror, pins, manifest)
    return records


def plate_addresses(plates: Mapping[str, Any], files: Mapping[str, Path]) -> list[dict[str, str]]:
    """Return ``plate`` and ``url`` of every selected plate, in the order of the selection.

    Parameters
    ----------
    plates
        The ``plates`` part of a dataset spec.
    files
        The fixed files by name, already fetched; the selector reads the plate table among them.
    """
    module, _, name = plates["selector"].partition(":")
    try:
        selector = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(
            f"plates.selector is {plates['selector']!r}, expected module:callable ({error})"
        ) from error
    chosen = selector(files, plates.get("select") or {})
    rows = zip(chosen["Metadata_Source"], chosen["Metadata_Batch"], chosen["Metadata_Plate"], strict=True)
    return [{"plate": p, "url": plates["url"].format(source=s, batch=b, plate=p)} for s, b, p in rows]


def _fetch_plates(spec, files, raw_root, mirror, pins, manifest) -> list[dict[str, Any]]:
    plates = spec["plates"]
    records, missing = [], None
    for entry in plate_addresses(plates, files):
        try:
            record = _fetch_entry({**entry, "size": None, "sha256": None}, raw_root, mirror, pins, manifest)
        except MissingError as error:
            if plates.get("missing", "error") != "record":
                raise
            missing = error
            path = local_path(entry["url"], raw_root)
            record = {"url": entry["url"], "path": str(path), "size": None, "sha256": None, "status": "missing"}
        records.append(
            {"name": entry["plate"], "plate": entry["plate"], **record, "licence": spec["licence"]["name"]}
        )
    if missing is not None and all(r["status"] == "missing" for r in records):
        raise FetchError(f"none of the {len(records)} plates could be had; the last: {missing}") from missing
    return records


def _fetch_entry(entry, raw_root, mirror, pins, manifest) -> dict[str, Any]:
    pin = entry
    if manifest is not None:
        pin = pins.get(entry["url"])
        if pin is None:
            raise FetchError(f"{manifest}: has no row for {entry['url']}; simulate the dataset again")
    destination = local_path(entry["url"], raw_root)
    checks = {key: pin.get(key) for key in ("size", "sha256", "git_sha1")}
    return fetch(entry["url"], destination, **checks, mirror=mirror)
