"""Holding published claims against measured runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.report.claims import (
    Claim,
    Comparison,
    published_sides,
    published_tie,
    published_value,
)
from morphobench.report.runs import (
    MeasuredTable,
    Runs,
    differences,
    good_values,
    log_ratios,
    mean_interval,
    mean_value,
)
from morphobench.report.scores import Reading, worst

HOLDS, NOISE, FAILS, MISSING = "holds", "within noise", "does not hold", "not measured"
CLAIM_COLUMNS = [
    "claim",
    "paper",
    "table",
    "statement",
    "left",
    "relation",
    "right",
    "unit",
    "published_left",
    "published_right",
    "published_difference",
    "measured_left",
    "measured_right",
    "measured_difference",
    "low",
    "high",
    "runs",
    "verdict",
    "reason",
    "data",
]
# With six runs on one side the two-sided sign test has p = 2 / 2**6 = 0.031.
SIGN_TEST_RUNS = 6
# How near is "about": the interval of a difference or ratio must come within 10 % of the number claimed.
ABOUT = 0.1
# A claim that two things are alike needs an interval within the bounds of bioequivalence, 0.8 to 1.25.
ALIKE = math.log(1.25)


@dataclass(frozen=True)
class Outcome:
    """What became of one comparison: verdict, why, the left, right and compared values with interval, and runs.

    ``margin`` says how far the value is on the claimed side, in its own unit; the least is the weakest.
    """

    comparison: Comparison
    verdict: str
    reason: str = ""
    left: float = math.nan
    right: float = math.nan
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    runs: int = 0
    margin: float = math.nan


def judge_claims(claims: Sequence[Claim], tables: Sequence[MeasuredTable], published: str | Path) -> pd.DataFrame:
    """Return one row a claim and table (or pair of tables) that measures it, columns :data:`CLAIM_COLUMNS`.

    A claim that no table measures has one row with the verdict ``not measured`` and the reason. A table that has
    some of a claim's rows, such as one of variants, has no say where another has all of them.

    Notes
    -----
    A claim comes down to one or more comparisons, and holds if all of them do; its numbers are those of the
    weakest comparison, the one that is least on the claimed side among those that decided. The value compared
    is left minus right, for ``ratio~`` left over right. Runs are paired by seed and fold; where there are
    several folds, the pairs of each are averaged over its seeds. The 95 % interval is Student's t interval of
    the mean over folds, or over the seeds of a single fold (of the logarithms for a ratio); for a single pair
    it is that of the pair's resamples.

    ``<``, ``>``
        *holds* if the interval is wholly on the claimed side, or if there are six values or more and all are on it
        (sign test, p = 0.031); *does not hold* if the same is true of the other side; else *within noise*.
    ``>=``
        As ``>`` after adding half a unit of the last published digit, so that values that print alike are a tie.
    ``diff~x``
        *holds* if the interval is on x's side of zero and comes within 10 % of x; *does not hold* if it misses
        that; *within noise* if it has both zero and x.
    ``ratio~x``
        As ``diff~x`` with one in place of zero. Where x is one, *holds* if the interval is within 0.8 and 1.25.

    Folds share images they train on, so the intervals are somewhat narrower than those of independent studies.
    """
    rows = []
    for claim in claims:
        sides = published_sides(claim, published)
        candidates = _candidates(claim, tables)
        if candidates:
            rows += [_row(claim, sides, pair, _outcomes(claim, sides, pair)) for pair in candidates]
        else:
            outcomes = [Outcome(c, MISSING) for c in claim.comparisons]
            row = _row(claim, sides, None, outcomes)
            rows.append({**row, "reason": _no_table(claim, tables)})
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS).astype({"runs": "Int64"})


def _candidates(claim: Claim, tables: Sequence[MeasuredTable]) -> list[tuple[MeasuredTable, MeasuredTable]]:
    """Return the pairs of tables, mostly one table twice, with rows for all comparisons; if none has, for some."""
    lefts, rights = ([t for t in tables if source in t.files] for source in claim.sources)
    same = claim.sources[0] == claim.sources[1]
    pairs = (
        [(t, t) for t in lefts] if same else [p for p in product(lefts, rights) if p[0].dataset == p[1].dataset]
    )
    held = [(p, [not _absent(claim, p, c) for c in claim.comparisons]) for p in pairs]
    return [p for p, has in held if all(has)] or [p for p, has in held if any(has)]


def _absent(claim: Claim, pair: tuple[MeasuredTable, MeasuredTable], comparison: Comparison) -> list[str]:
    sides = zip(pair, claim.sources, comparison, strict=True)
    return [f"{term}: {term.column}" for table, file, term in sides if not table.has(file, term)]


def _no_table(claim: Claim, tables: Sequence[MeasuredTable]) -> str:
    files = {file for table in tables for file in table.files}
    lacking = [source for source in dict.fromkeys(claim.sources) if source not in files]
    if lacking:
        return f"no table among those made here stands beside {' and '.join(lacking)}"
    pairs = list(product(*([t for t in tables if s in t.files] for s in claim.sources)))
    if all(left.dataset != right.dataset for left, right in pairs):
        return f"the tables beside {' and '.join(claim.sources)} are of different data sets here"
    missing = dict.fromkeys(m for p in pairs for c in claim.comparisons for m in _absent(claim, p, c))
    return f"no method here for {next(iter(missing))}"


def _outcomes(claim: Claim, sides: Any, pair: tuple[MeasuredTable, MeasuredTable]) -> list[Outcome]:
    found = []
    for comparison in claim.comparisons:
        absent = _absent(claim, pair, comparison)
        if absent:
            found.append(Outcome(comparison, MISSING, f"no method here for {absent[0]}"))
            continue
        left, right = (
            None if term.value is not None else table.runs(file, term)
            for table, file, term in zip(pair, claim.sources, comparison, strict=True)
        )
        found.append(judge(claim, comparison, left, right, published_tie(comparison, sides)))
    return found


def judge(claim: Claim, comparison: Comparison, left: Runs, right: Runs | None, tie: float) -> Outcome:
    """Return the outcome of one comparison; rules as for :func:`judge_claims`.

    Parameters
    ----------
    claim
        Its relation and target are used.
    comparison
        Which one it is.
    left, right
        Readings by run; None for a number.
    tie
        Values closer than this print alike.
    """
    if right is None:
        value = comparison.right.value
        right = {
            run: Reading(value, value, value, "ok", n=r.n, draws=(value,) * len(r.draws))
            for run, r in left.items()
        }
    ratio = claim.relation == "ratio~"
    runs = (log_ratios if ratio else differences)(left, right)
    if not runs or not good_values(runs):
        none = [Reading(reason="no evaluation was asked for")]
        bad = worst(runs.values() or [*left.values(), *right.values()] or none)
        reason = bad.reason if bad.status != "ok" else "left and right have no run in common"
        return Outcome(
            comparison, MISSING, f"{bad.status.replace('_', ' ')}: {reason}" if bad.status != "ok" else reason
        )
    value, low, high = mean_interval(runs)
    verdict, margin = _verdict(claim, np.array(good_values(runs)), value, low, high, tie)
    good = {run for run, reading in runs.items() if reading.status == "ok"}
    reasons = [] if len(good) == len(runs) else [f"{len(good)} of {len(runs)} runs have a value"]
    if verdict == NOISE and not (math.isfinite(low) and math.isfinite(high)):
        reasons.append("a single run without an interval")
    show = math.exp if ratio else float
    return Outcome(
        comparison,
        verdict,
        "; ".join(reasons),
        *(mean_value(_folds(side, good)) for side in (left, right)),
        *(show(v) if math.isfinite(v) else math.nan for v in (value, low, high)),
        runs=len(good_values(runs)),
        margin=margin,
    )


def _folds(runs: Runs, good: set[tuple[int, int]]) -> Runs:
    # The means beside a difference are over the folds that the difference is over.
    folds = {fold for _, fold in good}
    return {run: reading for run, reading in runs.items() if run[1] in folds}


def _verdict(
    claim: Claim, values: np.ndarray, value: float, low: float, high: float, tie: float
) -> tuple[str, float]:
    """Return the verdict, and how far the value is on the claimed side."""
    if claim.target is None:
        sign = -1 if claim.relation == "<" else 1
        shift = tie if claim.relation == ">=" else 0.0
        below, above = sorted((sign * low, sign * high)) if math.isfinite(low + high) else (math.nan, math.nan)
        each = sign * values + shift
        many = len(values) >= SIGN_TEST_RUNS
        if below + shift > 0 or (many and (each > 0).all()):
            return HOLDS, sign * value
        if above + shift < 0 or (many and (each < 0).all()):
            return FAILS, sign * value
        return NOISE, sign * value
    if claim.relation == "ratio~":
        target, near = math.log(claim.target), math.log(1 + ABOUT)
        if abs(target) < near:
            margin = -abs(value)
            if low >= -ALIKE and high <= ALIKE:
                return HOLDS, margin
            return (FAILS if low > ALIKE or high < -ALIKE else NOISE), margin
    else:
        target, near = claim.target, ABOUT * abs(claim.target)
    margin = -abs(value - target)
    if low > target + near or high < target - near:
        return FAILS, margin
    if low * target > 0 and high * target > 0:
        return HOLDS, margin
    return NOISE, margin


def _published_margin(claim: Claim, sides: Any, comparison: Comparison) -> float:
    left, right = (published_value(term, numbers) for term, numbers in zip(comparison, sides, strict=True))
    if claim.target is None:
        return (right - left) if claim.relation == "<" else (left - right)
    return -abs((left - right if claim.relation == "diff~" else left / right) - claim.target)


def _row(
    claim: Claim, sides: Any, pair: tuple[MeasuredTable, ...] | None, outcomes: list[Outcome]
) -> dict[str, Any]:
    verdict = next(v for v in (FAILS, MISSING, NOISE, HOLDS) if any(o.verdict == v for o in outcomes))
    deciding = [o for o in outcomes if o.verdict == verdict]
    weakest = min(deciding, key=lambda o: o.margin if math.isfinite(o.margin) else -math.inf)
    shown = weakest.comparison
    if verdict == MISSING:
        shown = min(claim.comparisons, key=lambda c: _published_margin(claim, sides, c))
    left, right = (published_value(term, numbers) for term, numbers in zip(shown, sides, strict=True))
    compared = left / right if claim.relation == "ratio~" else left - right
    first = shown.left
    unit = sides[0][first.row, first.settings[0], first.column].unit
    return {
        "claim": claim.id,
        "paper": claim.paper,
        "table": ";".join(dict.fromkeys(t.id for t in pair)) if pair else claim.table,
        "statement": claim.statement,
        "left": claim.left,
        "relation": claim.relation + ("" if claim.target is None else f"{claim.target:g}"),
        "right": claim.right,
        "unit": "ratio" if claim.relation == "ratio~" else unit,
        "published_left": left,
        "published_right": right,
        "published_difference": _tidy(compared),
        "measured_left": weakest.left,
        "measured_right": weakest.right,
        "measured_difference": weakest.value,
        "low": weakest.low,
        "high": weakest.high,
        "runs": weakest.runs,
        "verdict": verdict,
        "reason": _reason(outcomes, deciding, weakest),
        "data": pair[0].source if pair and verdict != MISSING else "",
    }


def _tidy(value: float) -> float:
    # 34.7 - 25.1 has digits that no one printed.
    return float(f"{value:.10g}")


def _reason(outcomes: list[Outcome], deciding: list[Outcome], weakest: Outcome) -> str:
    if len(outcomes) == 1:
        return weakest.reason
    sides = f"{weakest.comparison.left} against {weakest.comparison.right}"
    if weakest.verdict == MISSING:
        measured = len(outcomes) - len(deciding)
        return f"{measured} of {len(outcomes)} comparisons measured; {sides}: {weakest.reason}"
    least = "clearest" if weakest.verdict == FAILS else "weakest"
    words = f"{len(deciding)} of {len(outcomes)} comparisons; {least}: {sides}"
    return f"{words}; {weakest.reason}" if weakest.reason else words
