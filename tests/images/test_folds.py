"""Folds against the published tables, and what must hold for all of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.errors import DataError, SpecError
from morphobench.images.folds import assign_folds

# CDCL, authors' code: first and last experiment of each part; parts may go round.
CDCL_HUVEC = [
    ("0-15", "16-19", "20-23"),
    ("4-19", "20-23", "0-3"),
    ("8-23", "0-3", "4-7"),
    ("12-23,0-3", "4-7", "8-11"),
    ("16-23,0-7", "8-11", "12-15"),
    ("20-23,0-11", "12-15", "16-19"),
]
CDCL_CPG0004 = [("123", "4", "5"), ("234", "5", "1"), ("345", "1", "2"), ("145", "2", "3"), ("125", "3", "4")]
HUVEC = {"kind": "rotate_groups", "by": "Metadata_Batch", "train": 16, "val": 4, "test": 4, "step": 4}


def numbers(text: str) -> set[int]:
    ends = [part.split("-") for part in text.split(",")]
    return {i for first, last in ends for i in range(int(first), int(last) + 1)}


def screen(batches=6, plates=2, wells=8, sites=2) -> pd.DataFrame:
    rows = [
        (
            f"HUVEC-{b + 1:02d}",
            f"HUVEC-{b + 1:02d}_{p}",
            f"{'ABCDEFGHIJ'[w // 4]}{w % 4 + 1:02d}",
            str(s),
            w % 4 == 0,
        )
        for b in range(batches)
        for p in range(plates)
        for w in range(wells)
        for s in range(sites)
    ]
    frame = pd.DataFrame(rows, columns=[f"Metadata_{c}" for c in ("Batch", "Plate", "Well", "Site", "Control")])
    frame["Metadata_Control"] = np.where(frame["Metadata_Control"], "negcon", "trt")
    return frame.assign(Metadata_Unit=frame["Metadata_Plate"], Metadata_Split="test")


def test_the_six_folds_of_rxrx1():
    samples = screen(24, 1, 2, 1)
    folds = assign_folds(samples, HUVEC)
    assert list(folds) == [f"fold{k}" for k in range(6)]
    experiment = samples["Metadata_Batch"].str[-2:].astype(int) - 1
    for k, parts in enumerate(CDCL_HUVEC):
        for split, text in zip(("train", "val", "test"), parts, strict=True):
            assert set(experiment[folds[f"fold{k}"] == split]) == numbers(text)


def test_the_five_folds_of_cpg0004():
    samples = screen(5, 2)
    samples["Metadata_Replicate"] = samples["Metadata_Batch"].str[-2:].astype(float)
    # Controls may say nothing or nonsense; one treated well out of six differs, the median does not.
    samples.loc[samples["Metadata_Control"] == "negcon", "Metadata_Replicate"] = np.nan
    samples.loc[samples["Metadata_Well"] == "A02", "Metadata_Replicate"] = 9
    folds = assign_folds(samples, {"kind": "replicates"})
    replicate = samples["Metadata_Batch"].str[-1]
    for k, parts in enumerate(CDCL_CPG0004):
        for split, text in zip(("train", "val", "test"), parts, strict=True):
            assert set(replicate[folds[f"fold{k}"] == split]) == set(text)
    assert folds.shape == (len(samples), 5)


def test_plates_of_controls_only_or_without_a_number():
    samples = screen(6, 1)
    samples["Metadata_Replicate"] = samples["Metadata_Batch"].str[-2:].astype(float)
    last = samples["Metadata_Batch"] == "HUVEC-06"
    samples.loc[last, "Metadata_Replicate"] = np.nan
    assert set(assign_folds(samples, {"kind": "replicates"})[last.to_numpy()].to_numpy().ravel()) == {"unused"}
    samples.loc[last, ["Metadata_Replicate", "Metadata_Control"]] = (5, "negcon")
    folds = assign_folds(samples, {"kind": "replicates"})
    assert set(folds.loc[last.to_numpy(), "fold0"]) == {"test"}


def test_a_demo_of_six_batches():
    folds = assign_folds(screen(6), {**HUVEC, "train": 4, "val": 1, "test": 1, "step": 1})
    assert folds.shape[1] == 6
    for column in folds:
        assert folds[column].value_counts().to_dict() == {"train": 128, "val": 32, "test": 32}


@settings(deadline=None, max_examples=40)
@given(
    batches=st.integers(1, 8),
    parts=st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 3)),
    step=st.integers(1, 3),
    folds=st.none() | st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_rotations_split_whole_groups_whatever_the_order(batches, parts, step, folds, seed):
    samples = screen(batches, 2, 4, 1)
    spec = {"kind": "rotate_groups", "by": "Metadata_Batch", "step": step, "folds": folds}
    spec |= dict(zip(("train", "val", "test"), parts, strict=True))
    if sum(parts) > batches:
        with pytest.raises(DataError, match=f"folds need {sum(parts)} values of Metadata_Batch .* have {batches}"):
            assign_folds(samples, spec)
        return
    result = assign_folds(samples, spec)
    for column in result:
        of_batch = result[column].groupby(samples["Metadata_Batch"]).unique()
        assert (of_batch.map(len) == 1).all()
        counts = of_batch.map(lambda v: v[0]).value_counts()
        assert tuple(counts.get(s, 0) for s in ("train", "val", "test")) == parts
    order = np.random.default_rng(seed).permutation(len(samples))
    shuffled = assign_folds(samples.iloc[order], spec)
    pd.testing.assert_frame_equal(shuffled, result.iloc[order].reset_index(drop=True))


@settings(deadline=None, max_examples=25)
@given(
    train=st.floats(0.1, 0.9),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
    stratify=st.sampled_from([None, "Metadata_Control"]),
)
def test_random_folds(train, share, seed, stratify):
    val = (1 - train) * share
    spec = {"kind": "random", "train": train, "val": val, "seed": seed, "stratify": stratify, "folds": 2}
    samples = screen(3, 1, 40)
    result = assign_folds(samples, spec)
    assert result.isin(["train", "val", "test"]).all(axis=None)
    block = samples["Metadata_Unit"] + (samples[stratify] if stratify else "")
    for column in result:
        for name, size in block.value_counts().items():
            # Exact within each unit and stratum, up to one sample.
            found = (result[column][block == name] == "train").sum()
            assert abs(found - train * size) <= 1
    order = np.random.default_rng(seed).permutation(len(samples))
    pd.testing.assert_frame_equal(
        assign_folds(samples.iloc[order], spec), result.iloc[order].reset_index(drop=True)
    )
    fewer = samples["Metadata_Unit"] != "HUVEC-02_0"
    pd.testing.assert_frame_equal(assign_folds(samples[fewer], spec), result[fewer].reset_index(drop=True))


def test_random_folds_depend_on_seed_and_fold_and_not_on_the_type_of_a_number():
    spec = {"kind": "random", "train": 0.5, "val": 0.5}
    samples = screen(2).assign(Metadata_Cell=np.arange(64))
    first = assign_folds(samples, {**spec, "folds": 2})
    assert (first["fold0"] != first["fold1"]).any()
    assert (first["fold0"] != assign_folds(samples, {**spec, "seed": 1})["fold0"]).any()
    floats = samples.assign(Metadata_Cell=np.arange(64.0), Metadata_Time=np.nan)
    without = samples.assign(Metadata_Time=None)
    pd.testing.assert_frame_equal(assign_folds(floats, spec), assign_folds(without, spec))
    assert "test" not in set(first.to_numpy().ravel())


def test_random_assignment_is_fixed_for_all_time():
    """Splits of stores made with different versions must agree: these letters may never change."""
    expected = "tr tr va tr va te te tr te tr va te tr tr va tr"
    folds = assign_folds(screen(2, 1, 8, 1), {"kind": "random", "train": 0.5, "val": 0.25, "seed": 3})
    assert "".join(v[:2] + " " for v in folds["fold0"]).split() == expected.split()


def test_many_small_units_still_get_their_share():
    samples = screen(1, 400, 1, 1)
    counts = assign_folds(samples, {"kind": "random", "train": 0.9, "val": 0.1})["fold0"].value_counts()
    assert 20 <= counts["val"] <= 65


def test_without_a_spec_the_split_of_the_samples_is_the_only_fold():
    assert set(assign_folds(screen(1), None)["fold0"]) == {"test"}


def test_groups_are_sorted_as_people_count():
    samples = screen(1, 1, 12, 1)
    samples["Metadata_Batch"] = [f"week {i}" for i in range(1, 13)]
    folds = assign_folds(samples, {**HUVEC, "train": 9, "val": 2, "test": 1, "step": 1})
    assert folds["fold0"].tolist() == ["train"] * 9 + ["val"] * 2 + ["test"]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"kind": "rotate"}, "kind is 'rotate', expected one of rotate_groups, replicates, random"),
        (
            {"kind": "rotate_groups", "by": "x", "train": 1, "val": 1},
            "key 'test' of kind rotate_groups is missing",
        ),
        ({"kind": "random", "train": 1, "val": 0, "sead": 1}, "key 'sead' of kind random is unknown"),
        ({"kind": "random", "train": 0.9, "val": 0.3}, "do not add up to 1"),
        ({"kind": "replicates", "step": 0}, "step is 0, expected a whole number, 1 or more"),
        ({"kind": "replicates", "train": 0.5}, "train is 0.5, expected a whole number of groups"),
    ],
)
def test_bad_specs(spec, message):
    with pytest.raises(SpecError, match=message):
        assign_folds(screen(2), spec)


def test_a_missing_column():
    with pytest.raises(DataError, match="folds need column Metadata_Replicate"):
        assign_folds(screen(2), {"kind": "replicates"})
