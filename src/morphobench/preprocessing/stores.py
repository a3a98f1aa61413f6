"""Where plates wait between preprocessing steps: in memory, or in one scratch file each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from morphobench.errors import DataError
from morphobench.files import atomic_path
from morphobench.preprocessing.base import Block, Step
from morphobench.profiles import Profiles, check_profiles


class PlateSource(Protocol):
    """One plate that can be read as often as needed."""

    plate: str
    batch: str

    def read(self) -> Profiles:
        """Return the plate's profiles; features may hold missing values."""


@dataclass(frozen=True)
class Entry:
    """What is known of a plate without reading it."""

    plate: str
    batch: str
    rows: int


class PlateStore(ABC):
    """Plates with steps still to be applied; a step is applied once to each plate, when it is first needed.

    Attributes
    ----------
    names
        The features that are left, sorted.
    entries
        The plates in order.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.entries: list[Entry] = []
        self._pending: list[tuple[Step, np.ndarray]] = []

    @abstractmethod
    def load(self, index: int) -> Block:
        """Return a plate as it was last saved."""

    @abstractmethod
    def save(self, index: int, features: np.ndarray) -> None:
        """Replace a plate's features."""

    @abstractmethod
    def metadata(self, index: int) -> pd.DataFrame:
        """Return a plate's metadata."""

    def batches(self) -> list[str]:
        """Return the batches in order of first appearance."""
        return list(dict.fromkeys(entry.batch for entry in self.entries))

    def add(self, step: Step) -> dict[str, str]:
        """Fit a step on the plates as they stand, queue it, and return the features it drops with reasons."""
        if step.reads:
            self.settle()
        dropped = step.fit(self)
        kept = np.flatnonzero([name not in dropped for name in self.names])
        if not len(kept):
            raise DataError(f"step {step.step} drops all {len(self.names)} features; its threshold leaves nothing")
        step.keep(kept)
        self.names = tuple(self.names[i] for i in kept)
        self._pending.append((step, kept))
        return dropped

    def settle(self) -> None:
        """Apply the queued steps to every plate."""
        if self._pending:
            for index in range(len(self.entries)):
                self.save(index, self.current(index).features)
            self._pending = []

    def current(self, index: int) -> Block:
        """Return a plate with the queued steps applied; its row count is asserted after each."""
        block = self.load(index)
        for step, kept in self._pending:
            features = block.features if len(kept) == block.features.shape[1] else block.features[:, kept]
            features = step.apply(replace(block, features=features))
            if features.shape != (self.entries[index].rows, len(kept)):
                raise RuntimeError(
                    f"step {step.step} changed plate {block.plate} to shape {features.shape}, "
                    f"expected {(self.entries[index].rows, len(kept))}"
                )
            block = replace(block, features=np.ascontiguousarray(features, dtype=np.float32))
        return block

    def blocks(self, batch: str | None = None) -> Iterator[Block]:
        """Yield the plates of one batch or of all, in order."""
        for index, entry in enumerate(self.entries):
            if batch is None or entry.batch == batch:
                yield self.current(index)


class MemoryStore(PlateStore):
    """Plates of one profiles table, each plate's rows in the table's order.

    Parameters
    ----------
    profiles
        Any rows; features may hold missing values.
    """

    def __init__(self, profiles: Profiles):
        super().__init__()
        check_profiles(profiles, "profiles to preprocess", allow_nan=True)
        order = np.argsort(profiles.names)
        self.names = tuple(profiles.names[i] for i in order)
        plates = profiles.column("Metadata_Plate").astype(str)
        self._metadata = profiles.metadata
        self.rows: list[np.ndarray] = []
        self._features: list[np.ndarray] = []
        for plate in dict.fromkeys(plates):
            rows = np.flatnonzero(plates == plate)
            self.entries.append(Entry(plate, _one_batch(profiles.metadata.iloc[rows], plate), len(rows)))
            self.rows.append(rows)
            self._features.append(np.ascontiguousarray(profiles.features[np.ix_(rows, order)]))

    def load(self, index: int) -> Block:
        """Return a plate as it was last saved."""
        entry = self.entries[index]
        control = self._metadata["Metadata_Control"].to_numpy()[self.rows[index]]
        return Block(entry.plate, entry.batch, control, self._features[index])

    def save(self, index: int, features: np.ndarray) -> None:
        """Replace a plate's features."""
        self._features[index] = features

    def metadata(self, index: int) -> pd.DataFrame:
        """Return a plate's metadata."""
        return self._metadata.iloc[self.rows[index]].reset_index(drop=True)


class ScratchStore(PlateStore):
    """Plates in a scratch folder: one file of features and one of metadata each, so memory holds one plate.

    Parameters
    ----------
    plates
        Read once each, in order.
    folder
        An empty folder.

    Attributes
    ----------
    schema
        Arrow schema of the metadata of all plates together.
    provenance
        Of the first plate.
    """

    def __init__(self, plates: Iterable[PlateSource], folder: Path):
        super().__init__()
        self._folder = folder
        self.schema = pa.schema([])
        self.provenance: dict[str, Any] = {}
        seen: set[str] = set()
        for index, source in enumerate(plates):
            profiles = source.read()
            where = f"plate {source.plate}"
            if source.plate in seen:
                raise DataError(f"{where} occurs twice; each plate must be given once")
            seen.add(source.plate)
            self._ingest(index, source, profiles, where)
        if not self.entries:
            raise DataError("no plates to preprocess; expected at least one")

    def _ingest(self, index: int, source: PlateSource, profiles: Profiles, where: str) -> None:
        """Check one plate and copy it to the scratch folder with its features sorted by name."""
        check_profiles(profiles, where, allow_nan=True)
        for column, value in (("Metadata_Plate", source.plate), ("Metadata_Batch", source.batch)):
            found = profiles.metadata[column].astype(str)
            if (found != str(value)).any():
                odd = found[found != str(value)].iloc[0]
                raise DataError(f"{where}: {column} has {odd!r}, expected {value!r}")
        order = np.argsort(profiles.names)
        names = tuple(profiles.names[i] for i in order)
        if not self.entries:
            self.names, self.provenance = names, dict(profiles.provenance)
        elif names != self.names:
            odd = sorted(set(names) ^ set(self.names))
            first = odd[0] if odd else "a repeated name"
            raise DataError(
                f"{where}: {len(odd)} features differ from those of plate {self.entries[0].plate} "
                f"(first {first}); all plates must have the same features"
            )
        self.entries.append(Entry(str(source.plate), str(source.batch), len(profiles)))
        self.save(index, np.ascontiguousarray(profiles.features[:, order], dtype=np.float32))
        table = pa.Table.from_pandas(profiles.metadata, preserve_index=False).replace_schema_metadata()
        pq.write_table(table, self._path(index, "parquet"))
        self.schema = pa.unify_schemas([self.schema, table.schema], promote_options="permissive")

    def load(self, index: int) -> Block:
        """Return a plate as it was last saved."""
        entry = self.entries[index]
        control = pq.read_table(self._path(index, "parquet"), columns=["Metadata_Control"])["Metadata_Control"]
        return Block(entry.plate, entry.batch, np.array(control.to_pylist()), np.load(self._path(index, "npy")))

    def save(self, index: int, features: np.ndarray) -> None:
        """Replace a plate's features."""
        with atomic_path(self._path(index, "npy")) as part, open(part, "wb") as stream:
            np.save(stream, features)

    def metadata(self, index: int) -> pd.DataFrame:
        """Return a plate's metadata."""
        return self.table(index).to_pandas()

    def table(self, index: int) -> pa.Table:
        """Return a plate's metadata with the columns and types that all plates share."""
        table = pq.read_table(self._path(index, "parquet"))
        columns = [
            table[f.name].cast(f.type) if f.name in table.column_names else pa.nulls(len(table), f.type)
            for f in self.schema
        ]
        return pa.table(columns, schema=self.schema)

    def _path(self, index: int, kind: str) -> Path:
        return self._folder / f"{index:06d}.{kind}"


def _one_batch(metadata: pd.DataFrame, plate: str) -> str:
    batches = metadata["Metadata_Batch"].astype(str).unique()
    if len(batches) > 1:
        raise DataError(f"plate {plate} belongs to batches {batches[0]} and {batches[1]}; a plate has one batch")
    return str(batches[0])
