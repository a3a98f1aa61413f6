"""A ``.npy`` file that grows by one array at a time, without holding the whole in memory.

The file is an ordinary version 1.0 ``.npy`` that ``numpy.load(path, mmap_mode="r", allow_pickle=False)`` opens.
Its header has a fixed size, so that the number of rows can be filled in when the last one is written.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

HEADER_BYTES = 128
MAGIC = b"\x93NUMPY\x01\x00"


def npy_header(shape: tuple[int, ...], dtype: np.dtype) -> bytes:
    """Return a header of :data:`HEADER_BYTES` bytes for a C-ordered array."""
    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    text = f"{{'descr': {description!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode("latin1")
    room = HEADER_BYTES - len(MAGIC) - 2
    if len(text) >= room:
        raise ValueError(f"header of {len(text)} bytes does not fit into {HEADER_BYTES}")
    return MAGIC + room.to_bytes(2, "little") + text.ljust(room - 1) + b"\n"


class GrowingArray:
    """An array on disk that rows are appended to; a context manager.

    Parameters
    ----------
    path
        The file, made new.
    empty
        Shape of a row and type to state if no row was written.
    """

    def __init__(self, path: str | Path, empty: tuple[tuple[int, ...], Any]) -> None:
        self.path = Path(path)
        self.rows = 0
        self.shape: tuple[int, ...] = tuple(empty[0])
        self.dtype = np.dtype(empty[1])
        self._digest = hashlib.sha256()

    def __enter__(self) -> GrowingArray:
        self._stream = open(self.path, "wb")  # noqa: SIM115 - closed by __exit__
        self._stream.write(npy_header((0, *self.shape), self.dtype))
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        try:
            if kind is None:
                self._stream.seek(0)
                self._stream.write(npy_header((self.rows, *self.shape), self.dtype))
        finally:
            self._stream.close()

    def append(self, row: np.ndarray) -> None:
        """Write one row; the first decides shape and type, ValueError if a later one differs."""
        if not self.rows:
            self.shape, self.dtype = row.shape, row.dtype
        elif row.shape != self.shape or row.dtype != self.dtype:
            raise ValueError(f"row is {row.shape} {row.dtype}, expected {self.shape} {self.dtype}")
        content = np.ascontiguousarray(row).data.cast("B")
        self._stream.write(content)
        self._digest.update(content)
        self.rows += 1

    def sha256(self) -> str:
        """Return the SHA-256 of the rows' bytes, without the header."""
        return self._digest.hexdigest()
