"""Rendering from a plan: the JSON-able description of a table or a group of figures and of what it is made from.

The workflow renders complete grids through its rules. After a failure it runs this module as a program on the
plans of what was asked for, and what is missing shows as status and reason in the cells.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphobench.report.cells import expand_cells
from morphobench.report.figures import draw
from morphobench.report.layout import table_view
from morphobench.report.render import write_table
from morphobench.report.table import build_table


def score_files(plan: Mapping[str, Any]) -> dict[tuple[str, str, int, int], Path | None]:
    """Return, for every evaluation of a plan, its scores, else the record of its first failure, else None."""
    found: dict[tuple[str, str, int, int], Path | None] = {}
    for evaluation in plan["evaluations"]:
        key = (evaluation["method"], evaluation["correction"], evaluation["seed"], evaluation["fold"])
        paths = map(Path, [evaluation["scores"], *evaluation["failures"]])
        found[key] = next((path for path in paths if path.is_file()), None)
    return found


def render(plan: Mapping[str, Any], published: str | Path) -> list[Path]:
    """Make what a plan describes and return the files written.

    Parameters
    ----------
    plan
        From :meth:`morphobench.specs.plan.Plan.table_plan` or ``figure_plan``.
    published
        Folder of the published numbers.
    """
    table = build_table(plan["spec"], expand_cells(plan["spec"]), score_files(plan), published, plan["metrics"])
    if plan["kind"] == "table":
        view = table_view(plan["spec"], table, published, plan["scale"], plan["dataset"]["source"])
        return write_table(table, view, plan["folder"])
    return draw(plan, table, published)


def is_partial(plan: Mapping[str, Any]) -> bool:
    """Return whether any evaluation of a plan has no scores."""
    return any(not Path(evaluation["scores"]).is_file() for evaluation in plan["evaluations"])


def main(published: str) -> None:
    """Read plans as JSON from standard input, render those that are partial, and say what is missing."""
    plans = [plan for plan in json.load(sys.stdin) if is_partial(plan)]
    failed: dict[str, str] = {}
    for plan in plans:
        for path in render(plan, published):
            print(f"partial: {path}", file=sys.stderr)
        for path in score_files(plan).values():
            if path is not None and path.name.endswith(".failed.json"):
                record = json.loads(path.read_text())
                failed[record["log"]] = f"{record['status']}: {record['reason']}"
    for log, reason in failed.items():
        print(f"{reason}\n  log: {log}", file=sys.stderr)
    if plans:
        print("Run the same command again: only what is missing will be computed.", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
