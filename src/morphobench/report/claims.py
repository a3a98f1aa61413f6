"""The published claims: what each says, and whether the measured runs bear it out.

A row of ``claims.csv`` compares two sides, ``left_row`` of ``left_column`` and ``right_row`` of ``right_column``,
by a relation. A side is one or several rows joined by ``|``, each compared with each of the other side:

=================  ==========================================================================================
``CDCL``           a row; its setting is that of the other side, or the only one it has
``CDCL@train``     a row in a setting
``CDCL@each``      a row in every setting that has the column, one comparison a setting
``max(ICL)``       a row in the setting where its mean is largest
``*``              right side only: every other published row, in the setting of the left side
``**``             right side only: every other published pair of row and setting
``const``          right side only: the number that stands in place of the right column
=================  ==========================================================================================

Relations are ``<``, ``>``, ``>=`` (ties allowed), ``diff~x`` (left minus right is about x) and ``ratio~x`` (left
over right is about x). ``table`` names the file of the published numbers, or two joined by ``;``, one a side.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from morphobench.errors import SpecError, nearest
from morphobench.report.published import Published

COLUMNS = (
    "id",
    "paper",
    "table",
    "statement",
    "left_row",
    "left_column",
    "relation",
    "right_row",
    "right_column",
)
EACH, MAX = "each", "max"
Numbers = Mapping[tuple[str, str, str], Published]


class Operand(NamedTuple):
    """One row of a side as written: in ``setting`` (None, a name, ``each``) or ``over`` settings the ``max``."""

    row: str
    setting: str | None
    over: str = ""


class Term(NamedTuple):
    """One side of one comparison: a row and column in a setting, in the best of several, or a number.

    ``settings`` has one name for a cell, several for the largest of them, none for a number.
    """

    row: str
    settings: tuple[str, ...]
    column: str
    value: float | None = None

    def __str__(self) -> str:
        if self.value is not None:
            return f"{self.value:g}"
        if len(self.settings) > 1:
            return f"best {self.row}"
        return f"{self.row} ({self.settings[0]})" if self.settings[0] else self.row


class Comparison(NamedTuple):
    """Left against right."""

    left: Term
    right: Term


@dataclass(frozen=True)
class Claim:
    """A published claim.

    Attributes
    ----------
    id, paper, table, statement
        As in the file.
    relation
        ``<``, ``>``, ``>=``, ``diff~`` or ``ratio~``.
    target
        The number after ``~``, else None.
    left, right
        The sides in words.
    sources
        Files of the published numbers, of the left and of the right side, without ``.csv``.
    comparisons
        What it comes down to; it holds if all of them do.
    """

    id: str
    paper: str
    table: str
    statement: str
    relation: str
    target: float | None
    left: str
    right: str
    sources: tuple[str, str]
    comparisons: tuple[Comparison, ...]


def read_claims(path: str | Path, published: str | Path) -> list[Claim]:
    """Read the claims and resolve every row, setting and column against the published numbers.

    Parameters
    ----------
    path
        ``claims.csv``.
    published
        Folder of the published numbers.

    Raises
    ------
    SpecError
        If a claim is not understood or names what the paper does not have; the message has file and line.
    """
    path = Path(path)
    claims: list[Claim] = []
    numbers: dict[str, Numbers] = {}
    with open(path, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        for column in COLUMNS:
            if column not in (reader.fieldnames or []):
                raise SpecError(f"{path}:1: column {column} is missing")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row.values() or None in row:
                raise SpecError(f"{where}: expected {len(reader.fieldnames or [])} fields")
            if row["id"] in {c.id for c in claims}:
                raise SpecError(f"{where}: claim {row['id']} stands there twice")
            claims.append(_claim(row, where, numbers, Path(published)))
    return claims


def _claim(row: Mapping[str, str], where: str, numbers: dict[str, Numbers], published: Path) -> Claim:
    relation, target = _relation(row["relation"], where)
    names = row["table"].split(";")
    if len(names) > 2:
        raise SpecError(f"{where}: table is {row['table']!r}, expected one name or two joined by ';'")
    sources = (names[0], names[-1])
    for name in sources:
        if name not in numbers:
            numbers[name] = _numbers(published / f"{name}.csv", where)
    sides = (numbers[sources[0]], numbers[sources[1]])
    comparisons = tuple(_comparisons(row, where, sides))
    return Claim(
        **{k: row[k] for k in ("id", "paper", "table", "statement")},
        relation=relation,
        target=target,
        left=_words(row["left_row"], row["left_column"]),
        right=_words(row["right_row"], row["right_column"]),
        sources=sources,
        comparisons=comparisons,
    )


def _relation(text: str, where: str) -> tuple[str, float | None]:
    if text in ("<", ">", ">="):
        return text, None
    match = re.fullmatch(r"(diff|ratio)~(-?\d+(?:\.\d+)?)", text)
    if not match or (match[1] == "ratio" and float(match[2]) <= 0):
        raise SpecError(f"{where}: relation {text!r} is not understood; expected <, >, >=, diff~x or ratio~x")
    return f"{match[1]}~", float(match[2])


def _numbers(path: Path, where: str) -> dict[tuple[str, str, str], Published]:
    """Return every number of a file, whichever of its tables it is in; the first of those with the same key."""
    if not path.is_file():
        raise SpecError(f"{where}: table names no published numbers: there is no {path}")
    found: dict[tuple[str, str, str], Published] = {}
    with open(path, newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            key = (row["row"], row["setting"], row["column"])
            std = float(row["std"]) if row["std"] else None
            number = Published(row["mean"], float(row["mean"]), std, row["unit"], row["higher_is_better"])
            found.setdefault(key, number)
    return found


def _words(rows: str, column: str) -> str:
    if rows == "const":
        return column
    named = {"*": "every other row", "**": "every other row and setting"}.get(rows)
    parts = [re.sub(r"^max\((.+)\)$", r"best \1", p) for p in rows.split("|")]
    split = [part.partition("@") for part in parts]
    parts = [row + (f" ({'each setting' if at == EACH else at})" if at else "") for row, _, at in split]
    return f"{named or ' and '.join(parts)}: {column}"


def _operands(text: str, where: str, key: str) -> list[Operand]:
    operands = []
    for part in text.split("|"):
        inner = re.fullmatch(r"max\((.+)\)", part)
        row, at, setting = (inner[1] if inner else part).partition("@")
        if not row or row in ("*", "**", "const") or (at and not setting) or (inner and at):
            raise SpecError(
                f"{where}: {key} {text!r} is not understood; expected row, row@setting, row@each or max(row), "
                f"several joined by |, or on the right alone *, ** or const"
            )
        operands.append(Operand(row, setting or None, MAX if inner else ""))
    return operands


def _comparisons(row: Mapping[str, str], where: str, sides: tuple[Numbers, Numbers]) -> Iterator[Comparison]:
    lefts = _operands(row["left_row"], where, "left_row")
    columns, right = (row["left_column"], row["right_column"]), row["right_row"]
    others = {o.row for o in lefts}
    for operand in lefts:
        for left in _terms(operand, columns[0], sides[0], None, where):
            setting = left.settings[0] if len(left.settings) == 1 else None
            if right == "const":
                yield Comparison(left, Term("", (), "", _constant(columns[1], where)))
                continue
            if right == "*":
                found = [k for k in sides[1] if k[2] == columns[1] and k[1] == setting and k[0] not in others]
            elif right == "**":
                found = [k for k in sides[1] if k[2] == columns[1] and (k[0], k[1]) != (left.row, setting)]
            else:
                operands = _operands(right, where, "right_row")
                yield from (
                    Comparison(left, term)
                    for o in operands
                    for term in _terms(o, columns[1], sides[1], setting, where)
                )
                continue
            if not found:
                raise SpecError(f"{where}: right_row {right!r} stands for no published row of {columns[1]!r}")
            yield from (Comparison(left, Term(r, (s,), c)) for r, s, c in found)


def _constant(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise SpecError(f"{where}: right_row is const, so right_column must be a number, not {text!r}") from None


def _terms(operand: Operand, column: str, numbers: Numbers, beside: str | None, where: str) -> list[Term]:
    """Return what a row stands for: one term a setting for ``each``, else one."""
    settings = tuple(s for r, s, c in numbers if r == operand.row and c == column)
    if not settings:
        rows = list(dict.fromkeys(r for r, _, c in numbers if c == column))
        known = rows or list(dict.fromkeys(c for _, _, c in numbers))
        what = f"row {operand.row!r} with column {column!r}"
        raise SpecError(f"{where}: no published {what}{nearest(operand.row if rows else column, known)}")
    if operand.over == MAX:
        return [Term(operand.row, settings, column)]
    if operand.setting == EACH:
        return [Term(operand.row, (s,), column) for s in settings]
    setting = operand.setting
    if setting is None:
        setting = beside if beside in settings else settings[0] if len(settings) == 1 else None
        if setting is None:
            raise SpecError(
                f"{where}: row {operand.row!r} has {column!r} in the settings {', '.join(settings)}; name one "
                f"with @, or each"
            )
    if setting not in settings:
        raise SpecError(
            f"{where}: row {operand.row!r} has no {column!r} in setting {setting!r}"
            f"{nearest(setting, list(settings))}"
        )
    return [Term(operand.row, (setting,), column)]


def published_value(term: Term, numbers: Numbers) -> float:
    """Return the published value of a term."""
    if term.value is not None:
        return term.value
    return max(numbers[term.row, s, term.column].mean for s in term.settings)


def published_tie(comparison: Comparison, sides: tuple[Numbers, Numbers]) -> float:
    """Return half a unit of the last printed digit: values closer than that print alike."""
    digits = [
        numbers[term.row, s, term.column].digits
        for term, numbers in zip(comparison, sides, strict=True)
        for s in term.settings
    ]
    return 0.5 * 10.0 ** -max(digits, default=0)


def published_sides(claim: Claim, published: str | Path) -> tuple[Numbers, Numbers]:
    """Return the published numbers of the left and of the right side."""
    left, right = (_numbers(Path(published) / f"{source}.csv", claim.id) for source in claim.sources)
    return left, right
