"""Reading an image store: memory maps of its units, metadata, folds, and a data set for training loops.

Nothing here needs unpickling, and nothing imports a training library.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from morphobench.errors import DataError
from morphobench.images.folds import SPLITS, UNUSED
from morphobench.images.layout import FORMAT


class ImageStore:
    """The images of one dataset, (C, H, W) each, and what is known about them.

    Opening it reads ``store.json`` only. Memory maps are opened when first needed, in each process for itself: a
    store can be pickled and sent to workers.

    Parameters
    ----------
    folder
        A folder that :func:`morphobench.images.finish.finish_store` wrote.

    Attributes
    ----------
    shape
        (C, H, W).
    dtype
        uint8 or uint16.
    channels
        The channels' names.
    facts
        All of ``store.json``.

    Raises
    ------
    DataError
        If there is no complete store in the folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "store.json"
        if not path.is_file():
            raise DataError(f"{path}: no such file; expected a finished image store")
        self.facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if self.facts.get("format") != FORMAT:
            raise DataError(
                f"{path}: store has format {self.facts.get('format')}, expected {FORMAT}; prepare it again"
            )
        self.shape: tuple[int, int, int] = tuple(self.facts["shape"])
        self.dtype = np.dtype(self.facts["dtype"])
        self.channels = tuple(c["name"] for c in self.facts["channels"])
        filled = [u for u in self.facts["units"] if u["samples"]]
        self._units = [u["unit"] for u in filled]
        self._ends = np.cumsum([u["samples"] for u in filled]).tolist()
        self._starts = [0, *self._ends[:-1]]
        self._maps: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        cached = ("samples", "statistics", "folds", "excluded")
        return {**{k: v for k, v in self.__dict__.items() if k not in cached}, "_maps": {}}

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> np.ndarray:
        """Return one image as a read-only (C, H, W) view of the file."""
        if index < 0:
            index += self._ends[-1]
        unit = bisect_right(self._ends, index)
        if index < 0 or unit == len(self._ends):
            raise IndexError(f"image {index} of {len(self)}")
        images = self._maps.get(unit)
        if images is None:
            images = self._open(unit)
        return images[index - self._starts[unit]]

    def _open(self, unit: int) -> np.ndarray:
        path = self.folder / f"{self._units[unit]}.npy"
        try:
            # The plain view is faster to index than numpy's memmap class.
            images = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path}: cannot be opened ({error}); prepare unit {self._units[unit]} again"
            ) from error
        expected = (self._ends[unit] - self._starts[unit], *self.shape)
        if images.shape != expected or images.dtype != self.dtype:
            raise DataError(f"{path}: {images.shape} {images.dtype}, expected {expected} {self.dtype}")
        self._maps[unit] = images
        return images

    def take(self, indices: Sequence[int] | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Copy images into one array, reading unit by unit and front to back.

        Parameters
        ----------
        indices
            (B,) sample numbers in any order, also repeated; negative ones count from the end.
        out
            (B, C, H, W) array to fill, made new by default.

        Returns
        -------
        ndarray
            (B, C, H, W), in the order of ``indices``.
        """
        indices = np.asarray(indices, dtype=np.int64).reshape(-1)
        if out is None:
            out = np.empty((len(indices), *self.shape), self.dtype)
        indices = np.where(indices < 0, indices + len(self), indices)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"images {indices.min()} to {indices.max()} of {len(self)}")
        for place in np.argsort(indices, kind="stable").tolist():
            out[place] = self[int(indices[place])]
        return out

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Metadata, one row a sample, in storage order."""
        return self._frame("samples")

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """Mean and standard deviation per plate and channel, see ``finish_store``."""
        return self._frame("statistics")

    @cached_property
    def folds(self) -> pd.DataFrame:
        """Columns ``fold0`` ... with ``train``, ``val``, ``test`` or ``unused``, one row a sample."""
        return self._frame("folds")

    @cached_property
    def excluded(self) -> pd.DataFrame:
        """What did not become a sample: ``unit``, ``what``, ``id``, ``reason``."""
        return pd.read_csv(self.folder / "excluded.csv", dtype=str, keep_default_na=False)

    def _frame(self, name: str) -> pd.DataFrame:
        path = self.folder / f"{name}.parquet"
        try:
            return pq.read_table(path).to_pandas()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error

    def rows(self, fold: int, split: str) -> np.ndarray:
        """Return the samples that a fold uses for ``train``, ``val`` or ``test``, ascending, int64."""
        column = f"fold{fold}"
        if column not in self.folds or split not in (*SPLITS, UNUSED):
            raise DataError(f"{self.folder}: no split {split!r} of {column}; folds are {', '.join(self.folds)}")
        return np.flatnonzero(self.folds[column].to_numpy() == split)


class ImageDataset:
    """A map-style data set over a store, as training libraries take it.

    ``dataset[k]`` is ``(pixels (C, H, W), sample)`` where ``sample`` is the row of the store, by which labels,
    batches and partners are looked up in arrays. ``dataset[[k, l, ...]]`` is a whole batch
    ``(pixels (B, C, H, W), samples (B,))`` in one gather: the fast way, for a loader whose *sampler* yields lists
    (``DataLoader(dataset, sampler=BatchSampler(...), batch_size=None)``). ``__getitems__`` gives a list of single
    items for loaders that collate by themselves. Pixels are copies and may be changed.

    Parameters
    ----------
    store
        The store or its folder.
    indices
        (N,) rows of the store that the data set consists of; all by default.
    """

    def __init__(self, store: ImageStore | str | Path, indices: Sequence[int] | np.ndarray | None = None) -> None:
        self.store = store if isinstance(store, ImageStore) else ImageStore(store)
        every = len(self.store)
        self.indices = np.arange(every) if indices is None else np.asarray(indices, dtype=np.int64).copy()
        if len(self.indices) and not (self.indices.min() >= 0 and self.indices.max() < every):
            raise DataError(f"{self.store.folder}: rows {self.indices.min()} to {self.indices.max()} of {every}")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: int | Sequence[int] | np.ndarray) -> tuple[np.ndarray, Any]:
        rows = self.indices[key]
        if np.ndim(rows) == 0:
            return self.store[int(rows)].copy(), int(rows)
        return self.store.take(rows), rows

    def __getitems__(self, keys: Sequence[int]) -> list[tuple[np.ndarray, int]]:
        pixels, rows = self[list(keys)]
        return list(zip(pixels, rows.tolist(), strict=True))
