"""1-nearest-neighbour accuracy of mechanisms on treatment profiles, not the same compound (or batch, or dose)."""

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


def plate_scores(features: np.ndarray, plates: np.ndarray, control: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return z-scores by the controls of each plate, each row divided by its length.

    Parameters
    ----------
    features
        (N, D) numbers.
    plates
        (N,) plates.
    control
        (N,) bool, the wells that mean and standard deviation (population's, plus 1e-8) come from.

    Returns
    -------
    scores, usable
        (N, D) float64, and (N,) bool: whether the plate has at least two controls; rows of other plates are zero.
    """
    data = np.asarray(features, dtype=np.float64)
    scores, usable = np.zeros_like(data), np.zeros(len(data), dtype=bool)
    codes, names = codes_of(plates)
    for plate in range(len(names)):
        here = codes == plate
        reference = data[here & control]
        if len(reference) > 1:
            scores[here] = unit_rows((data[here] - reference.mean(axis=0)) / (reference.std(axis=0) + 1e-8))
            usable |= here
    return scores, usable


def moa_1nn(evaluation: Evaluation, leave_out: str = "compound", split: str | None = "test") -> Score:
    """1-NN not-same-compound accuracy of the mechanism (CDCL, Table 2a and appendix; authors' code).

    Images are z-scored by the DMSO wells of their plate, divided by their length and averaged to one profile per
    treatment; the most similar treatment by cosine predicts the mechanism. Accuracy is over all treatments with a
    known mechanism, as published: one without any other treatment of its mechanism to find is wrong. How many are
    is in the reason; it is the same for every embedding. Interval over treatments.

    Parameters
    ----------
    evaluation
        Needs ``Metadata_MoA`` and ``Metadata_Compound``, and two negative controls on a plate: treated wells of
        plates with fewer are left out and counted. Negative controls take no part as treatments.
    leave_out
        ``"compound"``: all treatments of the query's compound are left out, as the paper describes;
        ``"treatment"``: the query alone, so that other doses of its compound stay, as the authors' code does.
    split
        The images that take part; None for all.
    """
    if leave_out not in ("compound", "treatment"):
        raise ValueError(f"leave_out is {leave_out!r}, expected compound or treatment")
    rows = evaluation.rows(split)
    label, compound, moa, control, plate = (
        evaluation.column(name)[rows]
        for name in (evaluation.label, "Metadata_Compound", "Metadata_MoA", "Metadata_Control", "Metadata_Plate")
    )
    negative = control == "negcon"
    known = ~negative & ~pd.isna(moa) & (moa.astype(str) != "")
    if not known.any():
        raise NotApplicable("no treated well has a known mechanism")
    scores, usable = plate_scores(evaluation.profiles.features[rows], plate, negative)
    counted = known & usable
    if not counted.any():
        raise NotApplicable("no plate with treated wells has two negative controls to compare them with")
    codes, names = codes_of(label[counted])
    means = np.zeros((len(names), scores.shape[1]))
    np.add.at(means, codes, scores[counted])
    data = unit_rows(means / np.bincount(codes)[:, None])
    first = np.unique(codes, return_index=True)[1]
    moas, _ = codes_of(moa[counted][first])
    # A treatment without a compound's name is a compound of its own.
    owners, _ = codes_of(np.where(pd.isna(compound), label, compound)[counted][first])
    owners = owners if leave_out == "compound" else np.arange(len(names))
    share = nearest_share(data @ data.T, owners[:, None] != owners, moas[:, None] == moas)
    return mean_score(np.nan_to_num(share), evaluation.seed, reason=_left_out(share, known, usable, leave_out))


def _left_out(share: np.ndarray, known: np.ndarray, usable: np.ndarray, leave_out: str) -> str:
    """Return what an accuracy over treatments counts as wrong by construction, and the wells it leaves out."""
    alone, dropped = int(np.isnan(share).sum()), int((known & ~usable).sum())
    parts = []
    if alone:
        parts.append(
            f"{alone} of {len(share)} treatments count as wrong: no other {leave_out} has their mechanism"
        )
    if dropped:
        parts.append(f"{dropped} of {known.sum()} wells left out: fewer than two negative controls on their plate")
    return "; ".join(parts)
