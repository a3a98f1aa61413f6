"""Where bytes come from: the one interface that HTTP, S3 and a local file share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from morphobench.errors import FetchError
from morphobench.fetch.failures import ChangedError, MissingError

BLOCK = 1 << 17


@dataclass
class Answer:
    """The bytes of one file from ``start`` on, about to be read.

    Parameters
    ----------
    start
        Position of the first byte in the file; 0 where the server sends all of it although a range was asked for.
    total
        Size of the whole file, None if the server does not say.
    validator
        Strong ETag or Last-Modified: what tells whether a later answer is of the same file. None if there is none.
    hashes
        What the server says about the content of the whole file, by kind of checksum.
    blocks
        The bytes; ends only when all announced ones have come, else raises TransientError.
    """

    start: int
    total: int | None
    validator: str | None
    blocks: Iterator[bytes]
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """A file that is there: its size, None if unknown, and what identifies this state of it."""

    size: int | None
    validator: str | None


class Source(Protocol):
    """One file somewhere. Passing faults are raised as TransientError, by :meth:`open` and while reading."""

    where: str

    def open(
        self, start: int = 0, stop: int | None = None, validator: str | None = None
    ) -> AbstractContextManager[Answer]:
        """Ask for bytes ``start`` to ``stop`` (exclusive; None: the end), if the file is still ``validator``."""

    def probe(self) -> Found:
        """Ask whether the file is there; MissingError or RefusedError if not."""


class FileSource:
    """A file on this machine.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = str(path)

    @contextmanager
    def open(self, start: int = 0, stop: int | None = None, validator: str | None = None) -> Iterator[Answer]:
        """See :class:`Source`."""
        found = self.probe()
        if validator is not None and found.validator != validator:
            raise ChangedError(f"{self.where}: changed while it was read")
        with open(self.path, "rb") as stream:
            stream.seek(start)

            def blocks() -> Iterator[bytes]:
                left = (found.size if stop is None else min(stop, found.size)) - start
                while left > 0 and (block := stream.read(min(BLOCK, left))):
                    left -= len(block)
                    yield block

            yield Answer(start, found.size, found.validator, blocks())

    def probe(self) -> Found:
        """See :class:`Source`."""
        try:
            state = self.path.stat()
        except OSError as error:
            raise MissingError(f"{self.where}: is not there") from error
        return Found(state.st_size, f"{state.st_size}-{state.st_mtime_ns}")


def read_all(source: Source, start: int = 0, stop: int | None = None, validator: str | None = None) -> bytes:
    """Return bytes ``start`` to ``stop`` of a file, in one try.

    Raises
    ------
    ChangedError
        If the file is no longer the one that ``validator`` names.
    FetchError
        If the server sends the whole file where a range was asked for.
    """
    with source.open(start, stop, validator) as answer:
        if validator is not None and answer.validator != validator:
            raise ChangedError(f"{source.where}: changed between two ranges")
        if answer.start != start:
            raise FetchError(
                f"{source.where}: the server does not answer byte ranges; fetch the whole file instead"
            )
        return b"".join(answer.blocks) if stop is None else _first(answer.blocks, stop - start)


def _first(blocks: Iterator[bytes], count: int) -> bytes:
    content = bytearray()
    for block in blocks:
        content += block
        if len(content) >= count:
            break
    return bytes(content[:count])
