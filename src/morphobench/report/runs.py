"""The values behind the cells of tables, one a run (seed and fold), and their differences paired by run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.report.cells import Cell, expand_cells
from morphobench.report.claims import Term
from morphobench.report.published import published_unit, read_published, unit_factor
from morphobench.report.scores import Reading, ScoreStore, worst
from morphobench.report.table import difference

Runs = dict[tuple[int, int], Reading]


def cell_runs(cell: Cell, store: ScoreStore, factor: float = 1.0) -> Runs:
    """Return a cell's reading of every run ``(seed, fold)``, also of those that failed, times ``factor``.

    A cell of a difference has the differences of its two methods, paired by run. Empty where no run was asked for.
    """
    each = [
        {
            run: store.reading((method, cell.correction, *run), cell.metric)
            for run in store.runs(method, cell.correction)
        }
        for method in cell.methods
    ]
    runs = each[0] if len(each) == 1 else differences(*each)
    return {run: _scaled(reading, factor) for run, reading in runs.items()}


def _scaled(reading: Reading, factor: float) -> Reading:
    if factor == 1.0:
        return reading
    low, high = reading.low * factor, reading.high * factor
    draws = tuple(d * factor for d in reading.draws)
    return Reading(
        reading.value * factor, low, high, reading.status, reading.reason, reading.log, n=reading.n, draws=draws
    )


def paired(first: Runs, second: Runs) -> dict[tuple[int, int], tuple[Reading, Reading, bool]]:
    """Return the pairs of two cells by run, and whether both are of one seed.

    A method that ran for one seed of a fold only, because it has no random part or is trained once, pairs with
    every seed of the other. A run without a partner is left out.
    """
    pairs = {}
    folds = [f for f in dict.fromkeys(f for _, f in first) if f in {f for _, f in second}]
    for fold in folds:
        seeds = [[s for s, f in runs if f == fold] for runs in (first, second)]
        for seed in max(seeds, key=len):
            own = [s[0] if len(s) == 1 else seed for s in seeds]
            if all(o in s for o, s in zip(own, seeds, strict=True)):
                pairs[seed, fold] = (first[own[0], fold], second[own[1], fold], own[0] == own[1])
    return pairs


def differences(first: Runs, second: Runs) -> Runs:
    """Return first minus second for every pair of runs; the worse of the two where one has no value.

    The interval has the percentiles 2.5 and 97.5 of the paired differences of the draws if both runs have the same
    resamples (one seed, equally many units and draws), else the distances of the intervals in quadrature.
    """
    return {run: difference(a, b, same) for run, (a, b, same) in paired(first, second).items()}


def log_ratios(first: Runs, second: Runs) -> Runs:
    """Return the natural logarithm of first over second for every pair of runs; both must be above zero."""
    return differences(_logs(first), _logs(second))


def _logs(runs: Runs) -> Runs:
    found = {}
    for run, r in runs.items():
        if r.status == "ok" and r.value <= 0:
            found[run] = Reading(
                status="not_applicable", reason=f"a ratio needs values above 0, found {r.value:g}"
            )
        elif r.status == "ok":
            low, high = (math.log(v) if v > 0 else math.nan for v in (r.low, r.high))
            draws = tuple(math.log(d) if d > 0 else math.nan for d in r.draws)
            found[run] = Reading(math.log(r.value), low, high, "ok", r.reason, n=r.n, draws=draws)
        else:
            found[run] = r
    return found


def mean_interval(runs: Runs) -> tuple[float, float, float]:
    """Return mean and 95 % interval over the runs that are ok.

    Over several values (see :func:`good_values`) it is Student's t interval of the mean, the values taken as
    independent; a single run has its own interval, which may be NaN.
    """
    good = [r for r in runs.values() if r.status == "ok"]
    values = np.array(good_values(runs))
    if len(good) == 1:
        return good[0].value, good[0].low, good[0].high
    if len(values) == 1:
        return float(values[0]), math.nan, math.nan
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    mean = float(values.mean())
    return mean, mean - half, mean + half


def good_values(runs: Runs) -> list[float]:
    """Return the values that count: of several folds the means over their seeds, of one fold its seeds.

    Seeds of a fold see the same images, so they are no further evidence beside other folds. Only runs that are ok.
    """
    by_fold: dict[int, list[float]] = {}
    for (_, fold), reading in runs.items():
        if reading.status == "ok":
            by_fold.setdefault(fold, []).append(reading.value)
    if len(by_fold) == 1:
        (values,) = by_fold.values()
        return values
    return [float(np.mean(values)) for values in by_fold.values()]


def mean_value(runs: Runs) -> float:
    """Return the mean of the values that count, NaN without any."""
    values = good_values(runs)
    return float(np.mean(values)) if values else math.nan


class MeasuredTable:
    """The measured values behind one table, found by their published names.

    Parameters
    ----------
    plan
        As ``morphobench.specs.plan.Plan.table_plan`` makes it.
    store
        The scores of its evaluations.
    published
        Folder of the published numbers.
    """

    def __init__(self, plan: Mapping[str, Any], store: ScoreStore, published: str | Path):
        self.id = plan["id"]
        self.dataset = plan["dataset"]["id"]
        self.source = plan["dataset"]["source"]
        self._store = store
        self._metrics = plan["metrics"]
        self._published = published
        self._cells: dict[tuple[str, str, str, str], Cell] = {}
        cells = [c for c in expand_cells(plan["spec"]) if c.published and not c.control]
        # A row of the published name comes before others that stand beside the same published row.
        for name in ("row", "published"):
            for cell in cells:
                row = cell.row if name == "row" else cell.published[2]
                self._cells.setdefault((self._file(cell), row, cell.setting, cell.column), cell)

    @staticmethod
    def _file(cell: Cell) -> str:
        return Path(cell.published[0]).stem

    @property
    def files(self) -> set[str]:
        """The files of published numbers, without ``.csv``, that the table stands beside."""
        return {key[0] for key in self._cells}

    def has(self, file: str, term: Term) -> bool:
        """Whether the table has a row for everything that a term names."""
        return all((file, term.row, s, term.column) in self._cells for s in term.settings)

    def runs(self, file: str, term: Term) -> Runs:
        """Return a term's readings by run, in the published unit; of several settings that of the largest mean."""
        found = []
        for setting in term.settings:
            cell = self._cells[file, term.row, setting, term.column]
            numbers = read_published(self._published, *cell.published[:2])
            unit = self._metrics[cell.metric_id]["unit"]
            shown = published_unit(numbers, setting, term.column, unit)
            found.append(cell_runs(cell, self._store, unit_factor(unit, shown) or 1.0))
        bad = [worst(runs.values()) for runs in found if not good_values(runs)] if all(found) else [Reading()]
        if len(found) > 1 and bad:
            return {(0, 0): bad[0]}
        return max(found, key=lambda runs: mean_value(runs) if len(found) > 1 else 0)
