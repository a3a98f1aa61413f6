"""A whole run of networks trained on profiles, at scale tiny: stages, a hidden source, what a change reruns."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from morphobench.profiles import read_profiles

from .conftest import fresh
from .test_dryrun import rules_planned

pytestmark = pytest.mark.slow

TABLE = "cellpaintr_hidden_source"
TINY = ("--config", "scale=tiny", "seeds=[0]", f"tables=[{TABLE}]")
FOLD = "seed0/fold0"
STAGES = ("cellpaintr_source_1", "cellpaintr_source_2", "cellpaintr_source_3", "cellpaintr_source")


@pytest.fixture(scope="module")
def made(tmp_path_factory, root):
    """A copy in which CellPainTR is trained without one source; tests copy it before they spoil it."""
    copy = fresh(tmp_path_factory.mktemp("networks") / "checkout", root)
    copy.snakemake("--cores", "2", *TINY, "--", TABLE)
    return copy


def folder(copy, method):
    return copy.path / f"results/tiny/cpg0016/{method}/{FOLD}"


def facts(copy, method):
    return json.loads((folder(copy, method) / "model" / "model.json").read_text())


def test_the_table_is_complete(made):
    frame = pd.read_csv(made.path / f"results/tiny/tables/{TABLE}.csv").set_index("row")
    # A source has one batch at this scale: among its wells there is nothing to mix.
    alone = ["silhouette_batch_test", "batch_classifier_control_test", "batch_classifier_nocontrol_test"]
    alone = frame["metric"].isin([*alone, "aggregate_batch_test", "aggregate_overall_test"])
    wrong = frame[frame["status"] != np.where(alone, "not_applicable", "ok")]
    assert wrong.empty, wrong[["column", "status"]].to_string()
    assert {"Baseline", "CellPainTR", "Perfect embedding"} <= set(frame.index)
    # The paper's fourteen columns, and how the new source fits in with the known ones.
    paper = pd.read_csv(made.path / "specs/published/cellpaintr-table1.csv")
    assert set(paper["column"]) <= set(frame.loc["CellPainTR", "column"])
    score = frame.loc["CellPainTR"].set_index("metric").loc["held_out_control"]
    assert 0 <= score["measured_mean"] <= 1
    assert score["measured_n"] == 1
    accuracy = frame[frame["metric"] == "knn_accuracy"]["measured_mean"]
    assert accuracy["Perfect embedding"] == 1
    assert accuracy["Random embedding"] < 0.6


def test_one_source_is_never_trained_on_and_gets_a_token(made):
    sources = [facts(made, stage)["sources"] for stage in STAGES]
    assert [len(known) for known in sources] == [2, 2, 2, 3]
    assert sources[3][:2] == sources[0]
    new = sources[3][2]
    embedding = read_profiles(folder(made, "cellpaintr_source") / "embedding.parquet").metadata
    test = embedding["Metadata_Split"] == "test"
    assert set(embedding.loc[test, "Metadata_Source"]) == {new}
    assert set(embedding.loc[~test, "Metadata_Source"]) == set(sources[0])
    for stage in STAGES[:3]:
        assert facts(made, stage)["data"]["sources"] == sources[0]
    assert facts(made, "cellpaintr_source")["data"]["sources"] == [new]
    before, after = (load_file(folder(made, s) / "model/encoder.safetensors") for s in STAGES[2:])
    assert {k for k in before if before[k].shape != after[k].shape} == {"sources.added"}
    assert all(np.array_equal(before[k], after[k]) for k in before if k != "sources.added")
    # Fitted, not left where it started: at the mean of the others.
    start = before["sources.known"].numpy().mean(axis=0)
    assert np.abs(after["sources.added"].numpy()[0] - start).max() > 1e-4


def test_what_stands_beside_it_is_judged_on_the_same_wells(made):
    key = ["Metadata_Plate", "Metadata_Well"]
    tables = [
        read_profiles(folder(made, method) / "embedding.parquet").metadata.set_index(key)["Metadata_Split"]
        for method in ("cellpaintr_source", "cellprofiler_hidden_source", "perfect_hidden_source")
    ]
    for other in tables[1:]:
        pd.testing.assert_series_equal(tables[0].sort_index(), other.sort_index())


def test_only_chosen_wells_are_evaluated_and_all_are_trained_on(made):
    prepared = made.path / "results/tiny/cpg0016/prepared"
    model, plain = (read_profiles(prepared / f"{name}.parquet") for name in ("model_profiles", "profiles"))
    pd.testing.assert_frame_equal(model.metadata, plain.metadata)
    assert len(model.names) > len(plain.names)
    known = model.metadata["Metadata_Control"].isin(["negcon", "poscon"]) | model.metadata["Metadata_MoA"].notna()
    embedding = read_profiles(folder(made, "cellpaintr_source") / "embedding.parquet")
    assert len(embedding) == known.sum() < len(model)
    assert embedding.provenance["evaluated_wells"] == "curated"
    first, second = (facts(made, stage)["data"] for stage in STAGES[:2])
    assert (first["wells"], second["wells"]) == ("all", "curated")
    assert first["trained_on"] > second["trained_on"]


def test_a_second_run_has_nothing_to_do(made):
    result = made.snakemake("-n", *TINY, "--", TABLE)
    assert "Nothing to be done" in result.stdout + result.stderr


def test_a_changed_stage_trains_itself_and_those_after_it(made, tmp_path):
    copy = made.copy(tmp_path / "checkout")
    copy.edit("specs/methods/cellpaintr_2.yaml", "contrast: {value: 1.0", "contrast: {value: 0.5")
    planned = rules_planned(copy.snakemake("-n", *TINY, "--", TABLE).stdout)
    # The tokens' own contrast is 0, but they start from the third stage.
    assert planned["train_network"] == 3
    assert "prepare_model" not in planned
    assert "embed" not in planned


def test_a_failed_stage_is_the_reason_that_the_table_gives(made, tmp_path):
    copy = made.copy(tmp_path / "checkout")
    epochs = "      epochs: {value: 2, source: guess}\n"
    rate = "      learning_rate: {value: 1.0e+30, source: guess}\n"
    copy.edit("specs/methods/cellpaintr_2.yaml", epochs, epochs + rate)
    copy.snakemake("--cores", "2", *TINY, "--", TABLE, check=False)
    frame = pd.read_csv(copy.path / f"results/tiny/tables/{TABLE}.csv").set_index("row")
    assert set(frame.loc["CellPainTR", "status"]) == {"failed"}
    assert "failed" not in set(frame.loc["Baseline", "status"])
    status = pd.read_csv(copy.path / f"results/tiny/tables/{TABLE}.status.csv").set_index("row")
    assert (
        status.loc["CellPainTR"].astype(str).apply(lambda c: c.str.contains("cellpaintr_source_")).any(axis=None)
    )


def test_the_documented_use_of_a_model(made, root, tmp_path, monkeypatch, capsys):
    page = (root / "docs" / "cellpaintr.md").read_text()
    block = re.search(r"```python\n(.*?)```", page, re.S).group(1)
    table = pd.read_parquet(made.path / "results/tiny/cpg0016/prepared/model_profiles.parquet")
    known = facts(made, "cellpaintr_source_3")["sources"]
    table = table[table["Metadata_Source"].isin(known)].reset_index(drop=True)
    features = [c for c in table if not c.startswith("Metadata_")]
    table[features] = 3 * table[features] + 7
    table.loc[4, features[0]] = np.nan
    # Columns in another order, and one that is missing.
    table = table[[*reversed(features[1:]), *(c for c in table if c.startswith("Metadata_")), features[0]]]
    table.drop(columns=features[3]).to_parquet(tmp_path / "my_raw_profiles.parquet")
    monkeypatch.chdir(tmp_path)
    block = block.replace(
        "results/full/cpg0016/cellpaintr/", f"{made.path}/results/tiny/cpg0016/cellpaintr_source_3/"
    )
    names = {}
    exec(block, names)
    assert len(names["embedding"]) == len(table)
    assert names["embedding"].provenance["absent_features"] == [features[3]]
    assert str(tuple(known)) in capsys.readouterr().out
