"""Rendering a table as Markdown, HTML and LaTeX."""

from __future__ import annotations

import math
import re
from pathlib import Path

import jinja2

from morphobench.files import atomic_path, write_text
from morphobench.report.layout import BlockView, CellView, TableView
from morphobench.report.table import Table

MARKDOWN_WIDTH = 15
LATEX_WIDTH = 9
LATEX_HEIGHT = 24

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "\n": " ",
}


def escape_latex(text: object) -> str:
    """Return text with LaTeX's special characters escaped; a leading minus of a number becomes a true minus."""
    escaped = "".join(_LATEX.get(c, c) for c in str(text))
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escaped)


def escape_markdown(text: object) -> str:
    """Return text with the characters escaped that Markdown tables and inline HTML would read as markup."""
    escaped = re.sub(r"([\\`*_|\[\]])", r"\\\1", " ".join(str(text).split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def markdown_cell(cell: CellView) -> str:
    """Return a cell's Markdown: measured (bold if best), spread, and below it the published value."""
    shown = f"**{cell.text}**" if cell.best else cell.text
    if cell.status != "ok":
        shown = f"{shown} *{cell.status.replace('_', ' ')}*".strip()
    if cell.spread and cell.text:
        shown += f" <sub>{cell.spread}</sub>"
    if cell.published:
        shown += f"<br><sub>paper {cell.published}</sub>"
    return shown


def latex_cell(cell: CellView) -> str:
    """Return a cell's LaTeX: a small inner table of measured value, spread and published value."""
    shown = escape_latex(cell.text)
    if cell.best:
        shown = rf"\textbf{{{shown}}}"
    if cell.status != "ok":
        shown = rf"{shown} \textcolor{{gray}}{{\itshape {escape_latex(cell.status.replace('_', ' '))}}}".strip()
    parts = [shown]
    if cell.spread and cell.text:
        # Braces keep a bracket that opens a line from being read as an argument of the line break before it.
        parts.append(rf"{{\scriptsize {escape_latex(cell.spread)}}}")
    if cell.published:
        parts.append(rf"{{\scriptsize\textcolor{{gray}}{{paper {escape_latex(cell.published)}}}}}")
    return parts[0] if len(parts) == 1 else r"\begin{tabular}[c]{@{}c@{}}" + r"\\ ".join(parts) + r"\end{tabular}"


def split_wide(block: BlockView, width: int) -> list[BlockView]:
    """Return a block as parts of at most ``width`` columns, cut between setting groups where that is possible."""
    if len(block.heads) <= width:
        return [block]
    cuts, start, end = [], 0, 0
    for _, span in block.groups:
        while span:
            room = width - (end - start)
            if span > room and end > start:
                cuts.append((start, end))
                start = end
                continue
            step = min(span, width)
            end, span = end + step, span - step
    cuts.append((start, end))
    return [block.columns(a, b) for a, b in cuts]


def split_groups(block: BlockView) -> list[BlockView]:
    """Return a block as one part per setting group."""
    parts, start = [], 0
    for _, span in block.groups:
        parts.append(block.columns(start, start + span))
        start += span
    return parts


def split_long(block: BlockView, height: int) -> list[BlockView]:
    """Return a block as parts of at most ``height`` lines."""
    return [
        BlockView(block.id, block.title, block.stub, block.heads, block.lines[i : i + height], block.unpublished)
        for i in range(0, len(block.lines), height)
    ]


def markdown_parts(block: BlockView) -> list[BlockView]:
    """Return what becomes one Markdown table each: by setting group where the whole would be too wide."""
    return split_groups(block) if len(block.heads) > MARKDOWN_WIDTH else [block]


def latex_parts(block: BlockView) -> list[BlockView]:
    """Return what becomes one LaTeX page each."""
    return [part for wide in split_wide(block, LATEX_WIDTH) for part in split_long(wide, LATEX_HEIGHT)]


def latex_rules(block: BlockView) -> str:
    r"""Return the ``\cmidrule`` under each named group."""
    rules, first = [], 2
    for name, span in block.groups:
        if name:
            rules.append(rf"\cmidrule(lr){{{first}-{first + span - 1}}}")
        first += span
    return " ".join(rules)


def sort_key(cell: CellView) -> str:
    """Return what the page sorts a cell by."""
    return f"{cell.value:.10g}" if math.isfinite(cell.value) else ""


def environment(kind: str) -> jinja2.Environment:
    """Return what renders templates of one kind: ``md``, ``html`` or ``tex``."""
    loader = jinja2.PackageLoader("morphobench.report", "templates")
    common = {
        "loader": loader,
        "undefined": jinja2.StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
        "keep_trailing_newline": True,
    }
    if kind == "tex":
        # TeX is full of braces and percent signs.
        marks = {"block_start_string": "<%", "block_end_string": "%>", "variable_start_string": "<<"}
        marks |= {"variable_end_string": ">>", "comment_start_string": "<#", "comment_end_string": "#>"}
        env = jinja2.Environment(**common, **marks)
        env.filters |= {"tex": escape_latex, "cell": latex_cell, "parts": latex_parts, "rules": latex_rules}
        return env
    env = jinja2.Environment(**common, autoescape=kind == "html")
    env.filters |= {"md": escape_markdown, "cell": markdown_cell, "parts": markdown_parts, "key": sort_key}
    return env


def render_table(view: TableView, kind: str) -> str:
    """Return a table as text.

    Parameters
    ----------
    view
        The table laid out.
    kind
        ``md``, ``html`` (one self-contained page) or ``tex`` (a document that compiles).
    """
    return environment(kind).get_template(f"table.{kind}.j2").render(table=view)


def write_table(table: Table, view: TableView, folder: str | Path) -> list[Path]:
    """Write ``<id>.csv``, ``.status.csv``, ``.md``, ``.html`` and ``.tex`` into a folder; return their paths."""
    folder = Path(folder)
    paths = []
    for frame, suffix in ((table.cells, "csv"), (table.status, "status.csv")):
        paths.append(folder / f"{view.id}.{suffix}")
        with atomic_path(paths[-1]) as part:
            frame.to_csv(part, index=False)
    for kind in ("md", "html", "tex"):
        paths.append(folder / f"{view.id}.{kind}")
        write_text(paths[-1], render_table(view, kind))
    return paths
