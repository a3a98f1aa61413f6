"""Whether features collapse: in the course of a training wells or images are told apart less and less."""

from __future__ import annotations

from typing import Any

import numpy as np

from morphobench.metrics.health import health

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
