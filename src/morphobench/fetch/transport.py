"""The transport: one address to one local file, resumed where it broke off."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from morphobench.errors import FetchError
from morphobench.fetch.disk import full_disk_named, require_space, state_path
from morphobench.fetch.failures import (
    ChangedError,
    DifferentError,
    MissingError,
    RefusedError,
    TransientError,
    UnreachableError,
)
from morphobench.fetch.http import HttpSource
from morphobench.fetch.policy import Attempts, Policy
from morphobench.fetch.progress import Progress
from morphobench.fetch.sources import Answer, Found, Source, read_all
from morphobench.files import write_text

__all__ = ["MissingError", "RefusedError", "Transport", "UnreachableError", "download"]


class Transport:
    """The network: gives sources for addresses. One object serves many threads and all files of a job.

    Parameters
    ----------
    policy
        How patient to be.
    redirects
        Whether redirects are followed; False for a mirror, so that no other host is contacted.
    """

    def __init__(self, policy: Policy | None = None, *, redirects: bool = True) -> None:
        self.policy = policy or Policy()
        self.redirects = redirects
        self._sessions = threading.local()
        self._lock = threading.Lock()
        self._s3: Any = None

    def source(self, url: str) -> Source:
        """Return the file at an http, https or s3 address."""
        scheme = urlsplit(url).scheme.lower()
        if scheme == "s3":
            from morphobench.fetch.s3 import S3Source, anonymous_client  # boto3 takes half a second to import

            with self._lock:
                self._s3 = self._s3 or anonymous_client(self.policy)
            return S3Source(url, self._s3)
        if scheme not in ("http", "https"):
            raise FetchError(f"{url}: only http, https and s3 can be fetched over the network; use a mirror")
        return HttpSource(url, self._session, self.policy, redirects=self.redirects)

    def probe(self, source: Source) -> Found:
        """Return size and validator of a file that is there, trying as often as the policy says."""
        attempts = Attempts(self.policy)
        while True:
            try:
                return source.probe()
            except TransientError as error:
                attempts.failed(error)

    def read(self, source: Source, start: int = 0, stop: int | None = None, validator: str | None = None) -> bytes:
        """Return bytes ``start`` to ``stop`` of a file, trying as often as the policy says."""
        attempts = Attempts(self.policy)
        while True:
            try:
                return read_all(source, start, stop, validator)
            except TransientError as error:
                attempts.failed(error)

    def _session(self) -> requests.Session:
        if not hasattr(self._sessions, "session"):
            self._sessions.session = requests.Session()
        return self._sessions.session


@dataclass
class _State:
    """What is known of the file whose beginning a part file holds."""

    url: str
    validator: str
    total: int | None
    hashes: dict[str, str] = field(default_factory=dict)


def download(
    source: Source,
    part: Path,
    *,
    policy: Policy | None = None,
    size: int | None = None,
    progress: Progress | None = None,
) -> dict[str, str]:
    """Bring a whole file to ``part``, going on where an earlier transfer stopped.

    Beside the part lies ``<part>.json`` with the address, the validator and the total size, if the server gives a
    validator; without one a part cannot be trusted to be of the same file, and each try starts from zero.

    Parameters
    ----------
    source
        The file.
    part
        The part file; nobody else may write it meanwhile, see :func:`morphobench.fetch.disk.exclusive_part`.
    policy
        How patient to be.
    size
        Bytes expected.
    progress
        Told of each block.

    Returns
    -------
    dict
        Checksums of the whole content that the server announces, by kind.

    Raises
    ------
    UnreachableError, MissingError, RefusedError, GivenUpError, DamagedError
        Each one sentence.
    DifferentError
        If the server announces another size than expected.
    FetchError
        If the disk is too small, or the file changes on the server once more after a new start.
    """
    policy = policy or Policy()
    attempts = Attempts(policy)
    changed = False
    furthest = 0
    while True:
        state = _read_state(part, source.where)
        have = part.stat().st_size if state else 0
        if state and have and have == state.total and size in (None, have):
            return state.hashes
        if state and state.total is not None and have > state.total:
            have = 0
        try:
            with source.open(have, validator=state.validator if have else None) as answer:
                _check_same(source, answer, have, state)
                return _receive(source, answer, part, size, policy, progress)
        except ChangedError as error:
            _discard(part)
            if changed:
                raise FetchError(
                    f"{source.where}: changed on the server twice while it was being fetched; run again later"
                ) from error
            changed = True
        except TransientError as error:
            reached = part.stat().st_size
            attempts.failed(error, gained=reached > furthest)
            furthest = max(furthest, reached)


def _check_same(source: Source, answer: Answer, have: int, state: _State | None) -> None:
    if not have or state is None:
        return
    other_total = None not in (answer.total, state.total) and answer.total != state.total
    if answer.validator != state.validator or other_total:
        raise ChangedError(f"{source.where}: changed since its first {have} bytes were fetched")


def _receive(
    source: Source, answer: Answer, part: Path, size: int | None, policy: Policy, progress: Progress | None
) -> dict[str, str]:
    total = answer.total
    if size is not None and total is not None and total != size:
        raise DifferentError(f"expected {size} bytes, found {total}")
    with full_disk_named(part):
        known = total if total is not None else size
        if known is not None:
            require_space(part.parent, known - answer.start, policy.disk_usage, "the file")
        if answer.validator is None:
            state_path(part).unlink(missing_ok=True)
        else:
            state = _State(source.where, answer.validator, total, dict(answer.hashes))
            write_text(state_path(part), json.dumps(asdict(state)))
        if progress:
            progress.expect(total)
            progress.add(min(0, answer.start - part.stat().st_size))
        with open(part, "r+b") as stream:
            stream.truncate(answer.start)
            stream.seek(answer.start)
            for block in answer.blocks:
                stream.write(block)
                if progress:
                    progress.add(len(block))
    return dict(answer.hashes)


def _read_state(part: Path, url: str) -> _State | None:
    try:
        state = _State(**json.loads(state_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return state if state.url == url else None


def _discard(part: Path) -> None:
    state_path(part).unlink(missing_ok=True)
    with open(part, "wb"):
        pass
