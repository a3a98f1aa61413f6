import numpy as np
import pandas as pd
import pytest
import torch

from morphobench.errors import DataError, SpecError
from morphobench.learning.runs import LAST, DivergedError, Hardware
from morphobench.profilenets import history, stages
from morphobench.profilenets.data import ProfileData
from morphobench.profilenets.masking import draw_mask, draw_ratio
from morphobench.profilenets.model import CellPainTR
from morphobench.profilenets.objectives import supcon_loss
from morphobench.profilenets.stages import represent

from .trainings import data, network, stage, structured, trained


@pytest.fixture(scope="module")
def profiles():
    return structured()


@pytest.fixture
def no_pictures(monkeypatch):
    """A picture takes longer than a training here."""
    monkeypatch.setattr(history, "draw", lambda table, path: None)


def copied(net) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


def changed(one, other) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


@torch.no_grad()
def errors(net, feed) -> dict[str, float]:
    """Squared error at a quarter of the values, chosen once for all; contrast of all wells, and within sources."""
    net.eval()
    whole = next(feed.in_order(1000))
    values, source, label = (whole[name] for name in ("values", "source", "label"))
    hidden = torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 0.25
    _, predicted = net(values, hidden, source)
    cls = net.represent(values, ~whole["present"], source)
    within = [supcon_loss(cls[source == code], label[source == code]) for code in source.unique()]
    return {
        "plate": float((predicted - values)[hidden].square().mean()),
        "source": float(torch.stack(within).mean()),
        "mixed": float(supcon_loss(cls, label)),
    }


@pytest.mark.parametrize(
    ("composition", "contrast", "epochs"),
    [
        ("plate", 0.0, 10),
        pytest.param("source", 1.0, 30, marks=pytest.mark.slow),
        pytest.param("mixed", 1.0, 30, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("no_pictures")
def test_every_stage_learns(profiles, tmp_path, composition, contrast, epochs):
    feed = data(profiles, composition, batch_size=16)
    net = network(feed)
    before = errors(net, feed)
    _, facts = trained(net, feed, stage(contrast, epochs=epochs, learning_rate=1e-3), tmp_path)
    after = errors(net, feed)
    assert after["plate"] < 0.8 * before["plate"]
    if contrast:
        assert after[composition] < before[composition] - 0.2
    assert facts["cost"]["steps"] == sum(feed.steps(epoch) for epoch in range(epochs))


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.usefixtures("no_pictures")
def test_steps_by_hand(profiles, tmp_path, grouped):
    """Masks, what network and loss get to see, clipping and AdamW, written out anew; a feature is absent."""
    feed = data(profiles, "mixed", space=None)
    space = type(feed.space).from_names([*feed.space.names, "Nuclei_Texture_Contrast_DNA_900"])
    feed = data(profiles, "mixed", space=space)
    how = stage(0.5, grouped, epochs=1, clip=0.1)
    net, own = network(feed, dropout=0.0), network(feed, dropout=0.0)
    found, _ = trained(net, feed, how, tmp_path)
    optimizer = torch.optim.AdamW(own.parameters(), lr=3e-3, weight_decay=0.0)
    groups = torch.from_numpy(space.groups)
    ratios = []
    for number, batch in enumerate(feed.batches(0)):
        ratios.append(draw_ratio(7, 0, number, 0.05, 0.40))
        masked = draw_mask(
            batch["values"], batch["present"], batch["key"], ratios[-1], groups if grouped else None
        )
        assert not masked[:, -1].any()
        unseen = masked.clone()
        unseen[:, -1] = True
        cls, predicted = own(batch["values"], unseen, batch["source"])
        error = (predicted - batch["values"]).square()
        per_group = [
            error[:, groups == code][masked[:, groups == code]].mean()
            for code in groups.unique()
            if masked[:, groups == code].any()
        ]
        loss = torch.stack(per_group).mean() if grouped else error[masked].mean()
        loss = loss + 0.5 * supcon_loss(cls, batch["label"])
        optimizer.zero_grad()
        loss.backward()
        length = torch.sqrt(sum(p.grad.square().sum() for p in own.parameters()))
        for parameter in own.parameters():
            parameter.grad *= min(1.0, 0.1 / float(length))
        optimizer.step()
    assert len(set(ratios)) == len(ratios) == feed.steps(0) > 3
    for name, value in own.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.usefixtures("no_pictures")
def test_the_first_epoch_may_train_source_tokens_only(profiles, tmp_path):
    feed = data(profiles, "source")
    net = network(feed)
    before = copied(net)
    after, _ = trained(net, feed, stage(1.0, epochs=1, source_epochs=1), tmp_path / "one")
    assert changed(before, after) == {"sources.known"}
    assert (before["sources.known"] != after["sources.known"]).any(dim=1).all()
    net = network(feed)
    after, _ = trained(net, feed, stage(1.0, epochs=2, source_epochs=1), tmp_path / "two")
    assert changed(before, after) == before.keys() - {"sources.added"}
    assert all(parameter.requires_grad for parameter in net.parameters())


@pytest.mark.usefixtures("no_pictures")
def test_new_sources_change_and_nothing_else(profiles, tmp_path):
    feed = data(profiles, "source")
    known = CellPainTR(feed.space.names, 2, width=16, blocks=2, expansion=2)
    known.extend_sources(1)
    before = copied(known)
    after, facts = trained(known, feed, stage(new_sources=True), tmp_path)
    assert changed(before, after) == {"sources.added"}
    assert facts["cost"]["parameters"] == 16


class _InterruptionError(Exception):
    pass


def interrupted(monkeypatch, steps: int):
    """Break off after so many mini-batches."""
    whole, seen = ProfileData.batches, []

    def batches(self, epoch, first=0):
        for batch in whole(self, epoch, first):
            if len(seen) == steps:
                raise _InterruptionError
            seen.append(epoch)
            yield batch

    monkeypatch.setattr(ProfileData, "batches", batches)


@pytest.mark.parametrize(
    ("steps", "every"), [(0, 0.0), (4, 0.0), (13, np.inf), (25, 0.0), (25, np.inf), (36, np.inf), (53, 0.0)]
)
@pytest.mark.usefixtures("no_pictures")
def test_an_interrupted_training_ends_with_the_same_weights(profiles, tmp_path, monkeypatch, capsys, steps, every):
    monkeypatch.setattr(history, "LOG_EVERY", 4)
    how = stage(1.0, epochs=3, source_epochs=1)
    feed = data(profiles, "source")
    assert [feed.steps(epoch) for epoch in range(3)] == [18, 18, 18]
    whole, _ = trained(network(feed), feed, how, tmp_path / "whole")
    monkeypatch.setattr(stages, "SAVE_EVERY", every)
    with monkeypatch.context() as patch:
        interrupted(patch, steps)
        with pytest.raises(_InterruptionError):
            trained(network(feed), data(profiles, "source"), how, tmp_path / "parts")
    capsys.readouterr()
    parts, facts = trained(network(feed), data(profiles, "source"), how, tmp_path / "parts")
    said = "resuming after mini-batch" in capsys.readouterr().out
    assert said == (steps > 0 if every == 0 else steps >= feed.steps(0))
    assert not changed(whole, parts)
    tables = [pd.read_csv(tmp_path / name / "losses.csv") for name in ("whole", "parts")]
    fixed = [c for c in tables[0] if not c.endswith(("seconds", "per_second"))]
    pd.testing.assert_frame_equal(tables[0][fixed], tables[1][fixed])
    assert facts["cost"]["steps"] == tables[0]["step"].iloc[-1]


@pytest.mark.usefixtures("no_pictures")
def test_the_same_numbers_twice_and_others_by_another_seed(profiles, tmp_path):
    feed = data(profiles)
    first, _ = trained(network(feed), feed, stage(), tmp_path / "a")
    again, _ = trained(network(feed), data(profiles), stage(), tmp_path / "b")
    other, _ = trained(network(feed), data(profiles), stage(seed=8), tmp_path / "c")
    assert not changed(first, again)
    assert changed(first, other)


@pytest.mark.usefixtures("no_pictures")
def test_half_precision_is_close_to_single(profiles, tmp_path):
    feed = data(profiles, "mixed")
    rows = []
    for precision in ("32-true", "bf16-mixed"):
        hardware = Hardware(accelerator="cpu", precision=precision)
        _, facts = trained(network(feed), feed, stage(1.0, epochs=1), tmp_path / precision, hardware)
        assert facts["cost"]["precision"] == precision
        rows.append(pd.read_csv(tmp_path / precision / "losses.csv").iloc[-1])
    assert rows[0]["loss"] != rows[1]["loss"]
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=0.05)


@pytest.mark.usefixtures("no_pictures")
def test_the_callers_random_numbers_are_left_alone(profiles, tmp_path):
    feed = data(profiles)
    net = network(feed)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    trained(net, feed, stage(epochs=1), tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.usefixtures("no_pictures")
def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(profiles, tmp_path, monkeypatch):
    whole = ProfileData.batches

    def batches(self, epoch, first=0):
        for number, batch in enumerate(whole(self, epoch, first)):
            yield {**batch, "values": batch["values"] * np.nan} if (epoch, number) == (1, 3) else batch

    feed = data(profiles)
    monkeypatch.setattr(ProfileData, "batches", batches)
    first = feed.steps(0)
    with pytest.raises(DivergedError) as error:
        trained(network(feed), feed, stage(), tmp_path)
    last = tmp_path / "kept" / LAST
    assert f"at step {first + 3} of {2 * first} (epoch 1) with learning rate 0.003" in str(error.value)
    assert f"last good checkpoint is {last}" in str(error.value)
    kept = torch.load(last, weights_only=True)
    assert kept["step"] == first
    assert all(torch.isfinite(value).all() for value in kept["network"].values())


def test_a_rate_that_is_too_high_is_named(profiles, tmp_path):
    feed = data(profiles)
    with pytest.raises(DivergedError, match=r"learning rate 1e\+35.*there is no checkpoint"):
        trained(network(feed), feed, stage(learning_rate=1e35), tmp_path)


def test_broken_weights_are_never_kept(profiles, tmp_path, monkeypatch):
    own = stages._Run._judge

    def judge(self, watched):
        own(self, watched)
        with torch.no_grad():
            self.network.mask[0] = torch.inf

    monkeypatch.setattr(stages._Run, "_judge", judge)
    feed = data(profiles)
    with pytest.raises(DivergedError, match=r"^mask is not finite after step .* there is no checkpoint$"):
        trained(network(feed), feed, stage(), tmp_path)
    assert not (tmp_path / "kept" / LAST).exists()


def test_a_damaged_checkpoint_is_named(profiles, tmp_path):
    last = tmp_path / "kept" / LAST
    last.parent.mkdir()
    last.write_bytes(b"half")
    feed = data(profiles)
    with pytest.raises(DataError, match=f"{last}: not a readable checkpoint"):
        trained(network(feed), feed, stage(), tmp_path)


def test_what_a_stage_cannot_be(profiles, tmp_path):
    for wrong in (
        {"epochs": 0},
        {"source_epochs": 3},
        {"learning_rate": 0.0},
        {"weight_decay": -1.0},
        {"clip": 0.0},
        {"ratio": (0.5, 0.2)},
    ):
        with pytest.raises(SpecError, match=next(iter(wrong)).replace("ratio", "masking ratio")):
            stage(**wrong)
    feed = data(profiles)
    for hardware, message in (
        (Hardware(accelerator="cpu", devices=2), "found devices 2"),
        (Hardware(accelerator="cpu", precision="16"), "precision is '16'"),
    ):
        with pytest.raises(SpecError, match=message):
            trained(network(feed), feed, stage(), tmp_path, hardware)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(profiles, tmp_path):
    feed = data(profiles)
    with pytest.raises(SpecError, match="torch finds no GPU"):
        trained(network(feed), feed, stage(), tmp_path, Hardware(accelerator="gpu"))


def test_represent_is_the_network_on_all_that_is_present(profiles):
    feed = data(profiles)
    net = network(feed).eval()
    batch = feed.batch(0, 0)
    batch["present"][:, 3] = False
    found = represent(net, batch, torch.device("cpu"))
    with torch.no_grad():
        expected = net(batch["values"], ~batch["present"], batch["source"])[0]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
