"""Recipes from a store to profiles: repeated, resumed, started from weights, and what they refuse."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from morphobench.errors import DataError, SpecError
from morphobench.images.store import ImageStore
from morphobench.learning import monitor
from morphobench.learning.augment import MultiCrop
from morphobench.learning.backbones import create_backbone
from morphobench.learning.losses import view_pairs
from morphobench.learning.model import read_trained
from morphobench.learning.recipes import build_recipe
from morphobench.learning.runs import DivergedError, Hardware
from morphobench.profiles import read_profiles, write_profiles
from tests.learning.conftest import make_store
from tests.learning.recipes import CPU, FAMILIES, TRAINED, recipe, train

RESTING = {"learning_rate": 0.0, "minimum_rate": 0.0, "epochs": 1, "drop_path": 0.0}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Drawing takes longer than training; test_train looks at the picture."""
    monkeypatch.setattr(monitor, "draw_losses", lambda table, path: None)


class PullThePlugError(Exception):
    pass


def interrupt(monkeypatch, at):
    """Let the mini-batch number ``at`` fail."""
    make, calls = MultiCrop.__call__, []

    def call(self, batch):
        calls.append(1)
        if len(calls) == at + 1:
            raise PullThePlugError
        return make(self, batch)

    monkeypatch.setattr(MultiCrop, "__call__", call)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def weights_file(path, seed=3, channels=3):
    """Random weights of the tests' backbone as a published file has them."""
    sizes = {"img_size": 16, "patch": 4, "dim": 12, "depth": 2, "heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = create_backbone("deit_tiny_patch16_224", channels, pretrained=None, **sizes).network
        # As initialised, too much is the same whatever the seed.
        weights = {k: torch.randn_like(v) for k, v in network.state_dict().items()}
    save_file({**weights, "head.weight": torch.zeros(5, 12), "head.bias": torch.zeros(5)}, path)
    return weights


def plain(weights):
    return {k.removeprefix("network."): v for k, v in weights.items()}


@pytest.mark.parametrize("name", TRAINED)
def test_a_recipe_trains_embeds_and_resumes_to_the_same_numbers(store, tmp_path, name, monkeypatch, capsys):
    made = recipe(name)
    whole = train(made, store, tmp_path / "a", tmp_path / "c1")
    with monkeypatch.context() as patch:
        interrupt(patch, at=4)
        with pytest.raises(PullThePlugError):
            train(made, store, tmp_path / "b", tmp_path / "c2")
    capsys.readouterr()
    parts = train(made, store, tmp_path / "b", tmp_path / "c2")
    assert "resuming after epoch 1 of 2" in capsys.readouterr().out
    assert equal(parts.weights, whole.weights)
    assert equal(parts.head, whole.head)
    a, b = (made.embed(store, 0, tmp_path / folder, hardware=CPU) for folder in "ab")
    np.testing.assert_array_equal(a.features, b.features)
    assert len(a) == 96
    assert a.features.shape[1] == 12
    assert a.metadata["Metadata_Split"].tolist() == store.folds["fold0"].tolist()
    assert a.metadata["Metadata_Well"].tolist() == store.samples["Metadata_Well"].tolist()
    assert a.provenance["method"] == "tiny"
    assert a.provenance["seed"] == a.provenance["fold"] == 0
    assert a.provenance["method_spec"]["learning_rate"] == 1e-3
    assert a.provenance["collapsed"] is False
    assert a.provenance["model"] == whole.facts["digest"]
    assert not equal(train(recipe(name, seed=1), store, tmp_path / "d", tmp_path / "c3").weights, whole.weights)
    write_profiles(a, tmp_path / "profiles.parquet")
    assert read_profiles(tmp_path / "profiles.parquet").metadata.equals(a.metadata)


@pytest.mark.parametrize("name", ["supervised", "cdcl", "byol_cb"])
def test_predictions_are_the_heads_by_hand(store, tmp_path, name):
    made = recipe(name, epochs=1)
    train(made, store, tmp_path / "a", tmp_path / "c")
    first = made.embed(store, 0, tmp_path / "a", hardware=CPU)
    assert set(first.metadata["Metadata_ProbePrediction"]) <= set(store.samples["Metadata_Perturbation"])
    # After three steps all images are of one class; another head of the same shape tells more.
    path = tmp_path / "a" / "head.safetensors"
    shapes = {key: value.shape for key, value in load_file(path).items()}
    assert shapes == {"weight": (4, 12), "bias": (4,)}
    weight = torch.randn(4, 12, generator=torch.Generator().manual_seed(0))
    head = {"weight": weight, "bias": -weight @ torch.from_numpy(first.features.mean(axis=0))}
    save_file(head, path)
    profiles = made.embed(store, 0, tmp_path / "a", hardware=CPU)
    names = json.loads((tmp_path / "a" / "model.json").read_text())["classes"]
    assert names == ["EMPTY", "s1", "s2", "s3"]
    expected = []
    for row in profiles.features.astype(np.float64):
        scores = head["weight"].double().numpy() @ row + head["bias"].double().numpy()
        expected.append(names[int(np.argmax(scores))])
    assert profiles.metadata["Metadata_ProbePrediction"].tolist() == expected
    assert len(set(expected)) == 4


def test_the_head_is_of_the_selected_epoch(store, tmp_path, monkeypatch):
    seen, judge, scores = [], monitor.Monitor._judge, iter([0.1, 0.9, 0.5])

    def watched(self, trainer, module, *rest):
        judge(self, trainer, module, *rest)
        seen.append([{k: v.clone() for k, v in m.state_dict().items()} for m in (module.encoder, module.probe)])

    def predicted(bank, labels, queries):
        # Right for a share of the queries that rises and falls: the second epoch is the best.
        right = labels_of_val[: math.ceil(next(scores) * len(queries))]
        return np.r_[right, np.full(len(queries) - len(right), -7)]

    made = recipe("dino", epochs=3)
    data = made.data(store, 0)
    labels_of_val = data.labels[data.split_rows["val"]]
    monkeypatch.setattr(monitor.Monitor, "_judge", watched)
    monkeypatch.setattr(monitor, "knn_predictions", predicted)
    trained = train(made, store, tmp_path / "a", tmp_path / "c")
    assert trained.facts["selected"]["epoch"] == 2
    assert equal(trained.weights, seen[1][0])
    assert equal(trained.head, seen[1][1])
    assert not equal(trained.head, seen[2][1])


def test_without_a_probe_there_is_no_column(store, tmp_path):
    made = recipe("dino", probe_rate=None, epochs=1)
    # A head of an earlier training in the same folder must not be taken for this one's.
    train(recipe("dino", epochs=1), store, tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "a" / "head.safetensors").exists()
    assert train(made, store, tmp_path / "a", tmp_path / "c").head is None
    assert not (tmp_path / "a" / "head.safetensors").exists()
    assert "Metadata_ProbePrediction" not in made.embed(store, 0, tmp_path / "a", hardware=CPU).metadata


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_are_those_of_the_file(store, tmp_path, name):
    expected = weights_file(tmp_path / "w.safetensors")
    made = recipe(name, **({} if name == "untrained" else RESTING))
    trained = train(made, store, tmp_path / "a", tmp_path / "c", weights=tmp_path / "w.safetensors")
    # The rate is 0, so what training leaves is what it began with.
    assert equal(plain(trained.weights), expected)
    again = train(made, store, tmp_path / "b", tmp_path / "c")
    assert not equal(plain(again.weights), expected)
    assert again.facts["digest"] != trained.facts["digest"]


@pytest.mark.parametrize("name", TRAINED)
def test_start_is_another_models_encoder(store, tmp_path, name):
    begun = train(recipe("dino", epochs=1), store, tmp_path / "dino", tmp_path / "c")
    made = recipe(name, **RESTING, seed=8)
    trained = train(made, store, tmp_path / "a", tmp_path / "c", start=tmp_path / "dino")
    assert equal(trained.weights, begun.weights)


def test_start_fills_student_and_teacher(store, tmp_path):
    expected = weights_file(tmp_path / "w.safetensors")
    for name in ("cdcl", "byol_cb"):
        made = recipe(name)
        data = made.data(store, 0)
        module = made.module(data, {**made.network(store), "pretrained": tmp_path / "w.safetensors"})
        for part in (module.student, module.teacher):
            assert equal(part.backbone.network.state_dict(), expected)


def test_untrained_is_the_network_itself(store, tmp_path):
    made = recipe("untrained")
    trained = train(made, store, tmp_path / "a", tmp_path / "c")
    assert {f.name for f in (tmp_path / "a").iterdir()} == {
        "encoder.safetensors",
        "model.json",
        "normalisation.parquet",
    }
    assert not (tmp_path / "c").exists()
    facts = trained.facts
    assert facts["cost"]["parameters"] == facts["cost"]["steps"] == facts["selected"]["epoch"] == 0
    assert facts["cost"]["encoder_parameters"] == sum(v.numel() for v in trained.weights.values())
    profiles = made.embed(store, 0, tmp_path / "a", hardware=CPU)
    assert "Metadata_ProbePrediction" not in profiles.metadata
    assert equal(train(made, store, tmp_path / "b", tmp_path / "c").weights, trained.weights)
    assert not equal(
        train(recipe("untrained", seed=1), store, tmp_path / "d", tmp_path / "c").weights, trained.weights
    )


def test_a_model_is_used_without_its_recipe(store, tmp_path):
    made = recipe("cdcl", epochs=1)
    train(made, store, tmp_path / "a", tmp_path / "c")
    model = read_trained(tmp_path / "a")
    rows = np.array([0, 40, 95])
    plates = torch.from_numpy(model.normalisation.codes(store.samples["Metadata_Plate"].iloc[rows].tolist()))
    features = model.encoder()(model.view()(torch.from_numpy(store.take(rows)), plates)).numpy()
    profiles = made.embed(store, 0, tmp_path / "a", hardware=CPU)
    np.testing.assert_allclose(features, profiles.features[rows], rtol=1e-4, atol=1e-5)
    assert model.predict(features).tolist() == profiles.metadata["Metadata_ProbePrediction"].iloc[rows].tolist()


def test_the_example_of_the_docs_works(store, tmp_path, root, capsys):
    train(recipe("cdcl", epochs=1), store, tmp_path / "model", tmp_path / "c")
    text = (root / "docs" / "methods.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    places = {"model": tmp_path / "model", "store": store.folder}
    for name, place in places.items():
        (line,) = (row for row in example.splitlines() if row.startswith(f"{name} = "))
        example = example.replace(line, line.split('"')[0] + f'"{place}")')
    capsys.readouterr()
    exec(compile(example, "docs/methods.md", "exec"), {})
    assert "torch.Size([4, 12]) [" in capsys.readouterr().out


def test_fine_tuning_on_mechanisms(store, tmp_path, monkeypatch):
    samples = store.samples.copy()
    mechanisms = {"s1": "x", "s2": "x", "s3": "y"}
    samples["Metadata_MoA"] = samples["Metadata_Perturbation"].map(mechanisms)
    labelled = ImageStore(store.folder)
    monkeypatch.setitem(labelled.__dict__, "samples", samples)
    train(recipe("untrained"), labelled, tmp_path / "start", tmp_path / "c")
    made = recipe("supervised", label="Metadata_MoA", unlabelled=True, epochs=1)
    trained = train(made, labelled, tmp_path / "a", tmp_path / "c", start=tmp_path / "start")
    assert trained.facts["classes"] == ["x", "y"]
    assert trained.facts["data"]["without_label"] == 12
    profiles = made.embed(labelled, 0, tmp_path / "a", hardware=CPU)
    assert len(profiles) == 96
    assert set(profiles.metadata["Metadata_ProbePrediction"]) <= {"x", "y"}
    with pytest.raises(DataError, match="column Metadata_MoA is empty in sample 0"):
        train(recipe("supervised", label="Metadata_MoA"), labelled, tmp_path / "b", tmp_path / "c")


def test_a_training_is_known_by_what_determines_it(store, tmp_path):
    made, labels = recipe("supervised", epochs=1), ({"id": "a"}, {"id": "b", "resources": {"mem_mb": 1}})
    first, again = (
        train(made, store, tmp_path / str(i), tmp_path / "c", configuration=c) for i, c in enumerate(labels)
    )
    assert first.facts["digest"] == again.facts["digest"]
    assert again.facts["method"] == "b"
    assert again.facts["spec"] == labels[1]
    other = train(made, store, tmp_path / "2", tmp_path / "c", configuration={"id": "a", "code": "123"})
    assert other.facts["digest"] != first.facts["digest"]
    assert len(list((tmp_path / "c").iterdir())) == 2


def test_views_of_each_family(store):
    seen = {}
    for name in TRAINED:
        made = recipe(name)
        data = made.data(store, 0)
        batch = data.batch(0, 0)
        seen[name] = [view.shape[-1] for view in made.crops(data.normalisation)(batch)]
        assert (batch["partners"] is not None) == (name in ("cdcl", "byol_cb"))
        module = made.module(data, {**made.network(store), "pretrained": None})
        if name == "cdcl":
            torch.testing.assert_close(module.centres.share, torch.tensor([0.5, 0.5]))
        if name == "dino":
            assert module.centres.single
    assert seen == {"supervised": [16], "dino": [16, 16, 8, 8], "cdcl": [16, 16, 8, 8], "byol_cb": [16, 16]}
    assert len(view_pairs(4)) == 6


# Bad input ------------------------------------------------------------------------------------------------------


def test_a_fold_whose_training_batches_lack_a_treatment_of_its_test_images(tmp_path):
    store = make_store(tmp_path / "s", plates=1, copies=1, without=[(1, "s2"), (2, "s2")])
    with pytest.raises(DataError, match="training batches of fold 0 lack 1 of the 4 values of .*: s2; expected"):
        train(recipe("cdcl", batch_size=4), store, tmp_path / "a", tmp_path / "c")
    assert not (tmp_path / "a").exists()


def test_one_batch_only(tmp_path):
    folds = {"kind": "rotate_groups", "by": "Metadata_Batch", "train": 1, "val": 1, "test": 1, "step": 1}
    store = make_store(tmp_path / "s", batches=3, plates=1, copies=2, folds=folds)
    for name in ("cdcl", "byol_cb"):
        with pytest.raises(DataError, match="at least two batches; all 8 training images are of batch week-1"):
            train(recipe(name, batch_size=4), store, tmp_path / "a", tmp_path / "c")


def test_more_channels_than_a_stem_has_are_adapted_and_said(store, tmp_path, caplog):
    expected = weights_file(tmp_path / "w.safetensors", channels=2)
    trained = train(recipe("untrained"), store, tmp_path / "a", tmp_path / "c", weights=tmp_path / "w.safetensors")
    assert "stem of 2 channels adapted to 3 by repeating its filters" in caplog.text
    stem, found = "patch_embed.proj.weight", plain(trained.weights)
    assert torch.equal(found[stem], expected[stem][:, [0, 1, 0]])
    assert torch.equal(found["cls_token"], expected["cls_token"])


def test_a_crop_larger_than_the_image(store, tmp_path):
    for changed, what in (({"global_size": 32}, "a crop of 32"), ({"crop": 20}, "the centre crop of 20")):
        with pytest.raises(DataError, match=f"{what} x .* pixels is larger than the images, which have 16 x 16"):
            train(recipe("cdcl", **changed), store, tmp_path / "a", tmp_path / "c")
    with pytest.raises(DataError, match="a crop of 17 x 17 pixels is larger"):
        train(recipe("dino", local_size=17), store, tmp_path / "a", tmp_path / "c")
    with pytest.raises(DataError, match="the centre crop of 20"):
        train(recipe("untrained", crop=20), store, tmp_path / "a", tmp_path / "c")


def test_a_loss_that_is_no_number_stops_and_leaves_the_last_good_checkpoint(store, tmp_path, monkeypatch):
    make, calls = MultiCrop.__call__, []

    def call(self, batch):
        calls.append(1)
        views = make(self, batch)
        return [v * math.nan for v in views] if len(calls) == 5 else views

    monkeypatch.setattr(MultiCrop, "__call__", call)
    with pytest.raises(
        DivergedError,
        match=r"loss is nan at step 4 of 6 \(epoch 1\) with learning rate .*checkpoint is .*\(epoch 1\)",
    ):
        train(recipe("byol_cb"), store, tmp_path / "a", tmp_path / "c")
    (kept,) = (tmp_path / "c").glob("*/last.ckpt")
    assert torch.load(kept, weights_only=True)["global_step"] == 3
    assert not (tmp_path / "a" / "model.json").exists()


def test_models_that_do_not_fit(store, tmp_path):
    made = recipe("untrained")
    train(made, store, tmp_path / "a", tmp_path / "c")
    with pytest.raises(DataError, match="model of fold 0, expected fold 1$"):
        made.embed(store, 1, tmp_path / "a")
    with pytest.raises(DataError, match="model with seed 0, expected 2"):
        recipe("untrained", seed=2).embed(store, 0, tmp_path / "a")
    with pytest.raises(DataError, match="model with crop 16, expected 8"):
        recipe("untrained", crop=8).embed(store, 0, tmp_path / "a")
    other = ImageStore(store.folder)
    other.channels = ("DNA", "Actin", "ER")
    with pytest.raises(DataError, match="model for the channels DNA, Actin, Mito, but .* has DNA, Actin, ER"):
        made.embed(other, 0, tmp_path / "a")
    with pytest.raises(DataError, match="model.json: no such file; expected the folder of a trained model"):
        made.embed(store, 0, tmp_path / "nothing")
    with pytest.raises(DataError, match="model of fold 0, expected fold 1 to start from"):
        train(recipe("dino"), store, tmp_path / "b", tmp_path / "c", fold=1, start=tmp_path / "a")
    with pytest.raises(SpecError, match="both weights .* and a model to start from"):
        train(made, store, tmp_path / "b", tmp_path / "c", start=tmp_path / "a", weights=tmp_path / "w")
    with pytest.raises(DataError, match="w: no such file; expected weights of the backbone"):
        train(made, store, tmp_path / "b", tmp_path / "c", weights=tmp_path / "w")


def test_threads_are_the_callers_and_are_put_back(store, tmp_path, monkeypatch):
    before, seen = torch.get_num_threads(), []

    def watch(features):
        seen.append(torch.get_num_threads())
        return {"collapsed": False}

    monkeypatch.setattr("morphobench.learning.recipes.watch", watch)
    hardware = Hardware.of_job(gpus=0, threads=before + 1)
    train(recipe("untrained"), store.folder, tmp_path / "a", tmp_path / "c", hardware=hardware)
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    with Hardware().used():
        assert torch.get_num_threads() == before


def test_hardware_of_a_job():
    assert Hardware.of_job(gpus=0, threads=2) == Hardware(accelerator="cpu", threads=2)
    assert Hardware.of_job(gpus=2, threads=8) == Hardware(accelerator="gpu", devices=2, workers=4, threads=8)
    assert Hardware.of_job(gpus=1, threads=1).workers == 0


def test_recipes_are_built_from_specs_and_take_a_folder_of_images(store, tmp_path):
    spec = {"id": "plain", "class": "morphobench.learning.recipes:UntrainedRecipe"}
    spec["parameters"] = {k: {"value": v} for k, v in FAMILIES["untrained"][1].items()}
    made = build_recipe(spec, seed=3)
    assert made == recipe("untrained", seed=3)
    train(made, store.folder, tmp_path / "a", tmp_path / "c", configuration=spec)
    profiles = made.embed(store.folder, 0, tmp_path / "a", hardware=CPU)
    assert profiles.provenance["method"] == "plain"
    spec["parameters"]["colour"] = {"value": 1}
    with pytest.raises(SpecError, match="parameters do not fit .*colour"):
        build_recipe(spec, seed=3)
