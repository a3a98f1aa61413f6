"""The cells of a table: what its spec's rows and columns expand to. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from morphobench.errors import SpecError

Evaluation = tuple[str, str, int, int]


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes
    ----------
    block
        Id of the block it stands in.
    row, setting, column
        Its names, spelt as in the published numbers.
    metric
        The metric id as score files have it, such as ``corum_recall@80``.
    methods
        One representation; or two, whose difference (first minus second) is the value.
    correction
        Id of the correction.
    control
        Whether the row is a control and so never the best.
    published
        ``(file, table, row)`` of the published number, or None.
    """

    block: str
    row: str
    setting: str
    column: str
    metric: str
    methods: tuple[str, ...]
    correction: str
    control: bool
    published: tuple[str, str, str] | None

    @property
    def key(self) -> tuple[str, str, str]:
        """Row, setting and column: what names a cell within its table."""
        return self.row, self.setting, self.column

    @property
    def metric_id(self) -> str:
        """The id of the metric's spec: the metric without its key."""
        return self.metric.partition("@")[0]


def expand_columns(block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a block's columns with every list ``at`` written out, settings kept together in their first order.

    Each is ``{"setting", "column", "metric", "correction"}``; ``{at}`` in the first three is filled in,
    ``{row_at}`` is left for the row; ``correction`` is None where the column leaves it to the row.
    """
    columns = []
    for column in block["columns"]:
        for at in column.get("at", [None]):
            filled = {k: str(column[k]) for k in ("setting", "column", "metric")}
            if at is not None:
                filled = {k: v.replace("{at}", str(at)) for k, v in filled.items()}
            columns.append({**filled, "correction": column.get("correction")})
    order = {s: i for i, s in enumerate(dict.fromkeys(c["setting"] for c in columns))}
    return sorted(columns, key=lambda c: order[c["setting"]])


def expand_cells(spec: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a table, block by block and row by row.

    Raises
    ------
    SpecError
        If two cells have the same row, setting and column, a column asks for a row's ``at`` that is missing, or a
        row names no method for a setting.
    """
    cells: list[Cell] = []
    for block in spec["blocks"]:
        columns = expand_columns(block)
        for row in block["rows"]:
            cells += [_cell(spec, block, row, column) for column in columns]
    seen: set[tuple[str, str, str]] = set()
    for cell in cells:
        if cell.key in seen:
            raise SpecError(
                f"table {spec['id']}: two cells have row {cell.row!r}, setting {cell.setting!r}, "
                f"column {cell.column!r}; expected one"
            )
        seen.add(cell.key)
    return cells


def _cell(
    spec: Mapping[str, Any], block: Mapping[str, Any], row: Mapping[str, Any], column: Mapping[str, Any]
) -> Cell:
    metric = column["metric"]
    if "{row_at}" in metric:
        if "at" not in row:
            raise SpecError(
                f"table {spec['id']}: row {row['row']!r} has no key 'at', but column {column['column']!r} needs it"
            )
        metric = metric.replace("{row_at}", str(row["at"]))
    published = block["published"] if "published" in block else spec.get("published")
    return Cell(
        block=block["id"],
        row=row["row"],
        setting=column["setting"],
        column=column["column"],
        metric=metric,
        methods=_methods(spec, row, column["setting"]),
        correction=column["correction"] or row.get("correction", "none"),
        control=bool(row.get("control", False)),
        published=(published["file"], published["table"], row.get("published_row", row["row"]))
        if published
        else None,
    )


def _methods(spec: Mapping[str, Any], row: Mapping[str, Any], setting: str) -> tuple[str, ...]:
    if "difference" in row:
        return tuple(row["difference"])
    method = row.get("methods", {}).get(setting, row.get("method"))
    if method is None:
        raise SpecError(f"table {spec['id']}: row {row['row']!r} names no method for setting {setting!r}")
    return (method,)


def metric_ids(spec: Mapping[str, Any]) -> list[str]:
    """Return the ids of the metric specs that a table names, each once, in the order of its columns."""
    named = (column["metric"].partition("@")[0] for block in spec["blocks"] for column in block["columns"])
    return list(dict.fromkeys(named))


def required_evaluations(
    spec: Mapping[str, Any],
    method_specs: Mapping[str, Mapping[str, Any]],
    seeds: Iterable[int],
    folds: Iterable[int],
    trainings: int = 1,
) -> list[Evaluation]:
    """Return the evaluations ``(method, correction, seed, fold)`` that a table is made of, each once.

    A pair of method and correction runs only if a cell needs it: for the first seed if both are deterministic, for
    the first ``trainings`` seeds in a table of several folds, whose spread is over folds, or if the method is
    trained, else for every seed. All run for every fold.

    Raises
    ------
    SpecError
        If a row names a method or a row or column a correction without a spec.
    """
    seeds, folds = list(seeds), list(folds)
    needed: dict[Evaluation, None] = {}
    for cell in expand_cells(spec):
        for method in cell.methods:
            for name in (method, cell.correction):
                if name not in method_specs:
                    raise SpecError(f"table {spec['id']}: row {cell.row!r} names no method: {name!r}")
            few = len(folds) > 1 or method_specs[method].get("input", "profiles") != "profiles"
            own = seeds[:trainings] if few else seeds
            fixed = all(method_specs[name]["deterministic"] for name in (method, cell.correction))
            for seed in own[:1] if fixed else own:
                needed |= {(method, cell.correction, seed, fold): None for fold in folds}
    return list(needed)
