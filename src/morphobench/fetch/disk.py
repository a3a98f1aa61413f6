"""The local side of a transfer: room on the disk, part files, and one writer at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from morphobench.errors import FetchError
from morphobench.fetch.progress import readable

_FULL = {errno.ENOSPC, errno.EDQUOT}


def require_space(folder: Path, needed: int, usage: Callable[[Any], Any], what: str) -> None:
    """Check, before anything is fetched, that ``needed`` bytes fit.

    Raises
    ------
    FetchError
        One sentence with what is needed and what is free.
    """
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = usage(there).free
    if needed > free:
        raise FetchError(
            f"{folder}: {what} needs {readable(needed)} ({needed} bytes), but only {readable(free)} "
            f"({free} bytes) are free"
        )


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Turn a full disk or an exhausted quota inside the block into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise FetchError(f"{path}: the disk is full or the quota exhausted; make room and run again") from error


def state_path(part: Path) -> Path:
    """Return where the state of a part file is kept: ``<part>.json``."""
    return part.with_name(part.name + ".json")


@contextmanager
def exclusive_part(destination: Path) -> Iterator[Path]:
    """Yield the part file ``.<name>.part`` beside ``destination``, which nobody else writes meanwhile.

    The name is always the same, so a transfer that broke off goes on where it stopped; the part is locked, so two
    processes never write it at once. It survives the block only if a state file beside it says what it is. After
    waiting for another writer, look again whether ``destination`` is there.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f".{destination.name}.part")
    lasting = True
    try:
        stream = _locked(part)
    except OSError as error:
        if error.errno in _FULL:
            with full_disk_named(destination):
                raise
        # A file system without locks: a name of its own, at the price of starting anew next time.
        lasting = False
        if part.exists() and part.stat().st_size == 0:
            part.unlink()
        part = destination.with_name(f".{destination.name}.{os.getpid()}.{threading.get_ident()}.part")
        stream = open(part, "ab")  # noqa: SIM115 - closed below
    try:
        yield part
    finally:
        # Once it is renamed, somebody else's part may bear the name: only the own one is removed.
        if _is_same(stream, part) and not (lasting and part.stat().st_size and state_path(part).exists()):
            state_path(part).unlink(missing_ok=True)
            part.unlink(missing_ok=True)
        stream.close()


def _locked(part: Path) -> Any:
    """Open and lock ``part``; whoever held it may have renamed it, then it is another file and opened again."""
    while True:
        stream = open(part, "ab")  # noqa: SIM115 - stays open while locked
        try:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{part}: waiting for another process that fetches it", file=sys.stderr, flush=True)
                fcntl.flock(stream, fcntl.LOCK_EX)
            if _is_same(stream, part):
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _is_same(stream: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
