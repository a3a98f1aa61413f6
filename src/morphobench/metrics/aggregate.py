"""Scores made of other scores, and facts that a fitted correction reports."""

from __future__ import annotations

import numpy as np

from morphobench.errors import NotApplicable
from morphobench.metrics.evaluation import Evaluation, Score


def mean_of(scores: dict[str, Score], parts: list[str]) -> Score:
    """Return the plain mean of other metrics (CellPainTR, appendix C.2.5).

    The bounds are the means of the parts' bounds: an interval that holds however the parts depend on each other.

    Parameters
    ----------
    scores
        Metric id to score.
    parts
        The ids to average; if one has no value the mean has none, and the reason names it.
    """
    for part in parts:
        if part not in scores:
            raise NotApplicable(f"{part} is not among the metrics evaluated")
        if scores[part].status != "ok":
            raise NotApplicable(f"{part} is {scores[part].status}: {scores[part].reason}")
    value, low, high = (float(np.mean([getattr(scores[p], f) for p in parts])) for f in ("value", "low", "high"))
    return Score(value, low, high, len(parts))


def regularisation(evaluation: Evaluation) -> Score:
    """Return the regularisation that the correction chose, from ``provenance["fitted"]["regularisation"]``."""
    value = evaluation.profiles.provenance.get("fitted", {}).get("regularisation")
    if not isinstance(value, int | float):
        raise NotApplicable("the correction chose no regularisation")
    return Score(float(value), float("nan"), float("nan"), 1)
