"""NSC and NSCB accuracy against a plain loop."""

from dataclasses import replace

import numpy as np
import pytest

from morphobench.errors import NotApplicable
from morphobench.metrics.mechanism import moa_accuracy, nearest_share

from .conftest import changed, evaluation_of, screen


def mechanisms(seed=0, **kwargs):
    """A screen whose compounds of a mechanism resemble each other, at two doses each."""
    profiles = screen(n_compounds=12, seed=seed, **kwargs)
    compound = np.array(
        [c if c == "DMSO" else f"c{int(c[1:]) // 2 * 2}" for c in profiles.column("Metadata_Compound")]
    )
    number = [-1 if c == "DMSO" else int(c[1:]) for c in profiles.column("Metadata_Compound")]
    moa = np.array([None if i < 0 else f"m{i // 6}" for i in number], dtype=object)
    return changed(profiles, Metadata_Compound=compound, Metadata_MoA=moa)


def loop(profiles, other_batch):
    frame = profiles.metadata[profiles.metadata["Metadata_Control"] == "trt"]
    facts = {}
    for name, wells in frame.groupby("Metadata_Perturbation"):
        row = wells.iloc[0]
        median = np.median(profiles.features[wells.index], axis=0)
        facts[name] = (
            median / np.linalg.norm(median),
            row.Metadata_Compound,
            row.Metadata_MoA,
            set(wells.Metadata_Batch),
        )
    right = []
    for median, compound, moa, batches in facts.values():
        others = [f for f in facts.values() if f[1] != compound and not (other_batch and f[3] & batches)]
        if any(f[2] == moa for f in others):
            right.append(max(others, key=lambda f: f[0] @ median)[2] == moa)
    return np.mean(right), len(right)


@pytest.mark.parametrize("seed", range(4))
def test_equals_a_plain_loop(seed):
    profiles = mechanisms(seed, biology=0.7)
    # Compounds 0-3 of each mechanism's six treatments are absent from some batches.
    treatment = profiles.column("Metadata_Perturbation")
    late = np.isin(treatment, ["c0@1", "c1@1", "c6@1", "c7@1"])
    batch = profiles.column("Metadata_Batch")
    profiles = profiles.rows(~(late & (batch != "b0")) & ~((treatment != "DMSO") & ~late & (batch == "b0")))
    for other_batch in (False, True):
        score = moa_accuracy(evaluation_of(profiles), other_batch)
        value, n = loop(profiles, other_batch)
        assert (score.value, score.n) == (pytest.approx(value), n)


def test_treatments_that_cannot_be_right_are_counted():
    profiles = mechanisms()
    moa = profiles.column("Metadata_MoA").copy()
    moa[profiles.column("Metadata_Compound") == "c0"] = "unique"
    score = moa_accuracy(evaluation_of(changed(profiles, Metadata_MoA=moa)))
    assert score.n == 10
    assert score.reason.startswith("2 of 12 treatments left out")


def test_ties_count_at_their_expectation():
    similarity = np.array([[1.0, 0.5, 0.5, 0.5]])
    eligible = np.array([[False, True, True, True]])
    assert nearest_share(similarity, eligible, np.array([[True, True, False, False]]))[0] == pytest.approx(1 / 3)
    assert np.isnan(nearest_share(similarity, eligible, np.array([[True, False, False, False]]))[0])


def test_what_does_not_apply():
    profiles = mechanisms()
    with pytest.raises(NotApplicable, match="known mechanism"):
        moa_accuracy(evaluation_of(changed(profiles, Metadata_MoA=None)))
    bare = replace(profiles, metadata=profiles.metadata.drop(columns="Metadata_MoA"))
    with pytest.raises(NotApplicable, match="no column Metadata_MoA"):
        moa_accuracy(evaluation_of(bare))
    with pytest.raises(NotApplicable, match="none of the 12 treatments"):
        moa_accuracy(evaluation_of(profiles), other_batch=True)
