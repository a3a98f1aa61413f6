"""Embedding health check: a collapsed embedding must not enter a table as if it had been measured."""

from __future__ import annotations

from typing import Any

import numpy as np

RELATIVE_ZERO = 1e-6


def health(features: np.ndarray) -> dict[str, Any]:
    """Return whether an embedding holds any information, with the figures behind the verdict.

    Parameters
    ----------
    features
        (N, D) finite numbers.

    Returns
    -------
    dict
        ``status`` (``ok`` or ``collapsed``), ``reason`` (one sentence, empty when ok), ``n``, ``dims``,
        ``effective_rank`` (exponential of the entropy of the normalised singular values of the centred matrix; Roy
        and Vetterli 2007), ``spread`` (root mean square distance to the centre over the root mean square norm) and
        ``duplicate_share`` (rows that repeat an earlier one).

    Notes
    -----
    Collapsed means: all rows equal, or equal up to float32 rounding (nothing is left after centring). Repeated
    rows alone are no collapse: an ideal representation maps all replicates to one point.
    """
    data = np.asarray(features, dtype=np.float64)
    n, dims = data.shape
    distinct = len(np.unique(np.ascontiguousarray(features), axis=0)) if n else 0
    centred = data - data.mean(axis=0)
    norm = np.sqrt(np.square(data).sum() / max(n, 1))
    spread = float(np.sqrt(np.square(centred).sum() / max(n, 1)) / norm) if norm > 0 else 0.0
    facts = {
        "n": n,
        "dims": dims,
        "effective_rank": 0.0,
        "spread": spread,
        "duplicate_share": float(1 - distinct / n) if n else 0.0,
    }
    if n > 1 and distinct == 1:
        return {"status": "collapsed", "reason": f"all {n} rows of the embedding are equal", **facts}
    if spread < RELATIVE_ZERO:
        reason = f"the embedding is constant up to rounding: relative spread {spread:.1e} over {n} rows"
        return {"status": "collapsed", "reason": reason, **facts}
    gram = centred @ centred.T if n < dims else centred.T @ centred
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    share = singular[singular > singular.max() * RELATIVE_ZERO] / singular.sum()
    facts["effective_rank"] = float(np.exp(-(share * np.log(share)).sum()))
    return {"status": "ok", "reason": "", **facts}
