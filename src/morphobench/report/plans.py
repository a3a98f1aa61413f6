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

from morphobench.files import write_json
from morphobench.jobs import failure_path
from morphobench.metrics.scores import partial_path
from morphobench.report.cells import expand_cells
from morphobench.report.claims_page import make_claims
from morphobench.report.figures import draw, draw_screen
from morphobench.report.figures_folds import draw_folds
from morphobench.report.layout import table_view
from morphobench.report.render import write_table
from morphobench.report.scores import ScoreStore
from morphobench.report.table import build_table


def score_files(plan: Mapping[str, Any]) -> dict[tuple[str, str, int, int], Path | None]:
    """Return, for every evaluation of a plan, its scores, else the record of its first failure, else None.

    Scores count only if nothing before them failed, is missing or is newer: after a failed run, scores of an
    earlier one may still lie there, and they are not what the present code and specs would give.
    """
    found: dict[tuple[str, str, int, int], Path | None] = {}
    for evaluation in plan["evaluations"]:
        key = _key(evaluation)
        failure = next((p for p in map(failure_path, evaluation["logs"]) if p.is_file()), None)
        outputs = [Path(p) for p in evaluation["outputs"]]
        whole = failure is None and _in_order(outputs)
        # Where a metric broke, the evaluation left what the others gave.
        outputs[-1] = outputs[-1] if whole else partial_path(outputs[-1])
        found[key] = outputs[-1] if _in_order(outputs) else failure
    return found


def _key(evaluation: Mapping[str, Any]) -> tuple[str, str, int, int]:
    return evaluation["method"], evaluation["correction"], evaluation["seed"], evaluation["fold"]


def _in_order(outputs: list[Path]) -> bool:
    if not all(path.is_file() for path in outputs):
        return False
    times = [path.stat().st_mtime_ns for path in outputs]
    return times == sorted(times)


def _score_store(plan: Mapping[str, Any]) -> ScoreStore:
    return ScoreStore(score_files(plan), {_key(e): e["logs"][-1] for e in plan["evaluations"]})


def evaluations(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the evaluations of a plan; of a plan of claims those of its tables."""
    return [e for part in plan.get("tables", [plan]) for e in part["evaluations"]]


def record_lost_jobs(plan: Mapping[str, Any]) -> None:
    """Leave a failure record for every job that was stopped before it could say why (killed, machine lost)."""
    for evaluation in evaluations(plan):
        for log in map(Path, evaluation["logs"]):
            if log.is_file() and not failure_path(log).is_file():
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
                if not lines or not lines[-1].startswith("done after"):
                    reason = "the job was stopped without leaving a reason: killed, or out of memory"
                    write_json(failure_path(log), {"status": "failed", "reason": reason, "log": str(log)})


def render(plan: Mapping[str, Any], published: str | Path) -> list[Path]:
    """Make what a plan describes and return the files written.

    Parameters
    ----------
    plan
        From :meth:`morphobench.specs.plan.Plan.table_plan` or ``figure_plan``; or for claims ``kind``, ``claims``
        (path of the claims), ``tables`` (plans of tables), ``scale`` and ``folder``.
    published
        Folder of the published numbers.
    """
    if plan["kind"] == "screen":
        return draw_screen(plan)
    if plan["kind"] == "claims":
        return make_claims(plan, [(table, _score_store(table)) for table in plan["tables"]], published)
    logs = {_key(evaluation): evaluation["logs"][-1] for evaluation in plan["evaluations"]}
    table = build_table(
        plan["spec"], expand_cells(plan["spec"]), score_files(plan), published, plan["metrics"], logs
    )
    if plan["kind"] == "table":
        view = table_view(plan["spec"], table, published, plan["scale"], plan["dataset"]["source"])
        return write_table(table, view, plan["folder"])
    if plan["kind"] == "folds":
        return draw_folds(plan, table.cells, _score_store(plan))
    return draw(plan, table, published)


def main(published: str) -> None:
    """Read plans as JSON from standard input, render those that are partial, and say what is missing."""
    failed: dict[str, str] = {}
    partial = False
    for plan in json.load(sys.stdin):
        record_lost_jobs(plan)
        files = [path for part in plan.get("tables", [plan]) for path in score_files(part).values()]
        if all(path is not None and path.name == "scores.csv" for path in files):
            continue
        partial = True
        for path in render(plan, published):
            print(f"partial: {path}", file=sys.stderr)
        for log in (log for evaluation in evaluations(plan) for log in evaluation["logs"]):
            if failure_path(log).is_file():
                record = json.loads(failure_path(log).read_text())
                failed[record["log"]] = f"{record['status']}: {record['reason']}"
    for log, reason in failed.items():
        print(f"{reason}\n  log: {log}", file=sys.stderr)
    if partial:
        print("Run the same command again: only what is missing will be computed.", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1])
