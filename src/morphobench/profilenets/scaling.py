"""What CellPainTR's network is fed: its own scaling of profiles, beside the baselines' (section 4 of the paper).

The baselines drop features, take ranks and drop features again; the network takes every feature, scaled plate by
plate on the negative controls and clipped. Both are lists of the same preprocessing steps, and each branch has a
profiles file of its own, with the same rows in the same order.
"""

from __future__ import annotations

from typing import Any

from morphobench.preprocessing.pipeline import preprocess
from morphobench.profiles import Profiles

# The limits' share, and what is added to the spread, as in the authors' code.
LOW, HIGH, EPSILON = 0.01, 0.99, 1e-6


def model_steps(*, low: float = LOW, high: float = HIGH, epsilon: float = EPSILON) -> list[dict[str, Any]]:
    """Return the preprocessing of CellPainTR's network, as the ``preprocessing_model`` of a dataset spec.

    1. NaN and infinite values become 0, in raw units: text and code agree that this comes first, although 0 is
       then far from the controls wherever a feature is. The third step limits the harm.
    2. (x - median) / (1.4826 MAD + ``epsilon``), median and MAD of the plate's negative controls. A feature that
       is constant over them is divided by ``epsilon`` alone: its controls become 0, its other wells hit a limit.
    3. Values are limited to the ``low`` and ``high`` quantile of the plate's whole matrix, all wells and features
       together, as in the authors' code; the text only says "between the 0.01 and 0.99 quantiles".

    No feature is dropped, so all data sets that were measured alike keep the same features. Each plate is scaled
    by itself, before any rows are mixed: the authors' third stage would scale files of mixed sources.

    Parameters
    ----------
    low, high
        Quantiles.
    epsilon
        In units of the raw feature.
    """
    return [
        {"step": "impute", "scope": "all", "value": 0.0, "what": ["nan", "inf"]},
        {"step": "mad_normalise", "scope": "plate", "on": "negcon", "epsilon": epsilon},
        {"step": "clip_quantiles", "scope": "plate", "low": low, "high": high, "per": "matrix"},
    ]


def scale(profiles: Profiles, **limits: float) -> tuple[Profiles, dict[str, Any]]:
    """Scale raw profiles held in memory for the network; equal to what a dataset's model branch writes.

    Parameters
    ----------
    profiles
        Raw CellProfiler profiles of whole plates; NaN and infinite values are allowed.
    limits
        See :func:`model_steps`.

    Returns
    -------
    tuple
        The profiles, rows in the same order, features sorted by name; and the report of
        :func:`morphobench.preprocessing.pipeline.preprocess`.

    Raises
    ------
    DataError
        If a plate has no negative control.
    """
    return preprocess(profiles, model_steps(**limits))
