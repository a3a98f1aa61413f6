"""Members of a zip that is too large to fetch: only their bytes, by ranges, kept in one small zip a unit."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from morphobench.errors import FetchError
from morphobench.fetch.addresses import members_path, members_relative_path
from morphobench.fetch.checksums import Digests, Expected, expectation
from morphobench.fetch.disk import exclusive_part, full_disk_named, require_space
from morphobench.fetch.failures import ChangedError, DamagedError, MissingError
from morphobench.fetch.files import is_address, mirror_address, not_mirrored, require_mirror
from morphobench.fetch.progress import Progress
from morphobench.fetch.requests import RawFile
from morphobench.fetch.sources import FileSource, Found, Source
from morphobench.fetch.transport import Transport
from morphobench.fetch.zipindex import Member, cached_directory, directory_of, ranges, unpack
from morphobench.files import atomic_path, write_text

_UNREADABLE = (zipfile.BadZipFile, OSError, EOFError)
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Result:
    """What became of one member: status ``fetched``, ``present``, ``missing`` or ``damaged``."""

    status: str
    reason: str | None = None
    size: int | None = None
    sha256: str | None = None


@dataclass
class MembersJob:
    """The members that one unit takes from one archive.

    Parameters
    ----------
    url
        Address of the archive.
    unit
        Name of the unit.
    files
        What is wanted; all with ``url`` as address and a ``member``.
    raw_root
        The folder of raw files.
    mirror
        See :func:`morphobench.fetch.fetch`; may have the whole archive, or the unit's small zip.
    transport
        The network; the mirror's if there is one.
    recorded
        Member to SHA-256 of its first fetch.
    workers
        Requests at a time.
    progress
        Told of each range that arrives.
    """

    url: str
    unit: str
    files: Sequence[RawFile]
    raw_root: Path
    mirror: str | Path | None
    transport: Transport
    recorded: Mapping[str, str] = field(default_factory=dict)
    workers: int = 8
    progress: Progress | None = None

    def __post_init__(self) -> None:
        for file in self.files:
            check_member_name(file.member, self.url)
        self.target = members_path(self.url, self.unit, self.raw_root)
        self.spool = self.target.with_name(f".{self.target.name}.spool")
        archive = members_path(self.url, "x", self.raw_root).parent.name.removesuffix(".members")
        self.cache = self.target.parent.with_name(f".{archive}.directory")

    def run(self) -> dict[str, Result]:
        """Bring the members into ``target`` and return what became of each.

        Raises
        ------
        MissingError, RefusedError, DamagedError
            If the archive itself is not there, not for everybody, or no whole zip.
        FetchError
            If it cannot be read by ranges, keeps changing, or the disk is too small.
        """
        with full_disk_named(self.target), exclusive_part(self.target) as part:
            for last in (False, True):
                try:
                    return self._run(part)
                except ChangedError as error:
                    shutil.rmtree(self.spool, ignore_errors=True)
                    if last:
                        raise FetchError(
                            f"{self.url}: changed twice while it was read; run again later"
                        ) from error
        raise AssertionError("the second try returns or raises")

    def _run(self, part: Path) -> dict[str, Result]:
        folder = self.mirror is not None and not is_address(self.mirror)
        if not folder:  # what is there is trusted without asking, so that no network is needed
            results = self._stored({})
            index = cached_directory(self.cache, self._where())
            known = (
                index.find([f.member for f in self.files]) if index and len(results) < len(self.files) else None
            )
            absent = [f for f in self.files if f.member not in results]
            if not absent or (known is not None and results and not any(f.member in known for f in absent)):
                return {**results, **{f.member: self._absent() for f in absent}}
        source, found = self._origin()
        cache = None if isinstance(source, FileSource) else self.cache
        directory = directory_of(source.where, found, self._reader(source, found), cache)
        members = directory.find([f.member for f in self.files])
        results = self._stored(members)
        wanted = [f for f in self.files if f.member in members and f.member not in results]
        results |= {f.member: self._absent() for f in self.files if f.member not in members}
        if wanted:
            self._bring(source, found, [members[f.member] for f in wanted])
            results |= self._assemble(source, found, part, members, results)
            shutil.rmtree(self.spool, ignore_errors=True)
        return results

    def _where(self) -> str:
        return self.url if self.mirror is None else mirror_address(self.url, self.mirror)

    def _absent(self) -> Result:
        return Result("missing", f"the archive {self.url} has no such member")

    def _origin(self) -> tuple[Source, Found]:
        if self.mirror is None:
            source = self.transport.source(self.url)
            return source, self._found(source)
        if not is_address(self.mirror):
            require_mirror(Path(self.mirror))
            whole = self._copy(Path(self.mirror))
            return whole, whole.probe()
        base = str(self.mirror).rstrip("/")
        for address in (self._where(), f"{base}/{members_relative_path(self.url, self.unit)}"):
            source = self.transport.source(address)
            try:
                return source, self._found(source)
            except MissingError:
                continue
        raise not_mirrored(self.url, self._where())

    def _copy(self, mirror: Path) -> FileSource:
        part = members_path(self.url, self.unit, mirror)
        whole = part.parent.with_name(part.parent.name.removesuffix(".members"))
        for path in (whole, part):
            if path.is_file():
                return FileSource(path)
        raise not_mirrored(self.url, str(whole))

    def _found(self, source: Source) -> Found:
        found = self.transport.probe(source)
        if found.size is None:
            raise FetchError(
                f"{source.where}: the server does not say how large the archive is; fetch it as a whole"
            )
        return found

    def _reader(self, source: Source, found: Found) -> Callable[[int, int], bytes]:
        return lambda start, stop: self.transport.read(source, start, stop, found.validator)

    def _expected(self, file: RawFile) -> Expected:
        known = expectation(file.size, file.checksum)
        return known if known.hashes else expectation(file.size, sha256=self.recorded.get(file.member))

    def _stored(self, members: Mapping[str, Member]) -> dict[str, Result]:
        """Return the members that the unit's zip has and that are right."""
        results: dict[str, Result] = {}
        if not self.target.is_file():
            return results
        try:
            with zipfile.ZipFile(self.target) as archive:
                names = set(archive.namelist())
                for file in self.files:
                    if file.member not in names:
                        continue
                    info, now = archive.getinfo(file.member), members.get(file.member)
                    if now is not None and (now.crc, now.size) != (info.CRC, info.file_size):
                        continue
                    with contextlib.suppress(*_UNREADABLE):
                        difference, sha256 = measure(archive.read(info), self._expected(file))
                        if difference is None:
                            results[file.member] = Result("present", None, info.file_size, sha256)
        except _UNREADABLE:
            return {}
        return results

    def _bring(self, source: Source, found: Found, members: Sequence[Member]) -> None:
        """Read the ranges that hold the members into the spool, several at a time; those there stay."""
        key = json.dumps([source.where, found.size, found.validator])
        key_file = self.spool / "archive.json"
        if not key_file.is_file() or key_file.read_text(encoding="utf-8") != key:
            shutil.rmtree(self.spool, ignore_errors=True)
            self.spool.mkdir(parents=True)
            write_text(key_file, key)
        groups = [g for g in ranges(members) if not self._range_file(*g).is_file()]
        needed = sum(stop - start for start, stop in groups) + sum(m.size for m in members)
        require_space(self.target.parent, needed, self.transport.policy.disk_usage, f"{len(members)} members")
        with ThreadPoolExecutor(self.workers) as pool:
            jobs = [pool.submit(self._bring_range, source, found, *group) for group in groups]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _range_file(self, start: int, stop: int) -> Path:
        return self.spool / f"{start}-{stop}"

    def _bring_range(self, source: Source, found: Found, start: int, stop: int) -> None:
        content = self._reader(source, found)(start, stop)
        if len(content) != stop - start:
            raise DamagedError(f"{source.where}: {len(content)} bytes came instead of bytes {start} to {stop}")
        with full_disk_named(self.spool), atomic_path(self._range_file(start, stop)) as part:
            part.write_bytes(content)
        if self.progress:
            self.progress.add(len(content))

    def _assemble(
        self, source: Source, found: Found, part: Path, members: Mapping[str, Member], stored: Mapping[str, Result]
    ) -> dict[str, Result]:
        """Write the unit's zip: members in the order asked for, uncompressed; same members, same bytes."""
        results: dict[str, Result] = {}
        place = {m.name: g for g, inside in self._by_range(members.values()) for m in inside}
        old = zipfile.ZipFile(self.target) if any(r.status == "present" for r in stored.values()) else None
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for file in self.files:
                name = file.member
                if name in stored and stored[name].status == "present":
                    content = old.read(name)
                elif name not in members:
                    continue
                else:
                    results[name], content = self._member(source, found, members[name], place[name], file)
                if content is not None:
                    info = zipfile.ZipInfo(name, _EPOCH)
                    info.external_attr, info.create_system = 0o644 << 16, 3
                    archive.writestr(info, content)
            empty = not archive.namelist()
        if old is not None:
            old.close()
        if not empty:
            os.replace(part, self.target)
        return results

    def _by_range(self, members: Collection[Member]) -> list[tuple[tuple[int, int], list[Member]]]:
        names = [re.fullmatch(r"(\d+)-(\d+)", p.name) for p in self.spool.iterdir()]
        there = [(int(n[1]), int(n[2])) for n in names if n]
        return [(g, [m for m in members if g[0] <= m.offset and m.stop <= g[1]]) for g in there]

    def _member(
        self, source: Source, found: Found, member: Member, group: tuple[int, int], file: RawFile
    ) -> tuple[Result, bytes | None]:
        for last in (False, True):
            try:
                with open(self._range_file(*group), "rb") as stream:
                    stream.seek(member.offset - group[0])
                    content = unpack(stream.read(member.stop - member.offset), member)
                difference, sha256 = measure(content, self._expected(file))
                if difference is None:
                    return Result("fetched", None, len(content), sha256), content
                reason = f"member {member.name} of {self.url} is not the one expected: {difference}"
                if file.member in self.recorded:
                    reason += " (what it was when first fetched)"
            except DamagedError as error:
                reason = f"member {member.name} of {self.url}: {error}"
            if not last:
                self._bring_range(source, found, *group)
        return Result("damaged", reason), None


def measure(content: bytes, expected: Expected) -> tuple[str | None, str]:
    """Return how content in memory differs from what is expected (None if it does not), and its SHA-256."""
    sha256 = hashlib.sha256(content).hexdigest()
    if expected.size not in (None, len(content)):
        return f"expected {expected.size} bytes, found {len(content)}", sha256
    digests = Digests(expected.hashes, len(content))
    digests.update(content)
    return expected.compare(digests.hexadecimal()), sha256


def check_member_name(name: str | None, where: str) -> None:
    """Raise FetchError if a member's name could lead out of a folder, or is none."""
    plain = name or ""
    parts = plain.rstrip("/").split("/")
    if not plain or any(p in ("", ".", "..") for p in parts) or any(c in plain for c in "\\\0") or ":" in parts[0]:
        raise FetchError(f"{where}: member {name!r} is refused, its name could lead out of the folder")
