"""Whether features collapse: in the course of a training wells or images are told apart less and less."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from morphobench.metrics.health import health
from morphobench.report.figures_style import COLOURS

# Below these the features hardly tell images apart. A network that has just been made is well above them.
LEAST_SPREAD, LEAST_RANK = 0.01, 2.0
# So many validation images tell whether features collapse.
WATCHED = 512


def watch(features: np.ndarray) -> dict[str, Any]:
    """Return whether features collapse.

    Parameters
    ----------
    features
        (N, D).

    Returns
    -------
    dict
        ``embedding_spread``: root mean square distance of the L2-normalised features to their mean, 0 to 1;
        ``effective_rank`` of the same (:func:`morphobench.metrics.health.health`); ``collapsed``.
    """
    length = np.linalg.norm(features, axis=1, keepdims=True)
    facts = health(features / np.maximum(length, 1e-12))
    spread, rank = facts["spread"], facts["effective_rank"]
    collapsed = facts["status"] == "collapsed" or spread < LEAST_SPREAD or rank < LEAST_RANK
    return {"embedding_spread": spread, "effective_rank": rank, "collapsed": bool(collapsed)}


def draw_collapse(axes: Any, judged: pd.DataFrame, xlabel: str, what: str) -> None:
    """Draw spread and effective rank of ``what`` over the steps of the rows that were watched."""
    axes.plot(judged["step"], judged.get("embedding_spread", []), color=COLOURS[0], marker="o", ms=3)
    axes.axhline(LEAST_SPREAD, color="#D62728", lw=1, ls=":")
    axes.set(xlabel=xlabel, title="Collapse watch", ylim=(0, 1.05))
    axes.set_ylabel(f"spread of normalised {what} (blue)")
    ranks = axes.twinx()
    ranks.plot(judged["step"], judged.get("effective_rank", []), color=COLOURS[1], marker="^", ms=3)
    ranks.set_ylim(0, None)
    ranks.set_ylabel("effective rank (orange)")
