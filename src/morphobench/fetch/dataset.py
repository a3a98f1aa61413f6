"""All raw files of a dataset: the fixed ones, then one object a plate as its metadata tables say."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from morphobench.errors import FetchError, SpecError
from morphobench.fetch.addresses import local_path
from morphobench.fetch.checksums import expectation
from morphobench.fetch.disk import require_space
from morphobench.fetch.files import not_pinned, transport_for
from morphobench.fetch.manifest import read_manifest
from morphobench.fetch.transport import MissingError, Transport
from morphobench.fetch.trust import FirstUse, fetch_trusted


def fetch_dataset(
    spec: Mapping[str, Any],
    raw_root: str | Path,
    mirror: str | Path | None = None,
    *,
    manifest: str | Path | None = None,
    local: str | Path | None = None,
    transport: Transport | None = None,
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
    local
        Root of a user's own copy. An entry of ``files`` with the key ``local`` (path below the root) whose file is
        there is not fetched: its record has status ``local`` and the path of the user's file.
    transport
        How patient to be.

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
    trust = None if manifest is not None else FirstUse(raw_root, f"{spec.get('id', 'files')}/files")
    job = _Job(raw_root, mirror, pins, manifest, trust, transport_for(mirror, transport))
    absent = [e for e in spec["files"] if not local_path(e["url"], raw_root).is_file()]
    known = sum(e.get("size") or 0 for e in absent) if manifest is None else 0
    require_space(Path(raw_root), known, job.transport.policy.disk_usage, "what is to be fetched")
    records = []
    try:
        for entry in spec["files"]:
            own = None if local is None or not entry.get("local") else Path(local) / entry["local"]
            record = _local_entry(entry, own) if own is not None and own.is_file() else _fetch_entry(entry, job)
            records.append({"name": entry["name"], **record, "licence": entry.get("licence", licence)})
        if spec.get("plates"):
            files = {record["name"]: Path(record["path"]) for record in records}
            records += _fetch_plates(spec, files, job)
    finally:  # also what came before a failure is remembered
        if trust is not None:
            trust.record(job.unpinned)
    return records


@dataclass(frozen=True)
class _Job:
    """What fetching one entry needs besides the entry."""

    raw_root: str | Path
    mirror: str | Path | None
    pins: Mapping[str, Mapping[str, Any]]
    manifest: str | Path | None
    trust: FirstUse | None
    transport: Transport
    unpinned: list[dict[str, Any]] = field(default_factory=list)


def load_callable(text: str, key: str) -> Callable[..., Any]:
    """Return the callable that a spec names as ``module:callable``.

    Parameters
    ----------
    text
        The name.
    key
        Key of the spec, for the message.

    Raises
    ------
    SpecError
        If there is no such module or callable.
    """
    module, _, name = text.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(f"{key} is {text!r}, expected module:callable ({error})") from error


def plate_addresses(plates: Mapping[str, Any], files: Mapping[str, Path]) -> list[dict[str, str]]:
    """Return ``plate`` and ``url`` of every selected plate, in the order of the selection.

    Parameters
    ----------
    plates
        The ``plates`` part of a dataset spec.
    files
        The fixed files by name, already fetched; the selector reads the plate table among them.
    """
    selector = load_callable(plates["selector"], "plates.selector")
    chosen = selector(files, plates.get("select") or {})
    rows = zip(chosen["Metadata_Source"], chosen["Metadata_Batch"], chosen["Metadata_Plate"], strict=True)
    return [{"plate": p, "url": plates["url"].format(source=s, batch=b, plate=p)} for s, b, p in rows]


def _fetch_plates(spec: Mapping[str, Any], files: Mapping[str, Path], job: _Job) -> list[dict[str, Any]]:
    plates = spec["plates"]
    records, missing = [], None
    for entry in plate_addresses(plates, files):
        try:
            record = _fetch_entry(entry, job)
        except MissingError as error:
            if plates.get("missing", "error") != "record":
                raise
            missing = error
            path = local_path(entry["url"], job.raw_root)
            record = {"url": entry["url"], "path": str(path), "size": None, "sha256": None, "status": "missing"}
        records.append(
            {"name": entry["plate"], "plate": entry["plate"], **record, "licence": spec["licence"]["name"]}
        )
    if missing is not None and all(r["status"] == "missing" for r in records):
        raise FetchError(f"none of the {len(records)} plates could be had; the last: {missing}") from missing
    return records


def _fetch_entry(entry: Mapping[str, Any], job: _Job) -> dict[str, Any]:
    pin = entry
    if job.manifest is not None:
        pin = job.pins.get(entry["url"])
        if pin is None:
            raise FetchError(f"{job.manifest}: has no row for {entry['url']}; simulate the dataset again")
    checks = {key: pin.get(key) for key in ("size", "sha256", "git_sha1", "checksum")}
    destination = local_path(entry["url"], job.raw_root)
    record = fetch_trusted(
        job.trust, entry["url"], destination, **checks, mirror=job.mirror, transport=job.transport
    )
    if not any(checks[key] for key in ("sha256", "git_sha1", "checksum")):
        job.unpinned.append(record)
    return record


def _local_entry(entry: Mapping[str, Any], path: Path) -> dict[str, Any]:
    expected = expectation(
        entry.get("size"), entry.get("checksum"), sha256=entry.get("sha256"), git=entry.get("git_sha1")
    )
    difference, digest = expected.difference(path)
    if difference:
        raise not_pinned(entry["url"], str(path), difference)
    size = path.stat().st_size
    return {"url": entry["url"], "path": str(path), "size": size, "sha256": digest, "status": "local"}
