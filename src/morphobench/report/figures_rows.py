"""What the panels of a figure of embeddings show: which method under which correction. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from morphobench.errors import SpecError


class Shown(NamedTuple):
    """What one panel shows.

    Attributes
    ----------
    label
        The column's head.
    band
        The correction's title where a panel spec has ``corrections``, else empty.
    method, correction
        Whose profiles; method is None where the table has no such row yet.
    """

    label: str
    band: str
    method: str | None
    correction: str


def shown_rows(panel: Mapping[str, Any], table: Mapping[str, Any]) -> list[Shown]:
    """Return what a panel spec shows, band by band and within each column by column.

    Parameters
    ----------
    panel
        A panel spec: ``rows``, each the name of a row of the table, or a mapping with ``row`` (such a name) or
        ``method`` and ``correction``, and a ``label``; by default every row that is one method. ``corrections``,
        a list of ``{correction, title}``, makes one band of panels each and overrides the rows' own.
    table
        The spec of the figure's table.

    Raises
    ------
    SpecError
        If two columns have one label.
    """
    known = {row["row"]: row for block in table["blocks"] for row in reversed(block["rows"]) if "method" in row}
    order = [row["row"] for block in table["blocks"] for row in block["rows"] if "method" in row]
    columns: dict[str, tuple[str | None, str]] = {}
    rows = panel.get("rows", list(dict.fromkeys(order)))
    for entry in rows:
        row = {"row": entry} if isinstance(entry, str) else entry
        label = row.get("label") or row.get("row") or row["method"]
        if label in columns:
            raise SpecError(f"figure of table {table['id']}: two rows of panels are called {label!r}")
        found = known.get(row["row"], {}) if "row" in row else row
        columns[label] = (found.get("method"), row.get("correction", found.get("correction", "none")))
    bands = panel.get("corrections") or [{"correction": None, "title": ""}]
    return [
        Shown(label, band["title"], method, band["correction"] or correction)
        for band in bands
        for label, (method, correction) in columns.items()
    ]


def shown_profiles(figure: Mapping[str, Any], table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the pairs of method and correction whose profiles a figure of embeddings needs, each once."""
    shown = [s for panel in figure.get("panels", {}).values() for s in shown_rows(panel, table)]
    return list(dict.fromkeys((s.method, s.correction) for s in shown if s.method))
