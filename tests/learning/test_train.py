"""Training: resuming, selection, collapse, divergence, and what is left behind."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from morphobench.errors import DataError, SpecError
from morphobench.images.store import ImageStore
from morphobench.learning.augment import CentreCrop, View
from morphobench.learning.backbones import create_backbone
from morphobench.learning.collapse import watch
from morphobench.learning.data import ScreenData
from morphobench.learning.embed import features_of
from morphobench.learning.methods import SelfDistillation
from morphobench.learning.model import read_trained
from morphobench.learning.runs import DivergedError
from morphobench.learning.train import digest_of
from morphobench.metrics.accuracy import knn_predictions
from tests.learning.trainings import BACKBONE, tiny_method, train

STEPS = 3  # an epoch, of 48 images in mini-batches of 16


class Spoilt:
    """Crops as they are, until mini-batch number ``at``."""

    def __init__(self, crops, at, spoil):
        self.crops, self.at, self.spoil, self.calls = crops, at, spoil, 0

    def check(self, shape):
        self.crops.check(shape)

    def __call__(self, batch):
        views = self.crops(batch)
        self.calls += 1
        return self.spoil(views) if self.calls == self.at + 1 else views


class PullThePlugError(Exception):
    pass


def pull_the_plug(views):
    raise PullThePlugError


def not_a_number(views):
    return [view * float("nan") for view in views]


def checkpoint(folder: Path) -> dict:
    (path,) = folder.glob("*/last.ckpt")
    return torch.load(path, weights_only=True)


def assert_same(a, b):
    """Compare nested states bit by bit, but for times."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            if key not in ("seconds", "images_per_second", "check_seconds"):
                assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif torch.is_tensor(a):
        assert torch.equal(a, b)
    else:
        assert a == b or (a != a and b != b)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_training_ends_with_the_same_weights(store, tmp_path, capsys, workers):
    from morphobench.learning.runs import Hardware

    whole = train(store, tmp_path / "whole", tmp_path / "c1")
    options = {"hardware": Hardware(accelerator="cpu", workers=workers)}
    # In the middle of the second epoch, and again in the third.
    for at in (STEPS + 1, STEPS + 1):
        with pytest.raises(PullThePlugError):
            train(
                store,
                tmp_path / "parts",
                tmp_path / "c2",
                crops=lambda c, at=at: Spoilt(c, at, pull_the_plug),
                **options,
            )
        assert not (tmp_path / "parts" / "model.json").exists()
    parts = train(store, tmp_path / "parts", tmp_path / "c2", **options)
    assert "resuming after epoch 2 of 3" in capsys.readouterr().out
    assert_same(parts.weights, whole.weights)
    one, two = checkpoint(tmp_path / "c1"), checkpoint(tmp_path / "c2")
    for key in ("state_dict", "optimizer_states", "epoch", "global_step"):
        assert_same(one[key], two[key])
    (monitor,) = (k for k in one["callbacks"] if k.startswith("Monitor"))
    assert_same(one["callbacks"][monitor], two["callbacks"][monitor])
    timeless = [pd.read_csv(tmp_path / f / "losses.csv").filter(regex="^(?!.*second)") for f in ("whole", "parts")]
    pd.testing.assert_frame_equal(*timeless)


def test_a_finished_training_is_not_repeated(store, tmp_path):
    first = train(store, tmp_path / "a", tmp_path / "c")
    again = train(store, tmp_path / "b", tmp_path / "c", crops=lambda c: Spoilt(c, 0, pull_the_plug))
    assert_same(first.weights, again.weights)
    assert again.facts["cost"]["steps"] == 3 * STEPS


def test_checkpoints_are_kept_apart_by_configuration_fold_seed_and_images(store, tmp_path):
    def name(configuration, data):
        facts = {**data.facts, "seed": data.seed, "batch_size": data.batch_size}
        return digest_of(configuration, data.store, facts)

    made = [ScreenData(store, fold, batch_size=16, seed=seed) for fold, seed in ((0, 0), (1, 0), (0, 1))]
    digests = {name({"a": 1}, data) for data in made} | {name({"a": 2}, made[0])}
    other = ImageStore(store.folder)
    other.facts = {**store.facts, "units": [{**u, "pixels_sha256": "0"} for u in store.facts["units"]]}
    digests.add(name({"a": 1}, ScreenData(other, 0, batch_size=16, seed=0)))
    assert len(digests) == 5
    assert name({"a": 1}, made[0]) == name({"a": 1}, ScreenData(store, 0, batch_size=16, seed=0))


def test_a_damaged_checkpoint_is_named(store, tmp_path):
    train(store, tmp_path / "a", tmp_path / "c", epochs=1)
    (path,) = (tmp_path / "c").glob("*/last.ckpt")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="not a readable checkpoint; delete it"):
        train(store, tmp_path / "b", tmp_path / "c", epochs=1)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(store, tmp_path):
    with pytest.raises(DivergedError) as error:
        train(store, tmp_path / "a", tmp_path / "c", crops=lambda c: Spoilt(c, 2 * STEPS + 1, not_a_number))
    (path,) = (tmp_path / "c").glob("*/last.ckpt")
    message = str(error.value)
    assert "loss is nan at step 7 of 9 (epoch 2) with learning rate" in message
    assert f"the last good checkpoint is {path} (epoch 2)" in message
    kept = torch.load(path, weights_only=True)
    assert kept["global_step"] == 2 * STEPS
    assert all(torch.isfinite(v).all() for v in kept["state_dict"].values() if v.is_floating_point())
    # With better images it goes on from there, as if nothing had happened.
    assert_same(
        train(store, tmp_path / "a", tmp_path / "c").weights, train(store, tmp_path / "b", tmp_path / "c2").weights
    )


def test_broken_weights_are_never_kept_as_a_checkpoint(store, tmp_path):
    class Breaks(SelfDistillation):
        def after_step(self, step):
            super().after_step(step)
            if step == 2 * STEPS - 1:
                next(self.student.parameters()).data[:] = math.nan

    def broken(data, epochs):
        method = tiny_method(data, epochs)
        method.__class__ = Breaks
        return method

    with pytest.raises(
        DivergedError, match=r"not finite after step 5 of 9 .*last good checkpoint is .*\(epoch 1\)"
    ):
        train(store, tmp_path / "a", tmp_path / "c", method=broken)
    assert checkpoint(tmp_path / "c")["global_step"] == STEPS


def test_divergence_before_any_checkpoint_says_so(store, tmp_path):
    with pytest.raises(DivergedError, match="at step 0 .* there is no checkpoint before it"):
        train(store, tmp_path / "a", tmp_path / "c", crops=lambda c: Spoilt(c, 0, not_a_number))


def test_selection_is_the_best_validation_epoch_and_never_looks_at_test_images(store, tmp_path, monkeypatch):
    seen = []
    take = ImageStore.take
    monkeypatch.setattr(
        ImageStore, "take", lambda self, i, out=None: (seen.extend(np.ravel(i)), take(self, i, out))[1]
    )
    trained = train(store, tmp_path / "a", tmp_path / "c", epochs=5)
    test, val = store.rows(0, "test"), store.rows(0, "val")
    assert set(val) <= set(seen)
    assert not set(test) & set(seen)
    table = pd.read_csv(tmp_path / "a" / "losses.csv")
    judged = table.dropna(subset="val_knn")
    assert judged["epoch"].tolist() == [1, 2, 3, 4, 5]
    best = judged.iloc[judged["val_knn"].argmax()]
    assert trained.facts["selected"] == {"by": "knn", "epoch": best["epoch"], "score": best["val_knn"]}
    # The kept weights have the score that is claimed for them.
    data = ScreenData(store, 0, batch_size=16, seed=5)
    encoder = create_backbone(**BACKBONE)
    encoder.load_state_dict(trained.weights)
    view = CentreCrop(trained.normalisation, size=trained.facts["input"]["size"])
    bank = data.split_rows["train"]
    features = [features_of(encoder, store, rows, view) for rows in (bank, val)]
    predicted = knn_predictions(features[0], data.labels[bank], features[1])
    assert (predicted == data.labels[val]).mean() == best["val_knn"]


def test_selecting_the_last_epoch_and_judging_seldom(store, tmp_path):
    trained = train(store, tmp_path / "a", tmp_path / "c", epochs=3, select="last", check_every=2)
    assert trained.facts["selected"] == {"by": "last", "epoch": 3, "score": None}
    table = pd.read_csv(tmp_path / "a" / "losses.csv")
    assert "val_knn" not in table
    assert table.dropna(subset="effective_rank")["epoch"].tolist() == [2, 3]
    final = {
        k.removeprefix("teacher.backbone."): v
        for k, v in checkpoint(tmp_path / "c")["state_dict"].items()
        if k.startswith("teacher.backbone.")
    }
    assert_same(dict(trained.weights), {k: final[k] for k in trained.weights})


def test_history_and_picture(store, tmp_path, capsys):
    train(store, tmp_path / "a", tmp_path / "c", epochs=2)
    table = pd.read_csv(tmp_path / "a" / "losses.csv")
    # Rows of two steps, the rest of an epoch in a row of its own.
    assert table["step"].tolist() == [2, 3, 5, 6]
    assert table["epoch"].tolist() == [1, 1, 2, 2]
    # The weights of the losses are 0.25 and 0.75.
    np.testing.assert_allclose(table["loss"], 0.25 * table["dino"] + 0.75 * table["barlow"], rtol=1e-5)
    assert table["seconds"].is_monotonic_increasing
    assert (tmp_path / "a" / "losses.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    said = capsys.readouterr().out
    assert "epoch 1 of 2: loss" in said
    assert "k-NN accuracy on validation" in said
    assert "collapse" not in said


def test_collapse_is_said_in_the_log_and_kept(store, tmp_path, capsys):
    def collapsed(data, epochs):
        method = tiny_method(data, epochs, learning_rate=0.0, minimum_rate=0.0)
        # The last norm's gain of zero makes all features its bias.
        for encoder in (method.student, method.teacher):
            encoder.backbone.network.norm.weight.data.zero_()
            encoder.backbone.network.norm.bias.data.fill_(1.0)
        return method

    trained = train(store, tmp_path / "a", tmp_path / "c", epochs=1, method=collapsed)
    assert trained.facts["collapsed"] is True
    assert "warning: the features collapse" in capsys.readouterr().out


def test_watch_against_known_spreads():
    rng = np.random.default_rng(0)
    assert watch(np.tile(rng.normal(size=8), (50, 1)))["collapsed"]
    isotropic = watch(rng.normal(size=(2000, 8)))
    assert not isotropic["collapsed"]
    assert isotropic["embedding_spread"] > 0.99
    assert isotropic["effective_rank"] > 7.9
    # One line through the origin: the normalised features are two points.
    line = watch(np.outer(rng.normal(size=50), rng.normal(size=8)))
    assert line["effective_rank"] == pytest.approx(1)
    assert line["collapsed"]
    # Norms do not count, a common direction does.
    near = rng.normal(size=(500, 8)) * 1e-3 + np.eye(8)[0]
    assert watch(near * rng.uniform(1, 50, (500, 1)))["collapsed"]


def test_model_can_be_used_elsewhere(store, tmp_path):
    trained = train(store, tmp_path / "a", tmp_path / "c", epochs=1)
    folder = tmp_path / "a"
    assert {f.name for f in folder.iterdir()} == {
        "encoder.safetensors",
        "model.json",
        "normalisation.parquet",
        "losses.csv",
        "losses.png",
    }
    facts = json.loads((folder / "model.json").read_text())
    assert facts == read_trained(folder).facts
    assert facts["configuration"] == {"method": "tiny", "epochs": 1}
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["input"] == {
        "channels": ["DNA", "Actin", "Mito"],
        "resize": None,
        "size": 16,
        "normalised_by": "controls",
    }
    assert facts["data"]["trained_on"] == 48
    assert facts["cost"]["steps"] == STEPS
    np.testing.assert_array_equal(
        trained.normalisation.mean, ScreenData(store, 0, batch_size=1, seed=0).normalisation.mean
    )
    with pytest.raises(DataError, match="expected the folder of a trained model"):
        read_trained(tmp_path)


def test_the_callers_random_numbers_are_left_alone(store, tmp_path):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(store, tmp_path / "a", tmp_path / "c", epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_bad_options_are_found_before_training(store, tmp_path):
    def attempt(**options):
        return train(store, tmp_path / "a", tmp_path / "c", crops=lambda c: Spoilt(c, 0, pull_the_plug), **options)

    def too_large(crops):
        crops.views[0] = View(32)
        return crops

    with pytest.raises(DataError, match="32 x 32 pixels is larger than the images, which have 16 x 16"):
        train(store, tmp_path / "a", tmp_path / "c", crops=too_large)
    with pytest.raises(SpecError, match="select is 'test', expected one of knn, last"):
        attempt(select="test")
    with pytest.raises(SpecError, match="expected 1 or more"):
        attempt(check_every=0)
    data = ScreenData(store, 0, batch_size=8, seed=0)
    with pytest.raises(SpecError, match="laid out for 3 steps an epoch, the data have 6"):
        attempt(data=data, method=lambda d, e: tiny_method(ScreenData(store, 0, batch_size=16, seed=0), e))
    data.split_rows["val"] = data.split_rows["val"][:0]
    with pytest.raises(DataError, match="fold 0 has no validation images with a label to select by"):
        attempt(data=data)


SCRIPT = """
import sys
from pathlib import Path
from morphobench.images.store import ImageStore
from morphobench.learning.runs import Hardware
from tests.learning.trainings import train

store, folder, devices = sys.argv[1:]
hardware = Hardware(accelerator="cpu", devices=int(devices))
train(ImageStore(store), Path(folder) / "out", Path(folder) / "c", epochs=2, hardware=hardware)
"""


@pytest.mark.slow
def test_two_processes_train_the_same_network_as_one(store, tmp_path, root):
    """Stochastic depth is drawn by each process, so it is off here."""
    script = tmp_path / "script.py"
    script.write_text(
        SCRIPT.replace("epochs=2,", "epochs=2, method=lambda d, e: tiny_method(d, e, drop_path=0.0),")
    )
    script.write_text(script.read_text().replace("import train", "import tiny_method, train"))
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}", "OMP_NUM_THREADS": "1"}
    found = []
    for devices in ("1", "2"):
        folder = tmp_path / devices
        command = [sys.executable, str(script), str(store.folder), str(folder), devices]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=300)
        assert done.returncode == 0, done.stderr
        found.append(read_trained(folder / "out"))
    one, two = found
    assert two.facts["cost"]["devices"] == 2
    tables = [pd.read_csv(tmp_path / devices / "out" / "losses.csv") for devices in ("1", "2")]
    for part in ("loss", "dino", "barlow", "centre_norm"):
        np.testing.assert_allclose(tables[1][part], tables[0][part], rtol=1e-4)
    # Adam divides by the gradient's size, so rounding moves weights whose gradient is nothing but rounding.
    start = tiny_method(ScreenData(store, 0, batch_size=16, seed=5), 2, drop_path=0.0).encoder.state_dict()
    moved, apart = (
        torch.cat([(one.weights[k] - other[k]).flatten() for k in start]).norm() for other in (start, two.weights)
    )
    assert apart < 0.02 * moved
