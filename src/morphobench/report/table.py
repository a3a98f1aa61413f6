"""Building a table: measured cells from score files, beside the published numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from morphobench.report.cells import Cell, Evaluation
from morphobench.report.published import Published, published_unit, read_published, unit_factor
from morphobench.report.scores import Reading, ScoreStore, worst

TABLE_COLUMNS = [
    "table",
    "row",
    "setting",
    "column",
    "metric",
    "measured_mean",
    "measured_std",
    "measured_n",
    "ci_low",
    "ci_high",
    "status",
    "published_mean",
    "published_std",
    "unit",
    "higher_is_better",
]
STATUS_COLUMNS = ["table", "row", "setting", "column", "status", "reason", "log"]
HIGHER = {"higher": 1, "lower": 0, "none": None}


class Table(NamedTuple):
    """A table as data.

    Attributes
    ----------
    cells
        One row a cell, columns :data:`TABLE_COLUMNS`.
    status
        One row a cell that is not ``ok``: why, and where the log is; and one a cell that is ``ok`` but has a
        reason: what was left out of its value. Columns :data:`STATUS_COLUMNS`.
    """

    cells: pd.DataFrame
    status: pd.DataFrame


def build_table(
    spec: Mapping[str, Any],
    cells: Sequence[Cell],
    scores: Mapping[Evaluation, str | Path | None],
    published_dir: str | Path,
    metric_specs: Mapping[str, Mapping[str, Any]],
    logs: Mapping[Evaluation, str] | None = None,
) -> Table:
    """Merge scores and published numbers into one tidy table.

    Parameters
    ----------
    spec
        The table's spec.
    cells
        Its cells, see :func:`morphobench.report.cells.expand_cells`.
    scores
        By ``(method, correction, seed, fold)`` the scores csv, a ``*.failed.json``, or None.
    published_dir
        Folder of the published numbers.
    metric_specs
        Metric specs by id; their unit and direction stand where no number is published.
    logs
        By the keys of ``scores``, the log of the job that wrote them.

    Returns
    -------
    Table
        A cell over several folds has the mean of the folds' means over seeds, and as standard deviation (n - 1)
        the spread of these means, as papers give it over folds; a cell of one fold has mean and standard deviation
        over seeds; a cell of one evaluation has no standard deviation. The interval is the mean of the
        evaluations' bounds: it says how far one evaluation's value may be off because of its sample, not how well
        the mean over folds is known, for which folds that share training data leave no sound estimate. A cell's
        status is the worst of its evaluations; where some are ok and some not, the mean is that of the
        ``measured_n`` that are ok, and the status says that it is partial. Fractions whose published unit is
        percent are in percent, and so are the fractions beside them that the paper does not have.

    Notes
    -----
    A difference of two methods pairs their evaluations by seed and fold (a method that ran once per fold pairs
    with every seed of the other). Where both evaluations of a pair have one seed and fold, are over equally many
    units and left equally many resampled values, these are of the same resamples, and the interval is that of
    their paired differences (percentiles 2.5 and 97.5). Elsewhere it adds the two distances in quadrature, which
    holds for independent errors and is too wide where the two share their sampling error.
    """
    store = ScoreStore(scores, logs)
    published: dict[tuple[str, str], dict[tuple[str, str, str], Published]] = {}
    rows, status = [], []
    for cell in cells:
        numbers: dict[tuple[str, str, str], Published] = {}
        if cell.published:
            source = cell.published[:2]
            if source not in published:
                published[source] = read_published(published_dir, *source)
            numbers = published[source]
        readings = cell_readings(cell, store)
        name = {"table": spec["id"], "row": cell.row, "setting": cell.setting, "column": cell.column}
        rows.append({**name, "metric": cell.metric, **_numbers(cell, readings, numbers, metric_specs)})
        bad = worst(readings)
        reason = _reason(readings, bad.status)
        if bad.status != "ok" or reason:
            status.append({**name, "status": bad.status, "reason": reason, "log": bad.log})
    table = pd.DataFrame(rows, columns=TABLE_COLUMNS)
    integers = ["measured_n", "higher_is_better"]
    return Table(table.astype(dict.fromkeys(integers, "Int64")), pd.DataFrame(status, columns=STATUS_COLUMNS))


def cell_readings(cell: Cell, store: ScoreStore) -> list[Reading]:
    """Return a cell's readings, one per evaluation; a single ``not_run`` where there is no evaluation."""
    runs = [store.runs(method, cell.correction) for method in cell.methods]
    if not all(runs):
        missing = next(m for m, found in zip(cell.methods, runs, strict=True) if not found)
        return [Reading(reason=f"no evaluation of {missing} under {cell.correction} was asked for")]
    if len(runs) == 1:
        (method,) = cell.methods
        return [
            replace(store.reading((method, cell.correction, seed, fold), cell.metric), fold=fold)
            for seed, fold in runs[0]
        ]
    readings = []
    for fold in dict.fromkeys(f for found in runs for _, f in found):
        seeds = [[s for s, f in found if f == fold] for found in runs]
        for seed in max(seeds, key=len):
            own = [s[0] if len(s) == 1 else seed for s in seeds]
            pair = [
                store.reading((m, cell.correction, o, fold), cell.metric)
                if o in s
                else Reading(reason=f"no evaluation of {m} for seed {seed} and fold {fold} to pair with")
                for m, s, o in zip(cell.methods, seeds, own, strict=True)
            ]
            readings.append(replace(difference(*pair, same_seed=own[0] == own[1]), fold=fold))
    return readings


def difference(first: Reading, second: Reading, same_seed: bool) -> Reading:
    """Return the first reading minus the second; the worse of the two unless both are ok.

    The interval has the percentiles 2.5 and 97.5 of the paired differences of the draws, if the evaluations have
    the same seed, equally many units and equally many draws, hence the same resamples; else the two distances of
    the intervals are added in quadrature.
    """
    bad = worst([first, second])
    if bad.status != "ok":
        return bad
    value = first.value - second.value
    reason = "; ".join(dict.fromkeys(r.reason for r in (first, second) if r.reason))
    if same_seed and first.n == second.n and len(first.draws) == len(second.draws):
        differences = np.subtract(first.draws, second.draws)
        differences = differences[~np.isnan(differences)]
        if len(differences) > 1:
            low, high = np.percentile(differences, [2.5, 97.5])
            return Reading(value, float(low), float(high), "ok", reason, n=first.n)
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Reading(value, value - below, value + above, "ok", reason)


def _numbers(
    cell: Cell,
    readings: list[Reading],
    numbers: Mapping[tuple[str, str, str], Published],
    metric_specs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the measured and the published numbers of a cell in one unit."""
    published = _published(cell, numbers, metric_specs)
    # Units that do not fit are refused where specs are checked; those of a difference have a name of their own.
    factor = unit_factor(metric_specs[cell.metric_id]["unit"], published["unit"]) or 1.0
    measured = _measured(readings)
    for key in ("measured_mean", "measured_std", "ci_low", "ci_high"):
        measured[key] *= factor
    return {**measured, **published}


def _measured(readings: list[Reading]) -> dict[str, Any]:
    good = [r for r in readings if r.status == "ok"]
    folds = dict.fromkeys(r.fold for r in good)
    values = np.array([r.value for r in good])
    if len(folds) > 1:
        values = np.array([np.mean([r.value for r in good if r.fold == fold]) for fold in folds])
    return {
        "measured_mean": values.mean() if good else np.nan,
        "measured_std": values.std(ddof=1) if len(values) > 1 else np.nan,
        "measured_n": len(good),
        "ci_low": float(np.mean([r.low for r in good])) if good else np.nan,
        "ci_high": float(np.mean([r.high for r in good])) if good else np.nan,
        "status": worst(readings).status,
    }


def _published(
    cell: Cell,
    numbers: Mapping[tuple[str, str, str], Published],
    metric_specs: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    metric = metric_specs[cell.metric_id]
    # A difference has no better side of its own; the sides of the metric are those of its terms.
    higher = None if len(cell.methods) > 1 else HIGHER[metric["direction"]]
    unit = published_unit(numbers, cell.setting, cell.column, metric["unit"])
    found = {"published_mean": np.nan, "published_std": np.nan, "unit": unit, "higher_is_better": higher}
    # Rows that the paper lacks still take the direction of the published column, as they take its unit.
    same = next((p for k, p in numbers.items() if k[1:] == (cell.setting, cell.column)), None)
    if same is not None:
        found["higher_is_better"] = int(same.higher_is_better) if same.higher_is_better else None
    own = numbers.get((cell.published[2], cell.setting, cell.column)) if cell.published else None
    if own is not None:
        found |= {"published_mean": own.mean, "published_std": np.nan if own.std is None else own.std}
    return found


def _reason(readings: list[Reading], status: str) -> str:
    """Return why evaluations have the cell's status; for ``ok``, every distinct exclusion, empty without any."""
    reasons = [r.reason for r in readings if r.status == status]
    if len(readings) == 1:
        return reasons[0]
    if status != "ok":
        return f"{len(reasons)} of {len(readings)} evaluations: {reasons[0]}"
    counts = Counter(r for r in reasons if r)
    return "; ".join(f"{count} of {len(readings)} evaluations: {reason}" for reason, count in counts.items())


def published_only(cells: Sequence[Cell], published_dir: str | Path) -> dict[str, list[str]]:
    """Return, per block, the rows of its published table that no row of the block stands beside."""
    missing: dict[str, list[str]] = {}
    for block in dict.fromkeys(c.block for c in cells):
        mine = [c for c in cells if c.block == block]
        taken = {c.published[2] for c in mine if c.published}
        sources = dict.fromkeys(c.published[:2] for c in mine if c.published)
        rows = dict.fromkeys(k[0] for s in sources for k in read_published(published_dir, *s))
        missing[block] = [r for r in rows if r not in taken]
    return missing
