"""Grit: how far replicates stand out from the controls in a profile's own similarities (cytominer-eval)."""

from __future__ import annotations

import numpy as np

from morphobench.errors import NotApplicable
from morphobench.metrics.average_precision import unit_rows
from morphobench.metrics.evaluation import Evaluation, Score, codes_of, mean_score


def profile_grit(features: np.ndarray, codes: np.ndarray, query: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Return the grit of each profile.

    Parameters
    ----------
    features
        (N, D) numbers; similarity is Pearson's correlation across features.
    codes
        (N,) perturbations.
    query, control
        (N,) bool, disjoint.

    Returns
    -------
    numpy.ndarray
        (N,) float64: mean over the other query profiles of the same perturbation of (similarity - m)/s, with m
        and s the mean and population standard deviation of the profile's similarities to the controls. NaN
        without a mate, or where s is 0.
    """
    data = np.asarray(features, dtype=np.float64)
    data = unit_rows(data - data.mean(axis=1, keepdims=True))
    result = np.full(len(data), np.nan)
    if not (query.any() and control.any()):
        return result
    rows = np.flatnonzero(query)
    sums = np.zeros((codes.max() + 1, data.shape[1]))
    np.add.at(sums, codes[rows], data[rows])
    mates = np.bincount(codes[rows], minlength=len(sums))[codes[rows]] - 1
    own = np.einsum("ij,ij->i", data[rows], data[rows])
    total = np.einsum("ij,ij->i", data[rows], sums[codes[rows]]) - own
    to_control = data[rows] @ data[control].T
    spread = to_control.std(axis=1)
    # Rounding leaves some 1e-16 of spread among equal similarities.
    usable = (mates > 0) & (spread > 1e-12)
    mean = to_control.mean(axis=1)
    result[rows[usable]] = (total[usable] / mates[usable] - mean[usable]) / spread[usable]
    return result


def grit(evaluation: Evaluation, controls: str = "all", split: str | None = None) -> Score:
    """Mean grit over perturbations (cytominer-eval; CDCL reports it without stating columns or controls).

    Per profile, then mean per perturbation, then over perturbations; interval over perturbations. Negative
    controls are no queries.

    Parameters
    ----------
    evaluation
        Needs two features and two negative controls.
    controls
        ``"all"``: similarities to all negative controls; ``"plate"``: to those of the profile's plate.
    split
        ``train``, ``val`` or ``test`` (CDCL's Table 5): profiles, their mates and the controls are those of that
        split; None for all.
    """
    rows = evaluation.rows(split)
    codes, _ = codes_of(evaluation.column(evaluation.label)[rows])
    control = evaluation.column("Metadata_Control")[rows] == "negcon"
    if evaluation.profiles.features.shape[1] < 2:
        raise NotApplicable("a correlation across features needs at least two features")
    if control.sum() < 2:
        raise NotApplicable(f"there are {control.sum()} negative controls; a z-score needs at least two")
    features = evaluation.profiles.features if split is None else evaluation.profiles.features[rows]
    if controls == "all":
        values = profile_grit(features, codes, ~control, control)
    elif controls == "plate":
        values = np.full(len(codes), np.nan)
        plates, names = codes_of(evaluation.column("Metadata_Plate")[rows])
        for plate in range(len(names)):
            here = plates == plate
            if (here & control).sum() > 1:
                found = profile_grit(features, codes, ~control, here & control)
                values[here] = found[here]
    else:
        raise ValueError(f"controls is {controls!r}, expected all or plate")
    counted = ~np.isnan(values)
    if not counted.any():
        raise NotApplicable("no treated well has a replicate and controls whose similarities differ")
    owner, _ = codes_of(codes[counted])
    means = np.bincount(owner, values[counted]) / np.bincount(owner)
    left = int((~control).sum() - counted.sum())
    reason = (
        f"{left} of {(~control).sum()} treated wells left out: no replicate or no usable controls" if left else ""
    )
    return mean_score(means, evaluation.seed, reason=reason)
