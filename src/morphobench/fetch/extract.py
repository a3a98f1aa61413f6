"""Whole archives unpacked, with nothing written outside the target."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from morphobench.errors import FetchError
from morphobench.fetch.disk import full_disk_named, require_space
from morphobench.fetch.failures import DamagedError
from morphobench.fetch.members import check_member_name

_BLOCK = 1 << 20


def extract_zip(
    path: str | Path, target: str | Path, *, usage: Callable[[Any], Any] = shutil.disk_usage
) -> list[Path]:
    """Unpack a zip into a new folder; the folder gets its name only when everything is in it.

    Parameters
    ----------
    path
        The zip.
    target
        The folder, which must not be there yet.
    usage
        Tells the free space of a folder, as :func:`shutil.disk_usage`.

    Returns
    -------
    list of Path
        The files, in the archive's order.

    Raises
    ------
    FetchError
        If a member's name leads out of the target or comes twice, a member is a link or no ordinary file, the
        target is there already, or the disk is too small; nothing is written then.
    DamagedError
        If the zip is cut off or a member is damaged.
    """
    path, target = Path(path), Path(target)
    if target.exists():
        raise FetchError(f"{target}: is there already; remove it to unpack {path} again")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(path) as archive:
            infos = _ordinary(archive, path)
            require_space(target.parent, sum(i.file_size for i in infos), usage, f"the content of {path}")
            with full_disk_named(target):
                part.mkdir(parents=True)
                for info in infos:
                    _write(archive, info, part / info.filename, path)
                os.replace(part, target)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DamagedError(f"{path}: not a whole zip ({error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return [target / info.filename for info in infos]


def _ordinary(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    infos, seen = [], set()
    for info in archive.infolist():
        # What zipfile makes of the stored name may be harmless where the stored name is not.
        for name in (info.orig_filename, info.filename):
            check_member_name(name, str(path))
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise FetchError(f"{path}: member {info.filename!r} is refused, it is a link or no ordinary file")
        if info.is_dir():
            continue
        if info.filename in seen:
            raise FetchError(f"{path}: member {info.filename!r} is refused, the archive has it twice")
        seen.add(info.filename)
        infos.append(info)
    return infos


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path, path: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as source, open(file, "xb") as stream:
        shutil.copyfileobj(source, stream, _BLOCK)
    if file.stat().st_size != info.file_size:
        raise DamagedError(f"{path}: member {info.filename!r} has another size than announced")
