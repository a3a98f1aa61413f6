"""What methods share: optimiser, rates, probe, and a few steps of lightning against the same steps by hand."""

import math

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from morphobench.errors import SpecError
from morphobench.learning.runs import DivergedError, private_randomness
from tests.learning.small_methods import PROBE, byol, cdcl, make_domains, make_views, supervised

LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def test_decay_and_rates_reach_their_parameters():
    method = cdcl(probe=PROBE)
    optimiser = method.configure_optimizers()
    names = {id(p): n for n, p in method.named_parameters()}
    groups = {g["name"]: {names[id(p)] for p in g["params"]} for g in optimiser.param_groups}
    assert groups["probe"] == {"probe.weight", "probe.bias"}
    assert "student.backbone.network.pos_embed" in groups["decayed"]
    assert "student.head.last_layer.weight" in groups["decayed"]
    assert {"student.backbone.network.norm.weight", "student.head.mlp.0.bias"} <= groups["plain"]
    trained = {n for n, p in method.named_parameters() if n.startswith(("student.", "probe."))}
    assert set().union(*groups.values()) == trained
    method.set_rates(optimiser, 8)
    rates = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimiser.param_groups}
    lr = 1e-5 + (7e-4 - 1e-5) / 2
    decay = 1e-2 + (4e-3 - 1e-2) / 2 * (1 + math.cos(math.pi * 8 / 12))
    assert rates["decayed"] == pytest.approx((lr, decay))
    assert rates["plain"] == pytest.approx((lr, 0))
    assert rates["probe"] == pytest.approx((5e-3, 0))
    constant = byol()
    optimiser = constant.configure_optimizers()
    constant.set_rates(optimiser, 8)
    assert optimiser.param_groups[0]["weight_decay"] == pytest.approx(4e-3)


def test_wrong_settings_are_refused():
    with pytest.raises(SpecError, match="both warmup_epochs and warmup_steps"):
        cdcl(warmup_steps=3)
    with pytest.raises(SpecError, match="dino_weight is 0, barlow_weight 0"):
        cdcl(dino_weight=0, barlow_weight=0)
    with pytest.raises(SpecError, match="byol_weight is -1"):
        byol(byol_weight=-1, barlow_weight=2, off_diagonal=0.5)
    with pytest.raises(SpecError, match="off_diagonal not given"):
        cdcl(off_diagonal=None)
    with pytest.raises(SpecError, match="warms up for 12 steps"):
        cdcl(warmup_epochs=3)
    assert cdcl(warmup_epochs=None).learning_rate[0] == pytest.approx(7e-4)
    assert cdcl(warmup_epochs=None, warmup_steps=5).learning_rate[5] == pytest.approx(7e-4)


def test_a_loss_that_is_not_finite_names_step_and_learning_rate():
    method = supervised()
    method.check_finite(torch.tensor(1.0), 5)
    for value in (float("nan"), float("inf")):
        with pytest.raises(DivergedError, match=r"loss is (nan|inf) at step 4 of 12 \(epoch 1\).*rate 0.0007,"):
            method.check_finite(torch.tensor(value), 4)


def test_private_randomness_repeats_and_leaves_nothing_behind():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with private_randomness(8):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with private_randomness(8):
        assert torch.equal(torch.rand(2), inside)


class Watch(Callback):
    """Keeps what each step returned, and the teacher and student after it."""

    def __init__(self):
        self.outputs, self.after = [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.outputs.append(outputs)
        self.after.append({k: v.clone() for k, v in module.state_dict().items()})


def train(method, batches, folder, **options):
    watch = Watch()
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[watch],
        use_distributed_sampler=False,
        **options,
    )
    trainer.fit(method, torch.utils.data.DataLoader(batches, batch_size=None))
    return watch


def make_batches(count, local=4):
    batches = []
    for step in range(count):
        own, partner = make_domains(seed=step)
        batch = {"views": make_views(local=local, seed=step), "domain": own, "partner_domain": partner}
        batches.append({**batch, "label": LABELS})
    return batches


def by_hand(method, batches, probe_decay):
    """The same steps without lightning: Adam with L2 decay for the probe, AdamW for the rest."""
    plain, decayed = [], []
    for name, p in method.named_parameters():
        if p.requires_grad and not name.startswith("probe."):
            (plain if p.ndim == 1 or name.endswith(".bias") else decayed).append(p)
    main = torch.optim.AdamW([{"params": decayed}, {"params": plain, "weight_decay": 0.0}])
    aside = torch.optim.Adam(method.probe.parameters(), weight_decay=probe_decay)
    for step, batch in enumerate(batches):
        parts = method.training_loss(batch["views"], (batch["domain"], batch["partner_domain"]), LABELS, step)
        parts["loss"].backward()
        parts["probe"].backward()
        torch.nn.utils.clip_grad_norm_(plain + decayed, method.clip)
        if hasattr(method, "freeze_last_epochs") and step < 4:
            method.student.head.last_layer.weight.grad = None
        for group in main.param_groups:
            group["lr"] = method.learning_rate[step]
        main.param_groups[0]["weight_decay"] = method.weight_decay[step]
        aside.param_groups[0]["lr"] = method.probe_rate[step]
        main.step()
        aside.step()
        main.zero_grad()
        aside.zero_grad()
        m = method.momentum[step]
        with torch.no_grad():
            for kept, new in zip(method.teacher.parameters(), method.student.parameters(), strict=True):
                kept.copy_(m * kept + (1 - m) * new)
    return method.state_dict()


@pytest.mark.parametrize("make", [cdcl, byol])
def test_lightning_does_the_steps_as_written_out(make, tmp_path):
    options = {"probe": PROBE, "clip": 0.05, "drop_path": 0.3}
    batches = make_batches(6, local=4 if make is cdcl else 0)
    for batch in batches:
        batch["views"] = [v.double() for v in batch["views"]]
    watch = train(make(**options).double(), batches, tmp_path, max_steps=6)
    expected = by_hand(make(**options).double(), batches, PROBE["weight_decay"])
    for name, value in expected.items():
        torch.testing.assert_close(watch.after[-1][name], value, atol=1e-8, rtol=1e-6, msg=name)
    last = watch.outputs[-1]
    assert {"loss", "objective", "probe", "probe_accuracy", "spread"} <= last.keys()
    assert last["loss"] > last["objective"]
    if make is cdcl:
        layer = "student.head.last_layer.weight"
        assert torch.equal(watch.after[0][layer], watch.after[3][layer])
        assert not torch.equal(watch.after[3][layer], watch.after[4][layer])


def test_a_nan_stops_training_before_it_reaches_the_weights(tmp_path):
    method, batches = cdcl(), make_batches(3)
    batches[2]["views"][0][:] = float("nan")
    with pytest.raises(DivergedError, match="loss is nan at step 2 of 12"):
        train(method, batches, tmp_path, max_steps=3)
    assert all(torch.isfinite(p).all() for p in method.parameters())


def test_augment_makes_the_views_where_a_mini_batch_has_none(tmp_path):
    method = supervised()
    method.augment = lambda batch: [batch["images"] * 2]
    images = make_views()[0]
    watch = train(method, [{"images": images, "label": LABELS}], tmp_path, max_steps=1)
    expected = supervised().training_loss([images * 2], (None, None), LABELS, 0)["loss"]
    torch.testing.assert_close(watch.outputs[0]["objective"], expected.detach())
