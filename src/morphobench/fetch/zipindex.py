"""The directory of a zip, read from its end by byte ranges and searched as bytes.

A directory of 750,000 members takes half a gigabyte as ``zipfile.ZipInfo`` objects; as bytes it takes 70 MB, and
only the members asked for become objects. Layout: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.12 to 4.3.16, 4.5.3.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from morphobench.fetch.disk import exclusive_part
from morphobench.fetch.failures import DamagedError
from morphobench.fetch.sources import Found

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LONGEST_COMMENT = 0xFFFF
_IN_EXTRA = 0xFFFFFFFF
_RANGE = 8 << 20
# Gaps up to the first are read rather than paying for another request; requests grow up to the second.
_GAP = 64 << 10
_LARGEST = 16 << 20

Read = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Member:
    """One member of a zip; its local header begins at ``offset`` and its last byte lies before ``stop``."""

    name: str
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    offset: int
    stop: int


@dataclass(frozen=True)
class Directory:
    """The directory of a zip as bytes.

    Parameters
    ----------
    where
        The archive, for messages.
    content
        The entries, as stored.
    start
        Position of the directory in the archive.
    base
        What to add to the offsets in the entries: bytes in front of the zip.
    """

    where: str
    content: bytes
    start: int
    base: int

    def find(self, names: Collection[str]) -> dict[str, Member]:
        """Return the members that have one of the names; of two with the same name the later.

        Raises
        ------
        DamagedError
            If the directory is not made of whole entries.
        """
        wanted = {}
        for name in names:
            wanted[name.encode()] = name
            wanted.setdefault(name.encode("cp437", errors="replace"), name)
        offsets, found = array("Q"), {}
        content, at = self.content, 0
        while at < len(content):
            if content[at : at + 4] != b"PK\1\2" or at + _ENTRY.size > len(content):
                raise DamagedError(f"{self.where}: the zip's directory is damaged at byte {self.start + at}")
            entry = _ENTRY.unpack_from(content, at)
            flags, method, crc, compressed, size = entry[3], entry[4], *entry[7:10]
            lengths, offset = entry[10:13], entry[16]
            head = at + _ENTRY.size
            raw = content[head : head + lengths[0]]
            if _IN_EXTRA in (compressed, size, offset):
                extra = content[head + lengths[0] : head + lengths[0] + lengths[1]]
                size, compressed, offset = self._long(extra, size, compressed, offset)
            offset += self.base
            offsets.append(offset)
            if raw in wanted:
                found[wanted[raw]] = (flags, method, crc, compressed, size, offset)
            at = head + sum(lengths)
        ordered = sorted(offsets)
        return {
            name: Member(name, *facts, stop=self._stop(ordered, name, facts[3], facts[5]))
            for name, facts in found.items()
        }

    def _long(self, extra: bytes, size: int, compressed: int, offset: int) -> list[int]:
        values = [size, compressed, offset]
        while len(extra) >= 4:
            kind, length = struct.unpack_from("<2H", extra)
            if kind == 1:
                field = extra[4 : 4 + length]
                for i, value in enumerate(values):
                    if value == _IN_EXTRA and len(field) >= 8:
                        values[i], field = struct.unpack_from("<Q", field)[0], field[8:]
            extra = extra[4 + length :]
        return values

    def _stop(self, ordered: list[int], name: str, compressed: int, offset: int) -> int:
        """Return where the member surely ends; its local header has the name again and its own extra field."""
        after = bisect_right(ordered, offset)
        limit = ordered[after] if after < len(ordered) else self.start
        return min(max(limit, offset), offset + 30 + len(name.encode()) + 0xFFFF + compressed)


def read_directory(where: str, size: int, read: Read) -> Directory:
    """Read the directory of a zip.

    Parameters
    ----------
    where
        The archive, for messages.
    size
        Its bytes.
    read
        Returns bytes ``start`` to ``stop`` of it.

    Raises
    ------
    DamagedError
        If it is no zip, or cut off.
    """
    tail_start = max(0, size - _END.size - _LOCATOR.size - _END64.size - _LONGEST_COMMENT)
    tail = read(tail_start, size) if size else b""
    end = tail.rfind(b"PK\5\6")
    while end >= 0 and end + _END.size > len(tail):
        end = tail.rfind(b"PK\5\6", 0, end)
    if end < 0:
        raise DamagedError(
            f"{where}: not a whole zip: it has {size} bytes and no directory at its end; is it cut off?"
        )
    length, offset = _END.unpack_from(tail, end)[5:7]
    stop = tail_start + end
    locator = end - _LOCATOR.size
    if locator >= _END64.size and tail[locator : locator + 4] == b"PK\6\7":
        record = _END64.unpack_from(tail, locator - _END64.size)
        if record[0] == b"PK\6\6":
            length, offset = record[8:10]
            stop = tail_start + locator - _END64.size
    start = stop - length
    if start < 0 or start < offset:
        raise DamagedError(
            f"{where}: not a whole zip: its directory does not lie where its end says; is it cut off?"
        )
    chunks = [read(at, min(at + _RANGE, stop)) for at in range(start, stop, _RANGE)]
    content = b"".join(chunks)
    if len(content) != length:
        raise DamagedError(f"{where}: only {len(content)} of {length} bytes of the zip's directory could be read")
    return Directory(where, content, start, start - offset)


def cached_directory(path: Path, where: str, found: Found | None = None) -> Directory | None:
    """Return the directory kept in ``path``, None if there is none or the archive is another by now.

    Parameters
    ----------
    path
        See :func:`keep_directory`.
    where
        Address of the archive.
    found
        The archive as it is now; None takes the directory whatever the archive is by now.
    """
    try:
        with open(path, "rb") as stream:
            header = json.loads(stream.readline())
            same = found is None or (header["size"], header["validator"]) == (found.size, found.validator)
            if header["where"] != where or not same:
                return None
            content = stream.read()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Directory(where, content, header["start"], header["base"]) if len(content) == header["length"] else None


def directory_of(where: str, found: Found, read: Read, cache: Path | None) -> Directory:
    """Return the directory of the archive, from ``cache`` if that is of this state of the archive.

    Parameters
    ----------
    where, read
        See :func:`read_directory`.
    found
        Size and validator of the archive as it is now.
    cache
        A file to keep the directory in, so that the units of an archive read it once; None keeps nothing.
    """
    if cache is None:
        return read_directory(where, found.size, read)
    with exclusive_part(cache) as part:
        directory = cached_directory(cache, where, found)
        if directory is None:
            directory = read_directory(where, found.size, read)
            header = {"where": where, "size": found.size, "validator": found.validator}
            header |= {"start": directory.start, "base": directory.base, "length": len(directory.content)}
            with open(part, "wb") as stream:
                stream.write(json.dumps(header).encode() + b"\n")
                stream.write(directory.content)
            os.replace(part, cache)
    return directory


def ranges(members: Sequence[Member]) -> list[tuple[int, int]]:
    """Return the ranges of bytes to read so that every member lies in one, neighbours together."""
    merged: list[tuple[int, int]] = []
    for member in sorted(members, key=lambda m: m.offset):
        if merged:
            start, stop = merged[-1]
            if member.offset - stop <= _GAP and max(stop, member.stop) - start <= _LARGEST:
                merged[-1] = (start, max(stop, member.stop))
                continue
        merged.append((member.offset, member.stop))
    return merged


def unpack(raw: bytes, member: Member) -> bytes:
    """Return the content of a member from the bytes that begin with its local header.

    Raises
    ------
    DamagedError
        If they are not this member's, or its CRC-32 is wrong; the message is a reason without the archive's name.
    """
    if member.flags & 1:
        raise DamagedError("is encrypted")
    if member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DamagedError(f"is compressed in a way this cannot read (method {member.method})")
    if len(raw) < 30 or raw[:4] != b"PK\3\4":
        raise DamagedError("does not begin where the directory says")
    begin = 30 + sum(struct.unpack_from("<2H", raw, 26))
    body = raw[begin : begin + member.compressed]
    if len(body) < member.compressed:
        raise DamagedError(f"is cut off after {len(body)} of {member.compressed} bytes")
    if member.method == zipfile.ZIP_DEFLATED:
        try:
            running = zlib.decompressobj(-zlib.MAX_WBITS)
            body = running.decompress(body, member.size + 1)
        except zlib.error as error:
            raise DamagedError(f"cannot be unpacked ({error})") from error
    if len(body) != member.size:
        raise DamagedError(f"unpacks to another size than the {member.size} bytes announced")
    found = zlib.crc32(body)
    if found != member.crc:
        raise DamagedError(f"expected CRC-32 {member.crc:08x}, found {found:08x}")
    return body
