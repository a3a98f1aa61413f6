"""Running metrics on profiles, each isolated from the others, into one scores table."""

from __future__ import annotations

import importlib
import resource
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.errors import NotApplicable
from morphobench.metrics.evaluation import Evaluation, Score
from morphobench.metrics.neighbours import Neighbours
from morphobench.profiles import Profiles

COLUMNS = ("metric", "value", "ci_low", "ci_high", "n", "seconds", "peak_mb", "status", "reason")


class PeakMemory:
    """Peak resident memory of a block in MiB.

    Linux lets a process reset its own peak; elsewhere, or where that is not permitted, the figure is the peak of
    the process so far, an upper bound.
    """

    def __enter__(self) -> PeakMemory:
        try:
            Path("/proc/self/clear_refs").write_text("5")
            self._resettable = True
        except OSError:
            self._resettable = False
        return self

    def __exit__(self, *_: object) -> None:
        self.mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if self._resettable:
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self.mb = int(line.split()[1]) / 1024


def resolve(name: str):
    """Return the function that ``package.module:function`` names."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


def _without(status: str, reason: str) -> Score:
    nan = float("nan")
    return Score(nan, nan, nan, 0, status, " ".join(reason.split()))


def _check_needs(spec: dict, evaluation: Evaluation) -> None:
    """Raise NotApplicable if the profiles lack what the metric's spec says it needs."""
    for column in spec.get("needs") or ():
        evaluation.column(column)
    collection = spec.get("needs_annotations")
    if collection:
        table = evaluation.annotations
        if table is None or not (table["collection"] == collection).any():
            raise NotApplicable(f"the data set has no annotations of collection {collection}")


def _isolated(call) -> dict[str, Score]:
    """Return what ``call`` returns, keyed by "" if single; a failure becomes a score with status and reason."""
    try:
        result = call()
    except NotApplicable as error:
        return {"": _without("not_applicable", str(error))}
    except MemoryError as error:
        return {"": _without("out_of_memory", f"the metric ran out of memory ({error})".replace(" ()", ""))}
    except Exception as error:
        traceback.print_exc()
        return {"": _without("failed", f"{type(error).__name__}: {error}")}
    results = result if isinstance(result, dict) else {"": result}
    return {key: _finite(score) for key, score in results.items()}


def _finite(score: Score) -> Score:
    """Return the score, as failed if it claims to be ok without a finite value."""
    if score.status == "ok" and not np.isfinite(score.value):
        return _without("failed", f"the metric gave {score.value}, expected a finite number")
    return score


def _run(spec: dict, argument: Any) -> tuple[dict[str, Score], float, float]:
    """Return the scores of one metric, seconds and peak MiB."""
    began = time.perf_counter()

    def call():
        given = argument
        if isinstance(argument, Evaluation):
            given = argument.restricted(spec["split"]) if spec.get("split") else argument
            _check_needs(spec, given)
        return resolve(spec["function"])(given, **(spec.get("parameters") or {}))

    with PeakMemory() as peak:
        scores = _isolated(call)
    return scores, time.perf_counter() - began, peak.mb


def _aggregates(specs: list[dict], results: dict[str, tuple]) -> None:
    """Add the aggregates to ``results``, parts before wholes whatever the order of the specs."""
    waiting = [s for s in specs if s["kind"] == "aggregate"]
    while waiting:
        names = {s["id"] for s in waiting}
        ready = [s for s in waiting if not names & set((s.get("parameters") or {}).get("parts", ()))]
        for spec in ready or waiting:
            known = {
                f"{metric}@{key}" if key else metric: score
                for metric, (scores, _, _) in results.items()
                for key, score in scores.items()
            }
            results[spec["id"]] = _run(spec, known)
        waiting = [s for s in waiting if s["id"] not in results]


def evaluate(
    profiles: Profiles,
    neighbours: Neighbours | None,
    annotations: pd.DataFrame | None,
    specs: list[dict],
    seed: int,
    wildcards: dict[str, Any] | None = None,
    health: dict[str, Any] | None = None,
) -> pd.DataFrame:
    """Evaluate metrics and return the scores table.

    Parameters
    ----------
    profiles
        The profiles.
    neighbours
        Their neighbour graph, holding what :func:`~morphobench.metrics.neighbours.required_neighbours` says.
    annotations
        Long table ``entity, set, collection``, or None.
    specs
        Metric specs; the rows follow their order. A metric whose spec has a key ``split`` is given the wells of
        that split alone (:meth:`~morphobench.metrics.evaluation.Evaluation.restricted`).
    seed
        Seed of everything random.
    wildcards
        Columns put first, with the same value in every row (dataset, method, ...).
    health
        What :func:`~morphobench.metrics.health.health` returned; if it says collapsed, no metric is run and every
        row has that status. None skips the check.

    Returns
    -------
    pandas.DataFrame
        The wildcards, then ``metric,value,ci_low,ci_high,n,seconds,peak_mb,status,reason``. A metric of several
        values has a row ``id@key`` for each, or one row with its plain id if it gave none. No failure of a metric
        reaches the caller. What several metrics share is computed, and timed, by the first of them.
        ``attrs["draws"]`` has, by the id in column ``metric``, the resampled values of the rows that are ok and
        keep them: ``{id: [float or None, ...]}``, None where a resample leaves the value undefined, as JSON has no
        NaN.
    """
    if health is not None and health["status"] == "collapsed":
        score = _without("collapsed", health["reason"])
        results = {spec["id"]: ({"": score}, 0.0, float("nan")) for spec in specs}
    else:
        evaluation = Evaluation(profiles, neighbours, annotations, seed)
        results = {spec["id"]: _run(spec, evaluation) for spec in specs if spec["kind"] != "aggregate"}
        _aggregates(specs, results)
    rows, draws = [], {}
    for spec in specs:
        scores, seconds, peak = results[spec["id"]]
        for key, s in scores.items():
            name = f"{spec['id']}@{key}" if key else spec["id"]
            value, low, high = (s.value, s.low, s.high) if s.status == "ok" else (np.nan,) * 3
            rows.append((name, value, low, high, s.n, seconds, peak, s.status, s.reason))
            if s.status == "ok" and s.draws:
                draws[name] = [float(d) if np.isfinite(d) else None for d in s.draws]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    for position, (name, value) in enumerate((wildcards or {}).items()):
        frame.insert(position, name, value)
    frame.attrs["draws"] = draws
    return frame
