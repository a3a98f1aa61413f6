"""NSC and NSCB accuracy against a plain loop."""

from dataclasses import replace

import numpy as np
import pytest

from morphobench.errors import NotApplicable
from morphobench.metrics.mechanism import moa_1nn, moa_accuracy, nearest_share

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


def images(seed=0, **kwargs):
    """Three test plates of two doses of twelve compounds in six mechanisms, one compound alone in its own."""
    profiles = screen(n_compounds=24, n_plates=9, seed=seed, **kwargs)
    number = np.array([-1 if c == "DMSO" else int(c[1:]) for c in profiles.column("Metadata_Compound")])
    compound = np.array(["DMSO" if i < 0 else f"c{i // 2}" for i in number], dtype=object)
    moa = np.array([None if i < 0 else f"m{i // 4}" for i in number], dtype=object)
    moa[np.isin(number, [0, 1])] = "alone"
    moa[np.isin(number, [20, 21])] = ""
    shared = kwargs.get("biology", 1) * np.random.default_rng(seed).normal(size=(8, profiles.features.shape[1]))
    features = profiles.features + np.where(number < 0, 0, 1)[:, None] * shared[number // 4]
    return changed(profiles, features, Metadata_Compound=compound, Metadata_MoA=moa)


def loop_1nn(profiles, leave_out):
    """CDCL's 1-NN not-same-compound accuracy image by image, treatment by treatment."""
    meta = profiles.metadata
    sums, facts = {}, {}
    for i, row in meta[meta["Metadata_Split"] == "test"].iterrows():
        if row.Metadata_Control == "negcon" or not row.Metadata_MoA:
            continue
        plate = (meta["Metadata_Plate"] == row.Metadata_Plate) & (meta["Metadata_Split"] == "test")
        dmso = profiles.features[plate & (meta["Metadata_Control"] == "negcon")].astype(float)
        z = (profiles.features[i] - dmso.mean(0)) / (dmso.std(0) + 1e-8)
        sums.setdefault(row.Metadata_Perturbation, []).append(z / np.linalg.norm(z))
        facts[row.Metadata_Perturbation] = (row.Metadata_Compound, row.Metadata_MoA)
    means = {name: np.mean(rows, axis=0) for name, rows in sums.items()}
    right = []
    for name, mean in means.items():
        best, found = -2.0, None
        for other, theirs in means.items():
            if other == name or (leave_out == "compound" and facts[other][0] == facts[name][0]):
                continue
            cosine = mean @ theirs / np.linalg.norm(mean) / np.linalg.norm(theirs)
            if cosine > best:
                best, found = cosine, facts[other][1]
        right.append(found == facts[name][1])
    return np.mean(right), len(right)


@pytest.mark.parametrize("leave_out", ["compound", "treatment"])
@pytest.mark.parametrize("seed", range(3))
def test_1nn_of_treatments_equals_a_plain_loop(seed, leave_out):
    profiles = images(seed, biology=0.8)
    score = moa_1nn(evaluation_of(profiles), leave_out)
    value, n = loop_1nn(profiles, leave_out)
    assert (score.value, score.n) == (pytest.approx(value), n)
    assert n == 22
    assert 0 < value < 1


def test_other_doses_of_a_compound_help_where_they_may_be_found():
    # Two doses of a compound alike, compounds of a mechanism not.
    profiles = images(biology=0)
    compound = np.unique(profiles.column("Metadata_Compound").astype(str), return_inverse=True)[1]
    effect = 3 * np.random.default_rng(1).normal(size=(compound.max() + 1, profiles.features.shape[1]))
    evaluation = evaluation_of(changed(profiles, profiles.features + effect[compound]))
    assert moa_1nn(evaluation, "treatment").value > moa_1nn(evaluation, "compound").value + 0.5


def test_treatments_alone_in_their_mechanism_count_as_wrong_and_are_named():
    score = moa_1nn(evaluation_of(images(biology=8)))
    assert score.n == 22
    assert score.value <= 20 / 22
    # c0's two doses have a mechanism of their own; so has what is left of the mechanisms of c0 and c10.
    assert score.reason == "6 of 22 treatments count as wrong: no other compound has their mechanism"
    assert "2 of" not in moa_1nn(evaluation_of(images(biology=8)), "treatment").reason


def test_plates_without_controls_are_left_out_and_counted():
    profiles = images(biology=2)
    control = profiles.column("Metadata_Control").copy()
    bare = (profiles.column("Metadata_Plate") == "p2") & (control == "negcon")
    control[np.flatnonzero(bare)[1:]] = "trt"
    score = moa_1nn(evaluation_of(changed(profiles, Metadata_Control=control)))
    assert score.reason.endswith("22 of 66 wells left out: fewer than two negative controls on their plate")
    with pytest.raises(NotApplicable, match="no plate with treated wells has two negative controls"):
        moa_1nn(evaluation_of(changed(profiles, Metadata_Control="trt")))
    with pytest.raises(NotApplicable, match="no treated well has a known mechanism"):
        moa_1nn(evaluation_of(changed(profiles, Metadata_MoA=None)))
    with pytest.raises(NotApplicable, match="test split is empty"):
        moa_1nn(evaluation_of(changed(profiles, Metadata_Split="train")))
