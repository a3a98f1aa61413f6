"""An address written as folders: ``https://host/a/b.csv`` lies at ``<root>/host/a/b.csv``.

``s3://bucket/key`` lies where its HTTPS form does, ``<root>/bucket.s3.amazonaws.com/key``.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from morphobench.errors import FetchError

# What most file systems allow for one name is 255 bytes; temporary names beside it need room.
_LONGEST_NAME = 200
_S3_HOST = "s3.amazonaws.com"
_HOST = re.compile(r"[a-z0-9_]([a-z0-9._-]*[a-z0-9_])?(:\d+)?|\[[0-9a-f:.]+\](:\d+)?")


def relative_path(url: str) -> str:
    """Return ``<host>/<path>`` for an address, safe to append to a folder or to a mirror's base address.

    Different addresses give different paths: the query is part of the file name (after an ``@``, so that
    ``?id=1`` and ``?id=2`` stay apart), percent escapes are kept as written, and a fragment is refused. Only the
    scheme and the case of the host are lost; ``s3://bucket/key`` is taken as what it is over HTTPS,
    ``https://bucket.s3.amazonaws.com/key``.

    Raises
    ------
    FetchError
        If the address is not http, https or s3, names no file, or could lead out of the folder.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise FetchError(f"{url}: not an address ({error})") from error
    if parts.scheme.lower() not in ("http", "https", "s3"):
        raise FetchError(f"{url}: not an address this can fetch, expected http://, https:// or s3://")
    host = parts.netloc.lower()
    if not _HOST.fullmatch(host) or ".." in host:
        raise FetchError(f"{url}: host {parts.netloc!r} is not a plain host name with an optional port")
    if parts.scheme.lower() == "s3":
        host = f"{host}.{_S3_HOST}"
    if parts.fragment:
        raise FetchError(f"{url}: has a fragment (#{parts.fragment}), which names no file of its own")
    segments = parts.path.split("/")[1:]
    for i, segment in enumerate(segments):
        plain = unquote(segment)
        ends = i == len(segments) - 1
        if plain in (".", "..") or any(c in plain for c in "/\\\0") or (not plain and not (ends and parts.query)):
            raise FetchError(f"{url}: path segment {segment!r} cannot be written as a folder or file name")
    if not segments:
        raise FetchError(f"{url}: names no file, expected a path after the host")
    name = segments[-1].replace("@", "%40")
    if parts.query:
        name += "@" + quote(parts.query, safe="=&;,:+%")
    if len(name.encode()) > _LONGEST_NAME:
        name = f"{name.encode()[:100].decode(errors='ignore')}@@{hashlib.sha256(name.encode()).hexdigest()[:32]}"
    return "/".join([host.replace(":", "_"), *segments[:-1], name])


def members_path(url: str, unit: str, root: str | Path) -> Path:
    """Return where the members that a unit takes from the zip at ``url`` lie: ``<zip>.members/<unit>.zip``.

    Parameters
    ----------
    url
        Address of the whole archive.
    unit
        Name of the unit; characters that a file name cannot have are escaped.
    root
        The folder of raw files, or of a mirror.
    """
    return Path(root) / members_relative_path(url, unit)


def members_relative_path(url: str, unit: str) -> str:
    """Return :func:`members_path` relative to a root."""
    name = quote(unit, safe=" +,=@()")
    if name in ("", ".", "..") or len(name.encode()) > _LONGEST_NAME:
        raise FetchError(f"unit {unit!r} cannot be written as a file name")
    return f"{relative_path(url)}.members/{name}.zip"


def local_path(url: str, root: str | Path) -> Path:
    """Return where the file of an address lies under ``root``: ``<root>/<host>/<path>``.

    Parameters
    ----------
    url
        An http, https or s3 address of one file.
    root
        The folder of raw files, or of a mirror.

    Raises
    ------
    FetchError
        See :func:`relative_path`.
    """
    return Path(root) / relative_path(url)
