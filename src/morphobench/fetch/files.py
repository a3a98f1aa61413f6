"""One pinned file: from the mirror or the provider, verified, and only then under its final name."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from morphobench.errors import FetchError
from morphobench.fetch.addresses import local_path, relative_path
from morphobench.fetch.transport import MissingError, UnreachableError, download
from morphobench.files import atomic_path, sha256_of

HINT = "set a mirror that has copies: `mirror: <folder>` in config.yaml, or `--config mirror=<folder>`"


def is_address(mirror: str | Path) -> bool:
    """Return whether a mirror is a base address rather than a folder."""
    return str(mirror).startswith(("http://", "https://"))


def fetch(
    url: str,
    destination: str | Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    git_sha1: str | None = None,
    mirror: str | Path | None = None,
) -> dict[str, Any]:
    """Bring the file at ``url`` to ``destination``, unless it is there and right.

    Parameters
    ----------
    url
        The provider's address.
    destination
        Final file name; written atomically after all checks.
    size, sha256
        What the file must be: bytes, lower-case hexadecimal. None where nobody could pin it.
    git_sha1
        The file's blob id in a git repository, a checksum that a commit gives away without the content.
    mirror
        A folder or a base address that holds copies under ``<host>/<path>``. With a mirror nothing else is
        contacted.

    Returns
    -------
    dict
        ``url, path, size, sha256, status``; status ``present`` (was there), ``fetched`` or ``mirrored``.

    Raises
    ------
    FetchError
        One sentence: the file is not in the mirror (MissingError), cannot be reached (UnreachableError), or is not
        the one expected.
    """
    destination = Path(destination)
    if destination.is_file() and _difference(destination, size, sha256, git_sha1) is None:
        return _record(url, destination, "present")
    with atomic_path(destination) as part:
        if mirror is None:
            origin = url
            try:
                download(url, part)
            except UnreachableError as error:
                raise UnreachableError(f"{error}; without a network, {HINT}") from error
        elif is_address(mirror):
            origin = f"{str(mirror).rstrip('/')}/{relative_path(url)}"
            _from_base_address(url, origin, part)
        else:
            origin = str(local_path(url, mirror))
            _from_folder(url, Path(origin), Path(mirror), part)
        difference = _difference(part, size, sha256, git_sha1)
        if difference:
            pinned = "" if origin == url else f" (the copy of {url})"
            raise FetchError(f"{origin}: not the file that is pinned{pinned}: {difference}")
    return _record(url, destination, "fetched" if mirror is None else "mirrored")


def _from_folder(url: str, copy: Path, mirror: Path, part: Path) -> None:
    if not mirror.is_dir():
        raise FetchError(f"{mirror}: the mirror is not a folder; expected a folder with <host>/<path> copies")
    if not copy.is_file():
        raise MissingError(
            f"{copy}: not in the mirror; with a mirror nothing else is asked, so put a copy of {url} there"
        )
    try:
        shutil.copyfile(copy, part)
    except OSError as error:
        raise FetchError(f"{copy}: cannot be copied from the mirror ({error.strerror})") from error


def _from_base_address(url: str, origin: str, part: Path) -> None:
    try:
        download(origin, part, redirects=False)
    except MissingError as error:
        raise MissingError(
            f"{origin}: not in the mirror; with a mirror nothing else is asked, so put a copy of {url} there"
        ) from error
    except UnreachableError as error:
        raise UnreachableError(
            f"{error}; it is the mirror's copy of {url}, and with a mirror nothing else is asked"
        ) from error


def _difference(path: Path, size: int | None, sha256: str | None, git_sha1: str | None) -> str | None:
    found = path.stat().st_size
    if size is not None and found != size:
        return f"expected {size} bytes, found {found}"
    if sha256 is not None:
        digest = sha256_of(path)
        if digest != sha256.lower():
            return f"expected sha256 {sha256.lower()}, found {digest}"
    if git_sha1 is not None:
        digest = git_blob_id(path)
        if digest != git_sha1.lower():
            return f"expected git blob {git_sha1.lower()}, found {digest}"
    return None


def git_blob_id(path: Path) -> str:
    """Return the id that git gives a file's content: SHA-1 over ``blob <size>``, a zero byte and the bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _record(url: str, path: Path, status: str) -> dict[str, Any]:
    return {
        "url": url,
        "path": str(path),
        "size": path.stat().st_size,
        "sha256": sha256_of(path),
        "status": status,
    }
