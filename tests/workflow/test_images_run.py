"""Whole runs of methods that are trained on images, at scale tiny: models, tables, claims, failures, resuming."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from morphobench.learning.model import read_trained
from morphobench.profiles import read_profiles

from .conftest import fresh
from .test_dryrun import rules_planned

pytestmark = pytest.mark.slow

TABLES = ("cdcl_table2a", "cdcl_table3")
TINY = ("--config", "scale=tiny", "seeds=[0]", f"tables=[{','.join(TABLES)}]")
FOLD = "seed0/fold0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, root):
    """A copy in which two tables of trained methods are made; tests copy it before they spoil it."""
    made = fresh(tmp_path_factory.mktemp("trained") / "checkout", root)
    made.snakemake("--cores", "2", *TINY, "--", "tables")
    return made


def read(checkout, table):
    return pd.read_csv(checkout.path / f"results/tiny/tables/{table}.csv")


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_complete(trained, table):
    frame = read(trained, table)
    constant = frame["row"].str.startswith("Constant")
    # No control has a probe that was trained with it, and a corrected one has lost its own.
    bare = frame["metric"].eq("linear_online") & ~frame["row"].str.startswith("SSL")
    # One batch to test on at this scale: nothing to mix.
    alone = frame["metric"].eq("kbet_test")
    expected = np.select([constant, bare | alone], ["collapsed", "not_applicable"], "ok")
    wrong = frame[frame["status"] != expected]
    assert wrong.empty, wrong[["row", "setting", "column", "status"]].to_string()
    published = frame[frame["published_mean"].notna() & (frame["status"] == "ok")]
    assert len(published) >= 6
    assert set(published["unit"]) == {"percent"}
    assert published["measured_mean"].between(0, 100).all()


def test_controls_bound_the_methods(trained):
    frame = read(trained, "cdcl_table3").set_index(["column", "row"])["measured_mean"]
    accuracy = frame["k-NN Accuracy"]
    assert accuracy.max() == accuracy["Perfect"] == 100


def test_a_model_has_what_is_needed_elsewhere(trained):
    folder = trained.path / f"results/tiny/rxrx1_huvec/dino_bl/{FOLD}/model"
    names = {"encoder.safetensors", "head.safetensors", "normalisation.parquet", "losses.csv", "losses.png"}
    assert names <= {p.name for p in folder.iterdir()}
    facts = json.loads((folder / "model.json").read_text())
    assert facts["spec"]["id"] == "dino_bl"
    assert facts["spec"]["parameters"]["barlow_weight"]["value"] == 1
    assert {"torch", "timm", "python"} <= set(facts["versions"])
    profiles = read_profiles(folder.parent / "embedding.parquet")
    assert set(profiles.metadata["Metadata_Split"]) == {"train", "val", "test"}
    assert profiles.provenance["model"] == facts["digest"]
    # The head beside the encoder is what predicted the column of the profiles.
    assert (read_trained(folder).predict(profiles.features) == profiles.column("Metadata_ProbePrediction")).all()


def test_fine_tuning_starts_from_the_model_it_names(trained):
    where = trained.path / "results/tiny/cpg0004"
    tuned = json.loads((where / f"cdcl_moa/{FOLD}/model/model.json").read_text())
    assert tuned["configuration"]["start"]
    first = read_trained(where / f"cdcl/{FOLD}/model").weights
    other = read_trained(where / f"supervised/{FOLD}/model").weights
    last = read_trained(where / f"cdcl_moa/{FOLD}/model").weights

    def distance(a, b):
        return sum(float((a[k] - b[k]).square().sum()) for k in a)

    assert 0 < distance(first, last) < distance(other, last)


def test_claims_are_judged_where_their_tables_are(trained):
    claims = pd.read_csv(trained.path / "results/tiny/tables/claims.csv").set_index("claim")
    assert set(claims.loc[["cdcl-11", "cdcl-12"], "verdict"]) <= {"holds", "does not hold", "within noise"}
    assert claims.loc["cdcl-03", "verdict"] == "not measured"
    text = (trained.path / "results/tiny/tables/claims.md").read_text()
    assert "claims measured" in text


def test_a_second_run_has_nothing_to_do(trained):
    result = trained.snakemake("-n", *TINY, "--", "tables")
    assert "Nothing to be done" in result.stdout + result.stderr


def test_a_changed_spec_trains_what_depends_on_it_and_nothing_else(trained, tmp_path):
    copy = trained.copy(tmp_path / "copy")
    copy.edit("specs/methods/cdcl.yaml", "dino_weight: {value: 0.25", "dino_weight: {value: 0.5")
    planned = rules_planned(copy.snakemake("-n", *TINY, "--", "tables").stdout)
    # The model of Table 2a and what is fine-tuned from it.
    assert planned["train"] == 2
    assert planned["evaluate"] == 2
    assert planned["render_table"] == 1


def test_a_lost_embedding_is_made_again_without_training(trained, tmp_path):
    copy = trained.copy(tmp_path / "copy")
    path = f"results/tiny/rxrx1_huvec/byol_bl/{FOLD}/embedding.parquet"
    lost = copy.path / path
    before = read_profiles(lost)
    lost.unlink()
    copy.snakemake("--cores", "2", *TINY, "--", path)
    log = (copy.path / f"results/tiny/logs/train/rxrx1_huvec/byol_bl/{FOLD}.log").read_text()
    assert "resuming after epoch 1 of 1" in log
    np.testing.assert_array_equal(read_profiles(lost).features, before.features)


def test_a_diverging_training_leaves_its_cells_with_the_reason(trained, tmp_path):
    copy = trained.copy(tmp_path / "copy")
    shutil.rmtree(copy.path / "results/tiny/checkpoints/rxrx1_huvec/byol_bl")
    planted = "scales:\n  tiny:\n    parameters:\n      learning_rate: {value: 1.0e+30, source: guess}\n"
    copy.edit("specs/methods/byol_bl.yaml", "scales:\n", planted)
    result = copy.snakemake("--cores", "2", *TINY, "--", "cdcl_table3", check=False)
    log = f"results/tiny/logs/train/rxrx1_huvec/byol_bl/{FOLD}.log"
    assert log in result.stdout + result.stderr
    frame = read(copy, "cdcl_table3").set_index("row")
    assert set(frame.loc["SSL-BYOL-BL", "status"]) == {"failed"}
    assert "ok" in set(frame.loc["SSL-DINO-BL", "status"])
    status = pd.read_csv(copy.path / "results/tiny/tables/cdcl_table3.status.csv").set_index("row")
    reason = status.loc["SSL-BYOL-BL", "reason"]
    assert reason.str.contains(r"loss is nan at step \d of \d .* learning rate [\d.]+e\+29").all(), reason.iloc[0]


def test_weights_are_fetched_once_or_are_ones_own(checkout, tmp_path):
    address = "dl.fbaipublicfiles.com/deit/deit_small_patch16_224-cd65a155.pth"
    mirror, own = tmp_path / "mirror", tmp_path / "own.pth"
    (mirror / address).parent.mkdir(parents=True)
    for path in (mirror / address, own):
        torch.save({"model": {"cls_token": torch.zeros(1, 1, 384)}}, path)
    rule, model = "fetch_weights_deit_small_patch16_224", f"results/full/rxrx1_huvec/cdcl/{FOLD}/model/model.json"

    def planned(*config):
        found = rules_planned(checkout.snakemake("-n", "--config", "scale=full", *config, "--", model).stdout)
        assert found["train_gpu"] == 1
        return found

    assert planned()[rule] == 1
    assert rule not in planned(f"weights={{deit_small_patch16_224: {own}}}")
    run = ("--config", "scale=full", f"mirror={mirror}", "--", f"data/raw/{address}")
    checkout.snakemake("--cores", "1", *run)
    assert (checkout.path / "data/raw" / address).read_bytes() == (mirror / address).read_bytes()
    assert rule not in planned()
