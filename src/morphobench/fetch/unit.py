"""The raw files of one unit: the variant that the provider has, many objects at a time, every file a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphobench.errors import FetchError, SpecError
from morphobench.fetch.addresses import local_path, members_path
from morphobench.fetch.checksums import expectation
from morphobench.fetch.dataset import load_callable
from morphobench.fetch.disk import require_space
from morphobench.fetch.failures import DamagedError, GivenUpError, MissingError, RefusedError, UnreachableError
from morphobench.fetch.files import is_address, mirror_address, require_mirror, transport_for, with_hint
from morphobench.fetch.members import MembersJob
from morphobench.fetch.progress import Progress
from morphobench.fetch.requests import RawFile, Variant
from morphobench.fetch.transport import Transport
from morphobench.fetch.trust import FirstUse, fetch_trusted

HAD = frozenset({"fetched", "mirrored", "present", "local"})
# What a server answers that fails on this object rather than for the moment.
_OBJECT_FAILS = 500


@dataclass(frozen=True)
class _Job:
    """What fetching the files of a unit needs besides the files."""

    unit: str
    raw_root: Path
    mirror: str | Path | None
    local: Path | None
    pins: Mapping[str, Mapping[str, Any]] | None
    trust: FirstUse | None
    transport: Transport
    workers: int
    progress: Progress


def fetch_unit(
    spec: Mapping[str, Any],
    unit: str,
    files: Mapping[str, Path],
    raw_root: str | Path,
    mirror: str | Path | None = None,
    local: str | Path | None = None,
    pins: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    workers: int = 8,
    transport: Transport | None = None,
) -> list[dict[str, Any]]:
    """Fetch the raw files of one unit of a dataset.

    Parameters
    ----------
    spec
        Dataset spec resolved for a scale; keys used: ``id``, ``licence.name``, ``images.lister`` (module:callable)
        and ``images.options``.
    unit
        Name of the unit.
    files
        The spec's fixed files by name, already fetched; the lister reads tables among them.
    raw_root
        Folder of raw files. Simulated files carry the real addresses: give them a root of their own.
    mirror
        Folder or base address with copies under ``<host>/<path>``; then nothing else is contacted. Of an archive
        it may have the whole or the unit's part of it, ``<path>.members/<unit>.zip``.
    local
        Root of a user's own copy in the provider's natural tree; then files are neither fetched nor copied, only
        existence and size are checked.
    pins
        Address to ``size`` and ``sha256`` that replace what the lister says: a simulator's manifest. Without pins
        a file that has no checksum must stay what it was when it was first fetched.
    workers, transport
        Files, or ranges of an archive, at a time; how patient to be.

    Returns
    -------
    list of dict
        One record a file in the lister's order with ``name, url, member, path, size, sha256, licence, status,
        reason, variant``; status ``fetched``, ``mirrored``, ``present`` or ``local``, or, with a reason,
        ``missing`` (not there, or not for everybody) or ``damaged`` (not the file expected, after all tries).

    Raises
    ------
    FetchError
        If no variant is there (the message lists what was probed), if no file at all could be had, if the network
        or the server is down (what has come stays, and is not fetched again), or if the disk is too small.
    SpecError
        If the lister cannot be found or lists nothing.
    """
    images = spec["images"]
    variants = load_callable(images["lister"], "images.lister")(unit, files, images.get("options") or {})
    _check_variants(variants, unit, images["lister"])
    group = f"{spec.get('id', 'unit')}/{members_path('https://h/f', unit, '').stem}"
    with Progress(unit) as progress:
        job = _Job(
            unit=unit,
            raw_root=Path(raw_root),
            mirror=mirror,
            local=None if local is None else Path(local),
            pins=pins,
            trust=None if pins is not None or local is not None else FirstUse(raw_root, group),
            transport=transport_for(mirror, transport),
            workers=workers,
            progress=progress,
        )
        variant, results = _bring(variants, job)
    records = [
        {"name": file.local, "url": file.url, **_row(file, job), **result}
        | {"licence": spec["licence"]["name"], "variant": variant.name}
        for file, result in zip(variant.files, results, strict=True)
    ]
    _check_some(records, unit)
    if job.trust is not None:
        _record_first_use(job.trust, variant, records)
    return records


def _bring(variants: Sequence[Variant], job: _Job) -> tuple[Variant, list[dict[str, Any]]]:
    try:
        variant = _choose(variants, job)
        return variant, _take_local(variant, job) if job.local is not None else _fetch_all(variant, job)
    except UnreachableError as error:
        if job.mirror is not None:
            raise
        raise with_hint(error) from error


def _record_first_use(trust: FirstUse, variant: Variant, records: Sequence[Mapping[str, Any]]) -> None:
    trust.record(
        {**r, "member": f.member}
        for f, r in zip(variant.files, records, strict=True)
        if r["status"] in HAD and not expectation(None, f.checksum).hashes
    )


def _check_variants(variants: Sequence[Variant], unit: str, lister: str) -> None:
    if not variants or not all(v.files for v in variants):
        raise SpecError(f"{lister}: lists no files for unit {unit!r}, or a variant without files")
    for variant in variants:
        for key in ("local", "url and member"):
            counts = Counter(f.local if key == "local" else (f.url, f.member) for f in variant.files)
            twice = [name for name, count in counts.items() if count > 1]
            if twice:
                raise SpecError(
                    f"{lister}: unit {unit!r}, variant {variant.name!r} lists {key} {twice[0]!r} twice"
                )


def _row(file: RawFile, job: _Job) -> dict[str, Any]:
    if job.local is not None:
        return {"member": None, "path": str(job.local / file.local)}
    if file.member is not None:
        return {"member": file.member, "path": str(members_path(file.url, job.unit, job.raw_root))}
    return {"member": None, "path": str(local_path(file.url, job.raw_root))}


def _choose(variants: Sequence[Variant], job: _Job) -> Variant:
    """Return the first variant that is there: of those on this disk, else of those that the provider has.

    Of each the first, the middle and the last file are looked for, since single files may be missing.
    """
    if len(variants) == 1:
        return variants[0]
    for variant in variants:
        if any(Path(_row(f, job)["path"]).is_file() for f in _samples(variant)):
            return variant
    tried = []
    for variant in variants:
        for file in _samples(variant):
            where = _row(file, job)["path"] if job.local is not None else file.url
            reason = "is not there" if job.local is not None else _absence(file, job)
            if reason is None:
                return variant
            tried.append(f"{variant.name}: {where} ({reason})")
    raise MissingError(f"unit {job.unit}: none of {len(variants)} variants is there; probed {'; '.join(tried)}")


def _samples(variant: Variant) -> list[RawFile]:
    count = len(variant.files)
    return [variant.files[i] for i in sorted({0, count // 2, count - 1})]


def _absence(file: RawFile, job: _Job) -> str | None:
    """Return why the provider, or the mirror, does not have a file, None if it has."""
    if job.mirror is not None and not is_address(job.mirror):
        require_mirror(Path(job.mirror))
        copies = [local_path(file.url, job.mirror)]
        if file.member is not None:
            copies.append(members_path(file.url, job.unit, job.mirror))
        return None if any(c.is_file() for c in copies) else "not in the mirror"
    address = file.url if job.mirror is None else mirror_address(file.url, job.mirror)
    try:
        job.transport.probe(job.transport.source(address))
    except (MissingError, RefusedError, DamagedError) as error:
        return str(error).removeprefix(f"{address}: ")
    return None


def _take_local(variant: Variant, job: _Job) -> list[dict[str, Any]]:
    if not job.local.is_dir():
        raise FetchError(f"{job.local}: the local root is not a folder; expected the provider's tree of files")
    results = []
    for file in variant.files:
        path = job.local / file.local
        if not path.is_file():
            results.append(_failed("missing", f"{path} is not there"))
            continue
        size = path.stat().st_size
        if file.size not in (None, size):
            results.append(_failed("damaged", f"{path}: expected {file.size} bytes, found {size}"))
            continue
        results.append({"size": size, "sha256": None, "status": "local", "reason": None})
    return results


def _fetch_all(variant: Variant, job: _Job) -> list[dict[str, Any]]:
    single = [f for f in variant.files if f.member is None]
    archives: dict[str, list[RawFile]] = {}
    for file in variant.files:
        if file.member is not None:
            archives.setdefault(file.url, []).append(file)
    absent = [f for f in single if not local_path(f.url, job.raw_root).is_file()]
    known = sum(f.size or 0 for f in absent)
    if known:
        require_space(job.raw_root, known, job.transport.policy.disk_usage, f"unit {job.unit}")
        job.progress.expect(known)
    results: dict[RawFile, dict[str, Any]] = {}
    with ThreadPoolExecutor(job.workers) as pool:
        futures = {pool.submit(_fetch_file, file, job): file for file in single}
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    for url, files in archives.items():
        results |= _fetch_members(url, files, job)
    return [results[f] for f in variant.files]


def _fetch_file(file: RawFile, job: _Job) -> dict[str, Any]:
    pin: Mapping[str, Any] = {"size": file.size, "checksum": file.checksum}
    if job.pins is not None and file.url in job.pins:
        pin = {key: job.pins[file.url].get(key) for key in ("size", "sha256")}
    destination = local_path(file.url, job.raw_root)
    try:
        record = fetch_trusted(
            job.trust,
            file.url,
            destination,
            **pin,
            mirror=job.mirror,
            transport=job.transport,
            progress=job.progress,
        )
    except (MissingError, RefusedError) as error:
        return _failed("missing", str(error))
    except DamagedError as error:
        return _failed("damaged", str(error))
    except GivenUpError as error:
        if error.status != _OBJECT_FAILS:
            raise
        return _failed("missing", str(error))
    return {"size": record["size"], "sha256": record["sha256"], "status": record["status"], "reason": None}


def _fetch_members(url: str, files: Sequence[RawFile], job: _Job) -> dict[RawFile, dict[str, Any]]:
    recorded = {}
    if job.trust is not None:
        rows = {f.member: job.trust.get(url, f.member) for f in files}
        recorded = {member: row["sha256"] for member, row in rows.items() if row}
    try:
        found = MembersJob(
            url=url,
            unit=job.unit,
            files=files,
            raw_root=job.raw_root,
            mirror=job.mirror,
            transport=job.transport,
            recorded=recorded,
            workers=job.workers,
            progress=job.progress,
        ).run()
    except (MissingError, RefusedError) as error:
        return {f: _failed("missing", str(error)) for f in files}
    except DamagedError as error:
        return {f: _failed("damaged", str(error)) for f in files}
    new = "fetched" if job.mirror is None else "mirrored"
    return {
        f: {
            "size": r.size,
            "sha256": r.sha256,
            "status": new if r.status == "fetched" else r.status,
            "reason": r.reason,
        }
        for f, r in ((f, found[f.member]) for f in files)
    }


def _failed(status: str, reason: str) -> dict[str, Any]:
    return {"size": None, "sha256": None, "status": status, "reason": " ".join(reason.split())}


def _check_some(records: Sequence[Mapping[str, Any]], unit: str) -> None:
    if any(r["status"] in HAD for r in records):
        return
    kinds = Counter(r["status"] for r in records)
    text = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    raise FetchError(
        f"unit {unit}: none of its {len(records)} files could be had ({text}); {records[0]['reason']}"
    )
