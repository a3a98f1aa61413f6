"""1-nearest-neighbour accuracy of mechanisms on treatment profiles, not the same compound (or batch)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from morphobench.errors import NotApplicable
from morphobench.metrics.average_precision import unit_rows
from morphobench.metrics.evaluation import Evaluation, Score, codes_of, mean_score


def nearest_share(similarity: np.ndarray, eligible: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return, per query, the share of its most similar eligible candidates that are right.

    It is 0 or 1 but for ties, which have no order: similarities within 1e-9 of the best count alike.

    Parameters
    ----------
    similarity
        (Q, C) float64.
    eligible, right
        (Q, C) bool.

    Returns
    -------
    numpy.ndarray
        (Q,) float64; NaN for a query that has no eligible right candidate and so could not be right.
    """
    ranked = np.where(eligible, similarity, -np.inf)
    best = ranked >= ranked.max(axis=1, keepdims=True) - 1e-9
    best &= eligible
    possible = (eligible & right).any(axis=1)
    share = (best & right).sum(axis=1) / np.maximum(best.sum(axis=1), 1)
    return np.where(possible, share, np.nan)


def _treatments(evaluation: Evaluation) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return facts (moa, compound), median profiles and batch membership of treatments with a known mechanism."""
    frame = pd.DataFrame(
        {
            "label": evaluation.column(evaluation.label),
            "compound": evaluation.column("Metadata_Compound"),
            "moa": evaluation.column("Metadata_MoA"),
            "batch": codes_of(evaluation.column(evaluation.batch))[0],
        }
    )
    known = frame["moa"].notna() & (frame["moa"].astype(str) != "")
    known &= frame["compound"].notna() & (evaluation.column("Metadata_Control") != "negcon")
    frame = frame[known]
    if frame.empty:
        raise NotApplicable("no treated well has a known mechanism")
    codes, names = codes_of(frame["label"].to_numpy())
    features = evaluation.profiles.features[known.to_numpy()]
    medians = np.stack([np.median(features[codes == i], axis=0) for i in range(len(names))])
    member = np.zeros((len(names), frame["batch"].max() + 1), dtype=bool)
    member[codes, frame["batch"]] = True
    return frame.groupby(codes)[["moa", "compound"]].first(), medians, member


def moa_accuracy(evaluation: Evaluation, other_batch: bool = False) -> Score:
    """NSC or NSCB accuracy: how often the most similar treatment of another compound shares the mechanism.

    Ljosa et al. 2013 (NSC) and Ando et al. 2017 (NSCB). A treatment's profile is the median over its wells;
    similarity is the cosine. Treatments without any eligible treatment of their mechanism cannot be right and are
    left out, as the BBBC021 literature does; how many is in the reason.

    Parameters
    ----------
    evaluation
        Needs ``Metadata_MoA`` and ``Metadata_Compound``. Negative controls take no part.
    other_batch
        Whether candidates that share a batch with the query are left out too (NSCB).
    """
    facts, medians, member = _treatments(evaluation)
    data = unit_rows(medians)
    moa, compound = (codes_of(facts[c].to_numpy())[0] for c in ("moa", "compound"))
    eligible = compound[:, None] != compound
    if other_batch:
        eligible &= ~(member.astype(np.int64) @ member.T.astype(np.int64) > 0)
    share = nearest_share(data @ data.T, eligible, moa[:, None] == moa)
    counted = ~np.isnan(share)
    what = "another compound in another batch" if other_batch else "another compound"
    left, total = int((~counted).sum()), len(share)
    if left == total:
        raise NotApplicable(f"none of the {total} treatments has its mechanism in {what}")
    reason = f"{left} of {total} treatments left out: their mechanism does not occur in {what}" if left else ""
    return mean_score(share[counted], evaluation.seed, reason=reason)
