"""What a reader gives: plates that are read one at a time, as often as a pipeline needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.errors import DataError, SpecError
from morphobench.profiles import Profiles

EXCLUDED_COLUMNS = ("what", "id", "reason")
ANNOTATION_COLUMNS = ("entity", "set", "collection")


@dataclass(frozen=True)
class PlateSource:
    """One plate that can be read, again and again, without the others.

    Attributes
    ----------
    plate, batch
        Its names, as in ``Metadata_Plate`` and ``Metadata_Batch``.
    read
        Returns its raw profiles: float32 features, NaN and infinities as the provider has them.
    """

    plate: str
    batch: str
    read: Callable[[], Profiles]


@dataclass(frozen=True)
class PlateCollection:
    """The plates of a dataset, with what belongs to all of them.

    Attributes
    ----------
    plates
        In a fixed order; iterating the collection iterates them.
    names
        The feature names, the same in the same order for every plate.
    annotations
        Gene sets as a long table ``entity, set, collection``, or None.
    excluded
        What was left out and why: ``what`` (well, plate, feature, ...), ``id``, ``reason``.
    notes
        JSON-able facts about the input, for the provenance.
    """

    plates: tuple[PlateSource, ...]
    names: tuple[str, ...]
    annotations: pd.DataFrame | None = None
    excluded: pd.DataFrame = field(default_factory=lambda: excluded_table([]))
    notes: dict[str, Any] = field(default_factory=dict)

    def __iter__(self) -> Iterator[PlateSource]:
        return iter(self.plates)

    def __len__(self) -> int:
        return len(self.plates)


def excluded_table(rows: Iterable[tuple[str, str, str]]) -> pd.DataFrame:
    """Return ``(what, id, reason)`` rows as the table of what was left out."""
    return pd.DataFrame(list(rows), columns=list(EXCLUDED_COLUMNS), dtype="object")


def need_file(files: Mapping[str, Path], name: str) -> Path:
    """Return the raw file called ``name`` in the dataset's spec; DataError if it is not there."""
    if name not in files:
        raise DataError(f"raw file {name!r} is not among the files of the dataset: {', '.join(files) or 'none'}")
    path = Path(files[name])
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected raw file {name!r}")
    return path


def read_table(path: Path, columns: Iterable[str], **options: Any) -> pd.DataFrame:
    """Read a CSV file (also .gz) that must have ``columns``; DataError, naming the file, if it is not like that.

    Text such as ``NA`` stays text; only empty cells count as missing.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""], **options)
    except (OSError, EOFError, ValueError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable table ({reason}); expected comma-separated values") from error
    need_columns(path, table.columns, columns)
    return table


def need_columns(path: Path, found: Iterable[str], columns: Iterable[str]) -> None:
    """Raise DataError, naming the file, for the first of ``columns`` that is not among ``found``."""
    found = [str(c) for c in found]
    for column in columns:
        if column not in found:
            have = ", ".join(found[:12]) + (", ..." if len(found) > 12 else "")
            raise DataError(f"{path}: column {column} is missing; found {have}")


def refuse_unknown_options(options: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise SpecError for the first reader option that is not among ``known``."""
    known = list(known)
    for key in options:
        if key not in known:
            raise SpecError(f"reader_options has unknown key {key!r}; known keys are {', '.join(known) or 'none'}")


def refuse_duplicates(path: Path, table: pd.DataFrame, key: list[str], what: str) -> None:
    """Raise DataError, naming the file and the row, if ``key`` does not identify the rows of ``table``."""
    twice = table.duplicated(key)
    if twice.any():
        row = int(twice.to_numpy().argmax())
        name = " / ".join(str(v) for v in table[key].iloc[row])
        raise DataError(f"{path}: {what} {name} occurs again in data row {row + 1}; expected it once")
