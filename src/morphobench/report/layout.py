"""From tidy cells to what a reader sees: groups, digits, the best of a column, controls apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.report.cells import Cell, expand_cells, expand_columns
from morphobench.report.published import read_published
from morphobench.report.table import Table, published_only

DEFAULT_DIGITS = 3


@dataclass(frozen=True)
class CellView:
    """A cell as shown.

    Attributes
    ----------
    value
        What to sort by; NaN where nothing was measured.
    text, spread, published
        The measured value, its ``± std`` or ``[low, high]``, and the published value; empty where there is none.
    status, reason
        As in the table; reason is empty for ``ok``.
    best
        Whether it is the best of its column among rows that are no controls.
    """

    value: float
    text: str
    spread: str
    published: str
    status: str
    reason: str
    best: bool


@dataclass(frozen=True)
class Line:
    """A line of a block: what it is called, the small print of its name, and its cells."""

    label: str
    sub: str
    control: bool
    cells: list[CellView]


@dataclass(frozen=True)
class Head:
    """A column's head: its label and the group that spans it."""

    label: str
    group: str
    control: bool


@dataclass(frozen=True)
class BlockView:
    """A block as shown: heads across, lines down."""

    id: str
    title: str
    stub: str
    heads: list[Head]
    lines: list[Line]
    unpublished: list[str]

    @property
    def methods(self) -> list[Line]:
        """The lines that are no controls."""
        return [line for line in self.lines if not line.control]

    @property
    def controls(self) -> list[Line]:
        """The control lines."""
        return [line for line in self.lines if line.control]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The spanning heads: name and number of columns."""
        spans: list[tuple[str, int]] = []
        for head in self.heads:
            if spans and spans[-1][0] == head.group:
                spans[-1] = (head.group, spans[-1][1] + 1)
            else:
                spans.append((head.group, 1))
        return spans

    def columns(self, start: int, stop: int) -> BlockView:
        """Return the block with the columns ``start`` to ``stop`` only."""
        lines = [Line(x.label, x.sub, x.control, x.cells[start:stop]) for x in self.lines]
        return BlockView(self.id, self.title, self.stub, self.heads[start:stop], lines, self.unpublished)


@dataclass(frozen=True)
class TableView:
    """A table as shown."""

    id: str
    title: str
    caption: str
    scale: str
    measured: str
    notes: list[str]
    blocks: list[BlockView]


def scale_line(scale: str, source: str) -> str:
    """Return the line that says what the numbers were made of; ``source`` is ``real`` or ``simulated``."""
    if source == "simulated":
        return f"Scale {scale}, simulated data: do not compare with published numbers."
    return f"Scale {scale}, real data."


def format_value(value: float, digits: int) -> str:
    """Return a number with ``digits`` decimals, or nothing for a number that is not finite."""
    if not math.isfinite(value):
        return ""
    # Adding zero turns a negative zero into a plain one.
    return f"{round(value, digits) + 0.0:.{digits}f}"


def measured_line(table: pd.DataFrame) -> str:
    """Return ``k of n cells measured``, and what became of the others."""
    counts = table["status"].value_counts()
    others = ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in counts.items() if s != "ok")
    return f"{counts.get('ok', 0)} of {len(table)} cells measured" + (f" ({others})." if others else ".")


def table_view(
    spec: Mapping[str, Any], table: Table, published_dir: str | Path, scale: str, source: str
) -> TableView:
    """Lay a table out as its spec says.

    Parameters
    ----------
    spec
        The table's spec.
    table
        What :func:`morphobench.report.table.build_table` made of it.
    published_dir
        Folder of the published numbers.
    scale
        Name of the scale.
    source
        ``real`` or ``simulated``.
    """
    cells = expand_cells(spec)
    rows = {(r["row"], r["setting"], r["column"]): r for r in table.cells.to_dict("records")}
    reasons = {(r["row"], r["setting"], r["column"]): r["reason"] for r in table.status.to_dict("records")}
    without = published_only(cells, published_dir)
    blocks = []
    for block in spec["blocks"]:
        mine = [c for c in cells if c.block == block["id"]]
        digits = block_digits(spec, block, published_dir)
        best = _best(mine, rows, digits)
        views = {c.key: _cell_view(rows[c.key], reasons.get(c.key, ""), digits, c.key in best) for c in mine}
        blocks.append(_block(block, views, without[block["id"]]))
    return TableView(
        id=spec["id"],
        title=spec["title"],
        caption=" ".join(spec["caption"].split()),
        scale=scale_line(scale, source),
        measured=measured_line(table.cells),
        notes=[" ".join(n.split()) for n in spec.get("notes") or []],
        blocks=blocks,
    )


def block_digits(spec: Mapping[str, Any], block: Mapping[str, Any], published_dir: str | Path) -> int:
    """Return the decimals of a block: as stated, else as in the published table, else 3."""
    for part in (block, spec):
        if "digits" in part:
            return part["digits"]
    for part in (block, spec):
        if part.get("published"):
            numbers = read_published(published_dir, part["published"]["file"], part["published"]["table"])
            return max(p.digits for p in numbers.values())
    return DEFAULT_DIGITS


def _best(cells: Sequence[Cell], rows: Mapping[tuple, Mapping[str, Any]], digits: int) -> set[tuple]:
    # Values that print alike share the first place, as in the papers.
    best: set[tuple] = set()
    for column in dict.fromkeys((c.setting, c.column) for c in cells):
        good = [
            (c.key, round(rows[c.key]["measured_mean"], digits))
            for c in cells
            if (c.setting, c.column) == column and not c.control and rows[c.key]["status"] == "ok"
        ]
        higher = next((rows[k]["higher_is_better"] for k, _ in good), None)
        if len(good) < 2 or higher is None or pd.isna(higher):
            continue
        top = (max if higher else min)(v for _, v in good)
        best |= {k for k, v in good if v == top}
    return best


def _cell_view(row: Mapping[str, Any], reason: str, digits: int, best: bool) -> CellView:
    spread = ""
    if math.isfinite(row["measured_std"]):
        spread = f"± {row['measured_std']:.{digits}f}"
    elif math.isfinite(row["ci_low"]) and math.isfinite(row["ci_high"]):
        spread = f"[{row['ci_low']:.{digits}f}, {row['ci_high']:.{digits}f}]"
    published = format_value(row["published_mean"], digits)
    if published and math.isfinite(row["published_std"]):
        published += f" ± {format_value(row['published_std'], digits)}"
    text = format_value(row["measured_mean"], digits)
    return CellView(row["measured_mean"], text, spread, published, row["status"], reason, best)


def _block(block: Mapping[str, Any], views: Mapping[tuple, CellView], unpublished: list[str]) -> BlockView:
    columns = [(c["setting"], c["column"]) for c in expand_columns(block)]
    rows = [(r["row"], bool(r.get("control", False))) for r in block["rows"]]
    if block["lines"] == "columns":
        heads = [Head(row, "controls" if control else "", control) for row, control in rows]
        heads.sort(key=lambda h: h.control)
        lines = [Line(c, s, False, [views[h.label, s, c] for h in heads]) for s, c in columns]
        return BlockView(block["id"], block["title"], "Measure", heads, lines, unpublished)
    heads = [Head(column, setting, False) for setting, column in columns]
    lines = [Line(row, "", control, [views[row, s, c] for s, c in columns]) for row, control in rows]
    return BlockView(block["id"], block["title"], "Method", heads, lines, unpublished)
