"""Reading what evaluations left behind: score files and failure records."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from morphobench.errors import DataError
from morphobench.metrics.scores import BROKEN
from morphobench.report.cells import Evaluation

# From good to bad: the status of a cell is the worst among its evaluations.
STATUSES = ("ok", "not_applicable", "not_run", "collapsed", "timeout", "out_of_memory", "failed")
COLUMNS = ("metric", "value", "ci_low", "ci_high", "n", "status", "reason")
DRAWS = "draws.json"


@dataclass(frozen=True)
class Reading:
    """One metric of one evaluation; the numbers are NaN unless the status is ``ok``.

    Attributes
    ----------
    value, low, high
        The value and its 95 % interval.
    status, reason, log
        How it went; why there is no value, or what was left out of it; where the log is.
    n
        Number of units the value is over.
    draws
        The value on each resample or split, NaN where undefined; empty where the evaluation kept none.
    fold
        The fold of the evaluation.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    status: str = "not_run"
    reason: str = ""
    log: str = ""
    n: int = 0
    draws: tuple[float, ...] = field(default=(), repr=False)
    fold: int = 0


def worst(readings: Iterable[Reading]) -> Reading:
    """Return the first reading of the worst status."""
    return max(readings, key=lambda r: STATUSES.index(r.status))


class ScoreStore:
    """The scores of a table's evaluations, each file read once.

    Parameters
    ----------
    paths
        By ``(method, correction, seed, fold)``: a scores csv, a failure record (``*.failed.json`` with status,
        reason, log), or None where nothing was left. A file ``draws.json`` in the folder of a scores csv has the
        resampled values of its metrics, ``{metric: [number or null, ...]}``.
    logs
        By the same keys, the log of the job that wrote the scores: where a broken metric says more.
    """

    def __init__(
        self, paths: Mapping[Evaluation, str | Path | None], logs: Mapping[Evaluation, str] | None = None
    ):
        logs = logs or {}
        self._readings = {key: _read(path, logs.get(key, "")) for key, path in paths.items()}

    def runs(self, method: str, correction: str) -> list[tuple[int, int]]:
        """Return the ``(seed, fold)`` of a method under a correction."""
        return [(k[2], k[3]) for k in self._readings if k[:2] == (method, correction)]

    def reading(self, evaluation: Evaluation, metric: str) -> Reading:
        """Return a metric of an evaluation; ``not_run`` with a reason where there is none."""
        found = self._readings[evaluation]
        if isinstance(found, Reading):
            return found
        if metric in found:
            return found[metric]
        # A metric of several values that gave none has one row under its plain id, which says why.
        plain = found.get(metric.partition("@")[0])
        if plain is not None and plain.status != "ok":
            return plain
        return Reading(reason=f"the scores file has no metric {metric}")


def failure(path: str | Path | None) -> Reading:
    """Return what a failure record says; ``not_run`` where there is none."""
    if path is None:
        return Reading(reason="nothing has run yet")
    record = json.loads(Path(path).read_text(encoding="utf-8"))
    status = record.get("status", "failed")
    if status not in STATUSES[1:]:
        raise DataError(f"{path}: status is {status!r}, expected one of {', '.join(STATUSES[1:])}")
    return Reading(status=status, reason=record.get("reason", ""), log=record.get("log") or "")


def _read(path: str | Path | None, log: str) -> dict[str, Reading] | Reading:
    if path is None or not Path(path).is_file():
        return Reading(reason="no scores yet")
    if Path(path).suffix == ".json":
        return failure(path)
    with open(path, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = [c for c in COLUMNS if c not in (reader.fieldnames or [])]
        if missing:
            raise DataError(f"{path}: column {missing[0]} is missing; a scores file must have it")
        draws = _draws(Path(path).with_name(DRAWS))
        return {
            row["metric"]: _reading(row, f"{path}:{line}", draws, log) for line, row in enumerate(reader, start=2)
        }


def _draws(path: Path) -> dict[str, tuple[float, ...]]:
    """Return the resampled values by metric, null as NaN; none where there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {m: tuple(math.nan if d is None else float(d) for d in values) for m, values in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected lists of numbers by metric ({error})") from None


def _reading(row: Mapping[str, str], where: str, draws: Mapping[str, tuple[float, ...]], log: str) -> Reading:
    status = row["status"]
    if status not in STATUSES:
        raise DataError(f"{where}: status is {status!r}, expected one of {', '.join(STATUSES)}")
    if status != "ok":
        return Reading(status=status, reason=row["reason"], log=log if status in BROKEN else "")
    try:
        n = int(row["n"])
        value, low, high = (float(row[c]) if row[c] else math.nan for c in ("value", "ci_low", "ci_high"))
    except ValueError as error:
        raise DataError(f"{where}: value, interval or n of {row['metric']} is no number ({error})") from None
    if not math.isfinite(value):
        return Reading(status="failed", reason=f"status is ok but the value is {row['value'] or 'empty'}")
    return Reading(value, low, high, status, row["reason"], n=n, draws=draws.get(row["metric"], ()))
