"""Checksums of every kind that providers publish, computed in one pass over a file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import google_crc32c

from morphobench.errors import FetchError

_BLOCK = 1 << 20
_HEX_DIGITS = {"sha256": 64, "md5": 32, "git": 40}


@dataclass(frozen=True)
class Expected:
    """What a file must be.

    Parameters
    ----------
    size
        Bytes, or None.
    hashes
        Kind (``sha256``, ``md5``, ``crc32c``, ``git``) to lower-case hexadecimal.
    """

    size: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    def difference(self, path: Path) -> tuple[str | None, str]:
        """Return how the file differs (None if it does not), and its SHA-256 ("" if the size already differs)."""
        found = path.stat().st_size
        if self.size is not None and found != self.size:
            return f"expected {self.size} bytes, found {found}", ""
        digests = digests_of(path, self.hashes)
        return self.compare(digests), digests["sha256"]

    def compare(self, digests: Mapping[str, str]) -> str | None:
        """Return how computed digests differ from these, None if they do not."""
        for kind, value in self.hashes.items():
            if digests[kind] != value:
                named = "git blob" if kind == "git" else kind
                return f"expected {named} {value}, found {digests[kind]}"
        return None


def expectation(size: int | None = None, checksum: str | None = None, **hashes: str | None) -> Expected:
    """Return what pins say.

    Parameters
    ----------
    size
        Bytes.
    checksum
        ``kind:value`` as in :class:`morphobench.fetch.requests.RawFile`.
    hashes
        Further ones by kind; None where unknown.
    """
    known = {kind: value.lower() for kind, value in hashes.items() if value}
    return Expected(size, {**known, **(parse_checksum(checksum) if checksum else {})})


def parse_checksum(text: str) -> dict[str, str]:
    """Return ``{kind: hexadecimal}`` of ``kind:value``; empty for an ETag that is no checksum.

    Raises
    ------
    FetchError
        If the kind is unknown or the value is not one of that kind.
    """
    kind, _, value = text.partition(":")
    kind, value = kind.strip().lower(), value.strip()
    if kind == "etag":
        plain = plain_md5(value)
        return {"md5": plain} if plain else {}
    if kind == "crc32c":
        return {"crc32c": _crc32c_hex(value)}
    digits = _HEX_DIGITS.get(kind)
    if digits is None:
        known = ", ".join((*_HEX_DIGITS, "crc32c", "etag"))
        raise FetchError(f"checksum {text!r}: unknown kind {kind!r}, expected one of {known}")
    if not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value):
        raise FetchError(f"checksum {text!r}: expected {digits} hexadecimal digits")
    return {kind: value.lower()}


def plain_md5(etag: str | None) -> str | None:
    """Return the MD5 that an S3 ETag is, or None if it is none (``-N`` of an upload in parts, a weak tag)."""
    value = (etag or "").strip().strip('"').lower()
    return value if re.fullmatch("[0-9a-f]{32}", value) else None


def digests_of(path: Path, kinds: Iterable[str] = ()) -> dict[str, str]:
    """Return digests of a file by kind as hexadecimal, always with ``sha256``, from one pass over it."""
    running = Digests(kinds, path.stat().st_size)
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            running.update(block)
    return running.hexadecimal()


class Digests:
    """Several digests of the same bytes, always with SHA-256.

    Parameters
    ----------
    kinds
        Further kinds: ``md5``, ``crc32c``, ``git``.
    size
        Bytes in all; a git blob id begins with it.
    """

    def __init__(self, kinds: Iterable[str] = (), size: int = 0) -> None:
        self._running: dict[str, Any] = {"sha256": hashlib.sha256()}
        for kind in kinds:
            if kind == "md5":
                self._running[kind] = hashlib.md5(usedforsecurity=False)
            elif kind == "git":
                # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects: "blob <size>", a zero byte, content.
                self._running[kind] = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
            elif kind == "crc32c":
                self._running[kind] = google_crc32c.Checksum()

    def update(self, block: bytes) -> None:
        """Take in the next bytes."""
        for digest in self._running.values():
            digest.update(block)

    def hexadecimal(self) -> dict[str, str]:
        """Return the digests so far, by kind."""
        return {kind: digest.digest().hex() for kind, digest in self._running.items()}


def announced_hashes(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what response headers of Google Cloud Storage and of S3 say about the whole file's content.

    ``x-goog-hash`` carries MD5 (not for composed objects) and CRC32C in base64. An ETag is taken for an MD5 only
    if S3 sent it, of an object that was uploaded in one part and is not encrypted with a key of its own, see
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html.

    Parameters
    ----------
    headers
        Response headers, names in lower case.
    """
    hashes = {}
    for item in headers.get("x-goog-hash", "").split(","):
        kind, _, value = item.strip().partition("=")
        try:
            if kind == "md5":
                hashes["md5"] = base64.b64decode(value, validate=True).hex()
            elif kind == "crc32c":
                hashes["crc32c"] = _crc32c_hex(value)
        except (binascii.Error, FetchError):
            continue
    from_s3 = "x-amz-request-id" in headers or headers.get("server") == "AmazonS3"
    own_key = (
        "kms" in headers.get("x-amz-server-side-encryption", "")
        or "x-amz-server-side-encryption-customer-algorithm" in headers
    )
    etag = plain_md5(headers.get("etag"))
    if from_s3 and not own_key and etag:
        hashes["md5"] = etag
    return hashes


def _crc32c_hex(value: str) -> str:
    if re.fullmatch("[0-9a-fA-F]{8}", value):
        return value.lower()
    try:
        raw = base64.b64decode(value, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 4:
        raise FetchError(f"checksum 'crc32c:{value}': expected 8 hexadecimal digits or base64 of 4 bytes")
    return raw.hex()
