import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from morphobench.errors import DataError, SpecError
from morphobench.learning.runs import DivergedError
from morphobench.profilenets import history
from morphobench.profilenets import recipe as recipes
from morphobench.profilenets.data import ProfileData
from morphobench.profilenets.profile_method import build_recipe, content_of
from morphobench.profilenets.recipe import CellPainTRRecipe
from morphobench.profilenets.trained import read_network
from morphobench.profiles import Profiles, check_profiles, write_profiles

from .trainings import CPU, PARAMETERS, STAGE, recipe, structured

ORDER = (1, 2, 3, "tokens")
SPEC = {"id": "cellpaintr", "parameters": {}}


@pytest.fixture(scope="module")
def profiles():
    return structured()


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """A picture takes longer than a training here; the tests of stages look at one."""
    monkeypatch.setattr(history, "draw", lambda table, path: path.write_bytes(b"picture"))


def made(profiles, folder, stage=1, start=None, checkpoints=None, configuration=SPEC, **changes):
    keywords = {"configuration": configuration, "start": start, "hardware": CPU}
    return recipe(stage, **changes).train(profiles, folder, checkpoints or folder / "kept", **keywords)


@pytest.fixture(scope="module")
def chain(profiles, tmp_path_factory):
    """The folders of all stages, and the weights that each was handed to train."""
    folder, first, own = tmp_path_factory.mktemp("chain"), {}, recipes.train_stage
    start = None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "draw", lambda table, path: path.write_bytes(b"picture"))
        for stage in ORDER:

            def noted(network, *rest, _stage=stage, **options):
                first[_stage] = {name: value.clone() for name, value in network.state_dict().items()}
                return own(network, *rest, **options)

            patch.setattr(recipes, "train_stage", noted)
            made(profiles, folder / str(stage), stage, start)
            start = folder / str(stage)
    return folder, first


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "encoder.safetensors")


def changed(one, other) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def test_folders_of_models(chain):
    folder, _ = chain
    for stage in ORDER:
        found = {path.name for path in (folder / str(stage)).iterdir()}
        assert found == {"encoder.safetensors", "model.json", "losses.csv", "losses.png", "kept"}
        facts = json.loads((folder / str(stage) / "model.json").read_text())
        assert facts["spec"] == SPEC
        assert facts["method"] == "cellpaintr"
        assert facts["configuration"]["parameters"]["stage"] == stage
        assert facts["selected"] == {"by": "last", "epoch": 2, "score": None}
        assert facts["features"]["names"] == list(structured().names)
        new = ["source_11"] if stage == "tokens" else []
        assert facts["sources"] == ["source_9", "source_10", *new]
        assert facts["data"]["sources"] == (new or ["source_9", "source_10"])
        assert facts["data"]["trained_on"] == (48 if new else 96)
        table = pd.read_csv(folder / str(stage) / "losses.csv")
        assert facts["cost"]["steps"] == table["step"].iloc[-1]
        assert table["epoch"].tolist() == [1, 2]
        assert {"torch", "safetensors", "morphobench"} <= facts["versions"].keys()


def test_each_stage_starts_from_the_weights_of_the_last(chain):
    folder, first = chain
    for last, stage in zip(ORDER[:2], ORDER[1:3], strict=True):
        assert not changed(weights(folder / str(last)), first[stage])
        assert changed(first[stage], weights(folder / str(stage)))
    parent, given = weights(folder / "3"), first["tokens"]
    assert {name for name in parent if not torch.equal(parent[name], given[name])} == {"sources.added"}
    torch.testing.assert_close(given["sources.added"], parent["sources.known"].mean(0, keepdim=True))


def test_the_first_epoch_of_stage_2_trains_source_tokens_only(profiles, chain, tmp_path):
    folder, _ = chain
    made(profiles, tmp_path, 2, folder / "1", epochs=1)
    assert changed(weights(folder / "1"), weights(tmp_path)) == {"sources.known"}


def test_tokens_of_a_held_out_source(profiles, chain, capsys):
    folder, _ = chain
    without = recipe(3).embed(profiles, folder / "3", hardware=CPU)
    assert "not represented, since no token was fitted yet: source_11" in capsys.readouterr().out
    assert without.provenance["sources_left_out"] == ["source_11"]
    kept = profiles.column("Metadata_Source") != "source_11"
    assert without.metadata["Metadata_Well"].tolist() == profiles.metadata.loc[kept, "Metadata_Well"].tolist()
    assert set(without.metadata["Metadata_Split"]) == {"train"}
    before, after = weights(folder / "3"), weights(folder / "tokens")
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"sources.added"}
    found = recipe("tokens").embed(profiles, folder / "tokens", hardware=CPU)
    known = profiles.column("Metadata_Source") != "source_11"
    network = read_network(folder / "3").network()
    values = torch.from_numpy(profiles.features[known])
    source = torch.tensor([["source_9", "source_10"].index(s) for s in profiles.column("Metadata_Source")[known]])
    expected = network.represent(values, torch.zeros_like(values, dtype=torch.bool), source)
    np.testing.assert_allclose(found.features[known], expected, atol=1e-5)
    assert np.isfinite(found.features).all()


def test_a_fitted_token_predicts_its_source_better_than_the_mean_of_the_others(profiles, chain, tmp_path):
    folder, first = chain
    made(profiles, tmp_path, "tokens", folder / "3", epochs=10, learning_rate=3e-2)
    network = read_network(tmp_path).network()
    mine = profiles.column("Metadata_Source") == "source_11"
    values = torch.from_numpy(profiles.features[mine])
    masked = torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 0.2

    def error() -> float:
        with torch.no_grad():
            predicted = network(values, masked, torch.full((len(values),), 2))[1]
        return float((predicted - values)[masked].square().mean())

    fitted = error()
    network.load_state_dict(first["tokens"])
    assert fitted < error()


def test_tokens_are_fitted_without_labels(profiles, chain, tmp_path):
    folder, _ = chain
    order = np.random.default_rng(0).permutation(len(profiles))
    metadata = profiles.metadata.assign(
        Metadata_Perturbation=profiles.column("Metadata_Perturbation")[order], Metadata_MoA=None
    )
    shuffled = Profiles(metadata, profiles.features, profiles.names)
    made(shuffled, tmp_path, "tokens", folder / "3")
    assert not changed(weights(folder / "tokens"), weights(tmp_path))


def test_tokens_for_another_data_set(profiles, tmp_path):
    """No source is known, a feature is absent and one is new."""
    shared = {"split": "prepared", "hidden": [], "unknown": "leave_out"}
    made(profiles, tmp_path / "1", 1, **shared)
    features = np.c_[profiles.features[:, 1:], np.ones(len(profiles), np.float32)]
    metadata = profiles.metadata.assign(Metadata_Source="elsewhere")
    other = Profiles(metadata, features, (*profiles.names[1:], "Nuclei_New"))
    model = made(other, tmp_path / "2", "tokens", tmp_path / "1", **shared)
    assert model.sources.names == ("source_9", "source_10", "source_11", "elsewhere")
    assert model.facts["data"]["absent_features"] == [profiles.names[0]]
    found = recipe("tokens", **shared).embed(other, tmp_path / "2", hardware=CPU)
    values = torch.cat([torch.full((len(other), 1), torch.nan), torch.from_numpy(features[:, :-1])], dim=1)
    expected = model.network().represent(values, torch.isnan(values), torch.full((len(other),), 3))
    np.testing.assert_allclose(found.features, expected, atol=1e-5)
    assert found.provenance["features_left_out"] == ["Nuclei_New"]
    # Another source still, after those.
    third = Profiles(metadata.assign(Metadata_Source="a third"), features, other.names)
    more = made(third, tmp_path / "3", "tokens", tmp_path / "2", **shared)
    assert more.sources.names[-2:] == ("elsewhere", "a third")
    torch.testing.assert_close(more.weights["sources.known"][3:], model.weights["sources.added"])


def test_embedded_profiles(profiles, chain):
    folder, _ = chain
    found = recipe("tokens").embed(profiles, folder / "tokens", hardware=CPU)
    check_profiles(found, "found")
    assert found.features.dtype == np.float32
    assert found.names == tuple(f"cellpaintr_{i:04d}" for i in range(16))
    held_out = profiles.column("Metadata_Source") == "source_11"
    assert found.column("Metadata_Split").tolist() == np.where(held_out, "test", "train").tolist()
    rest = [c for c in profiles.metadata if c != "Metadata_Split"]
    pd.testing.assert_frame_equal(found.metadata[rest], profiles.metadata[rest])
    facts = json.loads((folder / "tokens" / "model.json").read_text())
    assert found.provenance["model"] == facts["digest"]
    assert found.provenance["method"] == "cellpaintr"
    assert found.provenance["method_spec"] == facts["configuration"]["parameters"]
    assert {"seed", "collapsed", "selected"} <= found.provenance.keys()
    order = np.random.default_rng(0).permutation(len(profiles))
    again = recipe("tokens").embed(profiles.rows(order), folder / "tokens", hardware=CPU)
    np.testing.assert_allclose(again.features, found.features[order], atol=1e-5)


def test_a_file_and_a_table_train_the_same(profiles, tmp_path):
    path = tmp_path / "model_profiles.parquet"
    write_profiles(profiles, path)
    made(profiles, tmp_path / "table")
    made(path, tmp_path / "file")
    made(profiles, tmp_path / "other", seed=1)
    assert not changed(weights(tmp_path / "table"), weights(tmp_path / "file"))
    assert changed(weights(tmp_path / "table"), weights(tmp_path / "other"))
    renamed = profiles.metadata.replace({"Metadata_Source": {"source_9": "source_12"}})
    with pytest.raises(DataError, match="source source_12 has no token"):
        recipe().embed(replace(profiles, metadata=renamed), tmp_path / "file", hardware=CPU)


def test_an_interrupted_training_is_gone_on_with(profiles, tmp_path, monkeypatch, capsys):
    made(profiles, tmp_path / "whole")
    own, seen = ProfileData.batches, []

    def batches(self, epoch, first=0):
        seen.append(epoch)
        if epoch == 1:
            raise KeyboardInterrupt
        return own(self, epoch, first)

    with monkeypatch.context() as patch:
        patch.setattr(ProfileData, "batches", batches)
        with pytest.raises(KeyboardInterrupt):
            made(profiles, tmp_path / "first", checkpoints=tmp_path / "kept")
    made(profiles, tmp_path / "second", checkpoints=tmp_path / "kept", configuration={"id": "renamed"})
    assert "resuming" in capsys.readouterr().out
    assert not changed(weights(tmp_path / "whole"), weights(tmp_path / "second"))
    assert not (tmp_path / "first" / "model.json").exists()


def test_a_training_is_known_by_what_determines_it(profiles, chain, tmp_path):
    folder, _ = chain
    other = Profiles(profiles.metadata, profiles.features + np.float32(1e-3), profiles.names)
    relabelled = Profiles(profiles.metadata.assign(Metadata_MoA="x"), profiles.features, profiles.names)
    assert len({content_of(p) for p in (profiles, other, relabelled)}) == 3
    runs = [
        (profiles, {}, {"id": "a"}),
        (profiles, {}, {"id": "b"}),
        (profiles, {}, {"id": "a", "code": "new"}),
        (profiles, {"mask_high": 0.3}, {"id": "a"}),
        (other, {}, {"id": "a"}),
    ]
    for number, (table, changes, configuration) in enumerate(runs):
        options = {"checkpoints": tmp_path / "kept", "configuration": configuration, **changes}
        made(table, tmp_path / str(number), epochs=1, **options)
    assert len(list((tmp_path / "kept").iterdir())) == 4
    starts = [made(profiles, tmp_path / f"s{s}", 3, folder / s, epochs=1).facts["digest"] for s in ("1", "2")]
    assert starts[0] != starts[1]


def test_a_loss_that_is_no_number(profiles, tmp_path):
    with pytest.raises(DivergedError, match=r"step \d+ of .* with learning rate 1e\+35"):
        made(profiles, tmp_path, learning_rate=1e35)
    assert not (tmp_path / "model.json").exists()


def test_models_to_start_from_that_do_not_fit(profiles, chain, tmp_path):
    folder, _ = chain
    (tmp_path / "image").mkdir()
    (tmp_path / "image" / "model.json").write_text('{"method": "dino"}')
    (tmp_path / "image" / "encoder.safetensors").write_bytes(b"")
    cases = [
        (1, folder / "1", {}, SpecError, "is given as the model to start from, expected none"),
        (2, None, {}, SpecError, "none is given as the model to start from, expected that of an earlier stage"),
        (2, folder / "3", {}, DataError, "model of stage 3, expected an earlier one to start 2 from"),
        (2, folder / "2", {}, DataError, "model of stage 2, expected an earlier one to start 2 from"),
        (3, folder / "tokens", {}, DataError, "model of stage tokens, expected an earlier one"),
        (2, folder / "1", {"width": 32}, DataError, "model with width 16, expected 32"),
        (2, folder / "1", {"hidden": ["source_9"]}, DataError, "model with hidden .'source_11'., expected"),
        (2, tmp_path, {}, DataError, "model.json: no such file; expected the folder of a trained model"),
        (2, tmp_path / "image", {}, DataError, "model of method dino, expected one of CellPainTR's stages"),
    ]
    for stage, start, changes, error, message in cases:
        with pytest.raises(error, match=message) as raised:
            made(profiles, tmp_path / "made", stage, start, **changes)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "made").exists()


def test_profiles_that_do_not_fit(profiles, chain, tmp_path):
    folder, _ = chain
    without = Profiles(profiles.metadata.drop(columns="Metadata_Source"), profiles.features, profiles.names)
    known = profiles.rows(profiles.column("Metadata_Source") != "source_11")
    renamed = Profiles(profiles.metadata, profiles.features, (*profiles.names[:-1], "Nuclei_New"))
    cases = [
        ("tokens", known, "has tokens for all of its sources .source_10, source_9."),
        ("tokens", without, "column Metadata_Source, whose values have tokens, is missing"),
        (2, renamed, "1 of 15 features are unknown to the model, the first is Nuclei_New"),
        (2, tmp_path / "none.parquet", "none.parquet: no such file"),
    ]
    for stage, table, message in cases:
        with pytest.raises(DataError, match=message):
            made(table, tmp_path / "made", stage, folder / str(3 if stage == "tokens" else 1))


def test_models_of_another_recipe_do_not_embed(profiles, chain):
    folder, _ = chain
    for changes, message in (
        ({"seed": 1}, "model with seed 0"),
        ({"epochs": 9}, "model with epochs 2, expected 9"),
    ):
        with pytest.raises(DataError, match=message):
            recipe("tokens", **changes).embed(profiles, folder / "tokens", hardware=CPU)


def test_parameters_that_make_no_sense():
    for stage, changes, message in (
        (2, {"composition": "plate", "source_epochs": 3}, "epochs is 2, source_epochs 3"),
        ("tokens", {"contrast": 1.0}, "stage tokens uses no labels"),
        (1, {"epochs": 0}, "epochs is 0"),
        (1, {"mask_low": 0.5}, "masking ratio is from 0.5 to 0.4"),
    ):
        with pytest.raises(SpecError, match=message):
            recipe(stage, **changes)
    with pytest.raises(SpecError, match="stage is 4, expected one of 1, 2, 3, tokens"):
        CellPainTRRecipe(**{**PARAMETERS, "stage": 4})


def test_recipes_are_built_from_specs():
    values = {k: v for k, v in {**PARAMETERS, **STAGE[2]}.items() if k != "seed"}
    spec = {
        "id": "cellpaintr_2",
        "class": "morphobench.profilenets.recipe:CellPainTRRecipe",
        "parameters": {k: {"value": v, "source": "paper", "note": ""} for k, v in values.items()},
    }
    assert build_recipe(spec, 5) == recipe(2, seed=5)
    with pytest.raises(SpecError, match="parameters do not fit"):
        build_recipe({**spec, "parameters": {}}, 5)


def test_wells_that_are_evaluated_are_represented_as_among_all(profiles, chain):
    folder, _ = chain
    made_by = recipe("tokens")
    whole = made_by.embed(profiles, folder / "tokens", hardware=CPU)
    part = made_by.embed(profiles, folder / "tokens", wells="curated", hardware=CPU)
    chosen = (profiles.metadata["Metadata_Control"] == "negcon") | profiles.metadata["Metadata_MoA"].notna()
    assert 0 < chosen.sum() < len(profiles)
    expected = whole.rows(chosen.to_numpy())
    pd.testing.assert_frame_equal(part.metadata, expected.metadata)
    np.testing.assert_allclose(part.features, expected.features, atol=1e-5)
    assert (part.provenance["evaluated_wells"], whole.provenance["evaluated_wells"]) == ("curated", "all")
