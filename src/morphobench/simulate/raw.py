"""Raw files of a simulated screen, under the provider's addresses.

The same seed gives the same bytes, with the same versions of numpy, pandas and pyarrow.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from morphobench.errors import SpecError
from morphobench.fetch.addresses import local_path, relative_path
from morphobench.fetch.manifest import write_manifest
from morphobench.files import atomic_path, sha256_of

LICENCE = "simulated, no rights reserved"
MANIFEST = "manifest.tsv"
TRUTH = "truth.tsv"
_ZIP_DATE = (2000, 1, 1, 0, 0, 0)


class RawFolder:
    """A folder in mirror layout that keeps the manifest of what is written to it.

    Parameters
    ----------
    root
        Files lie under ``<root>/<host>/<path>``, so that the folder can be fetched from as a mirror.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.records: list[dict[str, Any]] = []

    def write(self, url: str, content: bytes) -> None:
        """Write the file of one address atomically."""
        path = local_path(url, self.root)
        with atomic_path(path) as part:
            part.write_bytes(content)
        self._record(url, len(content), hashlib.sha256(content).hexdigest())

    @contextmanager
    def zip(self, url: str) -> Iterator[Callable[[str, bytes], None]]:
        """Write the zip of one address member by member: yields ``add(member, content)``.

        Members are stored, not compressed, and have no date of their own. The zip is there once the block ends.
        """
        path = local_path(url, self.root)
        with atomic_path(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:

            def add(member: str, content: bytes) -> None:
                archive.writestr(zipfile.ZipInfo(member, _ZIP_DATE), content)

            yield add
        self._record(url, path.stat().st_size, sha256_of(path))

    def _record(self, url: str, size: int, sha256: str) -> None:
        record = {"url": url, "path": relative_path(url), "size": size, "sha256": sha256}
        self.records.append({**record, "licence": LICENCE, "status": "simulated"})

    def finish(self, truth: pd.DataFrame) -> list[dict[str, Any]]:
        """Write ``truth.tsv`` and ``manifest.tsv`` and return the manifest's records.

        Parameters
        ----------
        truth
            What was planted, one row an entity; not a file of the provider, so it is not in the manifest.
        """
        with atomic_path(self.root / TRUTH) as part:
            truth.to_csv(part, sep="\t", index=False, lineterminator="\n")
        write_manifest(self.records, self.root / MANIFEST)
        return self.records


def csv_bytes(table: pd.DataFrame, *, newline: str = "\n", **options: Any) -> bytes:
    """Return a table as CSV text in UTF-8."""
    return table.to_csv(index=False, lineterminator=newline, **options).encode()


def gzip_bytes(content: bytes) -> bytes:
    """Compress without a time stamp, so that the same content gives the same bytes."""
    return gzip.compress(content, mtime=0)


def parquet_bytes(table: pd.DataFrame, *, index: bool = False) -> bytes:
    """Return a table as a parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=index), stream, compression="snappy")
    return stream.getvalue()


def png_bytes(pixels: np.ndarray) -> bytes:
    """Return (H, W) uint8 or uint16 pixels as a grey PNG, lightly compressed."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def parse(kind: type, parameters: Mapping[str, Any], where: str) -> Any:
    """Build a parameters dataclass; SpecError for a key it does not have or a value of the wrong kind.

    A value is a number, 0 or more (whole where the default is), or text where the default is text.
    """
    known = {f.name: f for f in fields(kind)}
    for key, value in parameters.items():
        if key not in known:
            raise SpecError(f"{where}: unknown parameter {key!r}; known parameters are {', '.join(known)}")
        if isinstance(known[key].default, str):
            if not isinstance(value, str):
                raise SpecError(f"{where}: parameter {key} is {value!r}, expected text")
            continue
        whole = isinstance(known[key].default, int)
        if (
            isinstance(value, bool)
            or not isinstance(value, int if whole else (int, float))
            or not 0 <= value < inf
        ):
            expected = "a whole number" if whole else "a number"
            raise SpecError(f"{where}: parameter {key} is {value!r}, expected {expected}, 0 or more")
    return kind(**parameters)
