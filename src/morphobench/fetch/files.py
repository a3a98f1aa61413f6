"""One pinned file: from the mirror or the provider, verified, and only then under its final name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphobench.errors import FetchError
from morphobench.fetch.addresses import local_path, relative_path
from morphobench.fetch.checksums import Expected, digests_of, expectation
from morphobench.fetch.disk import exclusive_part, full_disk_named, require_space, state_path
from morphobench.fetch.failures import DamagedError, DifferentError, MissingError, UnreachableError
from morphobench.fetch.progress import Progress
from morphobench.fetch.transport import Transport, download

HINT = "set a mirror that has copies: `mirror: <folder>` in config.yaml, or `--config mirror=<folder>`"
# A file that arrives with other bytes than it should is fetched once more, since bytes do get damaged on the way.
_DOWNLOADS = 2


def is_address(mirror: str | Path) -> bool:
    """Return whether a mirror is a base address rather than a folder."""
    return str(mirror).startswith(("http://", "https://", "s3://"))


def transport_for(mirror: str | Path | None, transport: Transport | None = None) -> Transport:
    """Return a transport that contacts the mirror alone if there is one."""
    if mirror is None:
        return transport or Transport()
    return Transport(transport.policy if transport else None, redirects=False)


def fetch(
    url: str,
    destination: str | Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    git_sha1: str | None = None,
    checksum: str | None = None,
    mirror: str | Path | None = None,
    transport: Transport | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Bring the file at ``url`` to ``destination``, unless it is there and right.

    Parameters
    ----------
    url
        The provider's address: http, https or s3.
    destination
        Final file name; written atomically after all checks. While it is fetched the beginning lies beside it as
        ``.<name>.part``, from where a later call goes on.
    size, sha256
        What the file must be: bytes, lower-case hexadecimal. None where nobody could pin it.
    git_sha1
        The file's blob id in a git repository, a checksum that a commit gives away without the content.
    checksum
        A further checksum as in :class:`morphobench.fetch.requests.RawFile`. What Google Cloud Storage and S3
        announce about the content is checked besides.
    mirror
        A folder or a base address that holds copies under ``<host>/<path>``. With a mirror nothing else is
        contacted.
    transport
        Connections to share with other files, and how patient to be.
    progress
        Told of each block that arrives; by default one of this file's own.

    Returns
    -------
    dict
        ``url, path, size, sha256, status``; status ``present`` (was there), ``fetched`` or ``mirrored``.

    Raises
    ------
    FetchError
        One sentence: the file is not in the mirror (MissingError), cannot be reached (UnreachableError), is not
        the one expected (DamagedError), or does not fit on the disk.
    """
    destination = Path(destination)
    expected = expectation(size, checksum, sha256=sha256, git=git_sha1)
    there = _present(url, destination, expected)
    if there:
        return there
    with full_disk_named(destination), exclusive_part(destination) as part:
        there = _present(url, destination, expected)  # another process may have brought it meanwhile
        if there:
            return there
        if mirror is not None and not is_address(mirror):
            digest = _from_folder(url, Path(mirror), part, expected, transport_for(mirror, transport))
        else:
            digest = _from_network(url, mirror, part, expected, transport_for(mirror, transport), progress)
        found = part.stat().st_size
        # In this order: once the part is renamed, the state may be that of somebody else's part.
        state_path(part).unlink(missing_ok=True)
        os.replace(part, destination)
    return _record(url, destination, found, digest, "fetched" if mirror is None else "mirrored")


def _present(url: str, path: Path, expected: Expected) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    difference, digest = expected.difference(path)
    return None if difference else _record(url, path, path.stat().st_size, digest, "present")


def _from_network(
    url: str,
    mirror: str | Path | None,
    part: Path,
    expected: Expected,
    transport: Transport,
    progress: Progress | None,
) -> str:
    origin = url if mirror is None else mirror_address(url, mirror)
    source = transport.source(origin)
    own = progress or Progress(origin.rsplit("/", 1)[-1], expected.size)
    error: DamagedError | None = None
    try:
        for _ in range(_DOWNLOADS):
            announced = download(source, part, policy=transport.policy, size=expected.size, progress=own)
            digests = digests_of(part, {*expected.hashes, *announced})
            error = _damage(url, origin, part, expected, announced, digests)
            if error is None:
                return digests["sha256"]
            state_path(part).unlink(missing_ok=True)
    except DifferentError as different:
        raise not_pinned(url, origin, str(different)) from different
    except MissingError as missing:
        raise (missing if mirror is None else not_mirrored(url, origin)) from missing
    except UnreachableError as unreachable:
        if mirror is None:
            raise with_hint(unreachable) from unreachable
        raise UnreachableError(f"{unreachable}; {_ASKED_ALONE.format(url)}") from unreachable
    finally:
        if progress is None:
            own.close()
    raise error


def with_hint(error: UnreachableError) -> UnreachableError:
    """Return the error of a provider that cannot be reached, with the way out added unless it is there."""
    text = str(error)
    return UnreachableError(text if HINT in text else f"{text}; without a network, {HINT}")


def _damage(
    url: str,
    origin: str,
    part: Path,
    expected: Expected,
    announced: Mapping[str, str],
    digests: Mapping[str, str],
) -> DamagedError | None:
    found = part.stat().st_size
    if expected.size not in (None, found):
        return not_pinned(url, origin, f"expected {expected.size} bytes, found {found}")
    difference = expected.compare(digests)
    if difference:
        return not_pinned(url, origin, difference)
    difference = Expected(None, announced).compare(digests)
    if difference:
        return DamagedError(f"{origin}: not what the server announces: {difference}")
    return None


_ASKED_ALONE = "it is the mirror's copy of {}, and with a mirror nothing else is asked"


def _from_folder(url: str, mirror: Path, part: Path, expected: Expected, transport: Transport) -> str:
    copy = local_path(url, mirror)
    require_mirror(mirror)
    if not copy.is_file():
        raise not_mirrored(url, str(copy))
    require_space(part.parent, copy.stat().st_size, transport.policy.disk_usage, f"the copy of {copy}")
    state_path(part).unlink(missing_ok=True)
    try:
        shutil.copyfile(copy, part)
    except OSError as error:
        with full_disk_named(part):
            raise
        raise FetchError(f"{copy}: cannot be copied from the mirror ({error.strerror})") from error
    difference, digest = expected.difference(part)
    if difference:
        raise not_pinned(url, str(copy), difference)
    return digest


def mirror_address(url: str, mirror: str | Path) -> str:
    """Return where a mirror that is a base address has its copy of ``url``."""
    return f"{str(mirror).rstrip('/')}/{relative_path(url)}"


def require_mirror(mirror: Path) -> None:
    """Check that a mirror that is a folder is there."""
    if not mirror.is_dir():
        raise FetchError(f"{mirror}: the mirror is not a folder; expected a folder with <host>/<path> copies")


def not_mirrored(url: str, origin: str) -> MissingError:
    """Return the error of a file that the mirror lacks."""
    return MissingError(
        f"{origin}: not in the mirror; with a mirror nothing else is asked, so put a copy of {url} there"
    )


def not_pinned(url: str, origin: str, difference: str) -> DamagedError:
    """Return the error of a file that is not the one expected."""
    pinned = "" if origin == url else f" (the copy of {url})"
    return DamagedError(f"{origin}: not the file that is pinned{pinned}: {difference}")


def git_blob_id(path: Path) -> str:
    """Return the id that git gives a file's content: SHA-1 over ``blob <size>``, a zero byte and the bytes."""
    return digests_of(path, ["git"])["git"]


def _record(url: str, path: Path, size: int, sha256: str, status: str) -> dict[str, Any]:
    return {"url": url, "path": str(path), "size": size, "sha256": sha256, "status": status}
