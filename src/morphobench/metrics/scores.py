"""Writing the scores of one evaluation, whole or partial."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from morphobench.errors import MorphobenchError
from morphobench.files import atomic_path, write_json

BROKEN = ("failed", "out_of_memory")


def partial_path(scores: str | Path) -> Path:
    """Return where the scores of an evaluation go in which a metric broke."""
    return Path(scores).with_suffix(".partial.csv")


def write_scores(scores: pd.DataFrame, path: str | Path, draws: str | Path) -> None:
    """Write scores and the resampled values behind their intervals.

    If a metric broke, the rest is kept beside, so that a table can show it, and an error is raised: the job has to
    fail, or nobody would hear of it and no later run would make up for it.

    Parameters
    ----------
    scores
        What :func:`morphobench.metrics.evaluate.evaluate` returned.
    path, draws
        The files to write: the scores as csv, the resampled values as JSON by metric.

    Raises
    ------
    MorphobenchError
        If any metric has status ``failed`` or ``out_of_memory``; it names them.
    """
    partial = partial_path(path)
    broken = scores[scores["status"].isin(BROKEN)]
    with atomic_path(partial if len(broken) else path) as part:
        scores.to_csv(part, index=False)
    write_json(draws, scores.attrs.get("draws", {}))
    if len(broken):
        reasons = "; ".join(f"{row.metric}: {row.reason}" for row in broken.itertuples())
        raise MorphobenchError(f"{len(broken)} of {len(scores)} metrics broke ({reasons})")
    partial.unlink(missing_ok=True)
