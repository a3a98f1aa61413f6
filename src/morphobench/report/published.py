"""Reading the published numbers."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from morphobench.errors import DataError


@dataclass(frozen=True)
class Published:
    """One published number, as its csv has it.

    Attributes
    ----------
    text
        The mean as printed, so that its digits are kept.
    mean, std
        The numbers; std is None where the paper gives none.
    unit, higher_is_better
        As in the csv; ``higher_is_better`` is ``"1"``, ``"0"`` or empty.
    """

    text: str
    mean: float
    std: float | None
    unit: str
    higher_is_better: str

    @property
    def digits(self) -> int:
        """Digits after the decimal point."""
        return len(self.text.partition(".")[2])


# By the unit of a metric and the unit in which a paper prints it: what to multiply by.
_CONVERSIONS = {("fraction", "percent"): 100.0}


def unit_factor(metric: str, published: str) -> float | None:
    """Return what turns a number in the metric's unit into the published unit; None if nothing does."""
    return 1.0 if metric == published else _CONVERSIONS.get((metric, published))


def published_unit(numbers: Mapping[Key, Published], setting: str, column: str, unit: str) -> str:
    """Return the unit in which a column is shown.

    Parameters
    ----------
    numbers
        What :func:`read_published` found.
    setting, column
        The column.
    unit
        The unit of its metric.

    Returns
    -------
    str
        That of the published column; without one the metric's, but percent for a fraction beside percents.
    """
    own = next((p.unit for k, p in numbers.items() if k[1:] == (setting, column)), None)
    if own is not None:
        return own
    return next((p.unit for p in numbers.values() if (unit, p.unit) in _CONVERSIONS), unit)


Key = tuple[str, str, str]


def read_published(folder: str | Path, file: str, table: str) -> dict[Key, Published]:
    """Return the numbers of one published table by row, setting and column, in the order of the file.

    Raises
    ------
    DataError
        If the file is missing, a mean is no number, or the file holds nothing for the table.
    """
    path = Path(folder) / file
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected the published numbers")
    found: dict[Key, Published] = {}
    with open(path, newline="", encoding="utf-8") as stream:
        for line, row in enumerate(csv.DictReader(stream), start=2):
            if row["table"] != table:
                continue
            try:
                mean, std = float(row["mean"]), float(row["std"]) if row["std"] else None
            except ValueError as error:
                raise DataError(f"{path}:{line}: mean or std is no number ({error})") from None
            key = (row["row"], row["setting"], row["column"])
            found[key] = Published(row["mean"], mean, std, row["unit"], row["higher_is_better"])
    if not found:
        raise DataError(f"{path}: no numbers for table {table!r}")
    return found
