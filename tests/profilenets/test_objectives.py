"""The contrastive loss against pytorch-metric-learning and a loop, and the stages' sums."""

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.reducers import MeanReducer, SumReducer

from morphobench.errors import SpecError
from morphobench.learning import joint
from morphobench.profilenets.masking import masked_loss
from morphobench.profilenets.objectives import Objective, supcon_loss

REDUCERS = {"sum": SumReducer, "mean": MeanReducer}


def drawn(rows, labels, seed=0, width=6):
    rng = np.random.default_rng(seed)
    h = torch.from_numpy(rng.normal(size=(rows, width))).requires_grad_()
    return h, torch.from_numpy(rng.integers(0, labels, rows))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
@settings(deadline=None, max_examples=20)
@given(rows=st.integers(2, 12), labels=st.integers(1, 12), seed=st.integers(0, 99))
def test_supcon_is_that_of_pytorch_metric_learning(reduction, temperature, rows, labels, seed):
    h, codes = drawn(rows, labels, seed)
    # Without negatives the library returns 0, where the equation has a value: see the loop below.
    assume(len(set(codes.tolist())) > 1)
    loss = supcon_loss(h, codes, temperature=temperature, reduction=reduction)
    expected = SupConLoss(temperature=temperature, reducer=REDUCERS[reduction]())(h, codes)
    torch.testing.assert_close(loss, expected)
    (gradient,) = torch.autograd.grad(loss, h)
    if len(set(codes.tolist())) < rows:
        (expected_gradient,) = torch.autograd.grad(expected, h)
        torch.testing.assert_close(gradient, expected_gradient)
    else:
        assert not gradient.any()


def loss_by_loop(h, labels, temperature):
    h = h / np.linalg.norm(h, axis=1, keepdims=True)
    losses = []
    for i in range(len(h)):
        others = [a for a in range(len(h)) if a != i]
        total = sum(math.exp(h[i] @ h[a] / temperature) for a in others)
        positive = [p for p in others if labels[p] == labels[i]]
        terms = [math.log(math.exp(h[i] @ h[p] / temperature) / total) for p in positive]
        losses.append(-sum(terms) / len(terms) if terms else 0.0)
    return np.array(losses)


@pytest.mark.parametrize("labels", [[0, 1, 1, 2, 0, 1, 3, 4, 0], [0] * 9])
def test_supcon_is_its_equation(labels):
    h, labels = drawn(9, 1, seed=3)[0], torch.tensor(labels)
    losses = loss_by_loop(h.detach().numpy(), labels.numpy(), 0.07)
    assert supcon_loss(h, labels, reduction="sum").item() == pytest.approx(losses.sum())
    assert supcon_loss(h, labels, reduction="mean").item() == pytest.approx(losses.mean())


def test_anchors_without_positives_contribute_nothing_but_count_in_the_mean():
    h, _ = drawn(4, 1)
    labels = torch.tensor([0, 0, 1, 2])
    losses = loss_by_loop(h.detach().numpy(), labels.numpy(), 0.07)
    assert losses[2] == losses[3] == 0
    assert supcon_loss(h, labels).item() == pytest.approx((losses[0] + losses[1]) / 4)


@pytest.mark.parametrize("rows", [1, 3])
def test_without_any_pair_the_loss_and_its_gradient_are_zero(rows):
    h, _ = drawn(rows, 1)
    loss = supcon_loss(h, torch.arange(rows))
    (gradient,) = torch.autograd.grad(loss, h)
    assert loss.item() == 0
    assert not gradient.any()


def test_lengths_do_not_matter_and_equal_rows_are_finite():
    h, labels = drawn(6, 2)
    torch.testing.assert_close(supcon_loss(100 * h, labels), supcon_loss(h, labels))
    equal = torch.ones(5, 4, requires_grad=True)
    loss = supcon_loss(equal, torch.zeros(5, dtype=torch.int64))
    assert loss.item() == pytest.approx(math.log(4), rel=1e-5)
    (gradient,) = torch.autograd.grad(loss, equal)
    assert gradient.isfinite().all()


def test_halves_are_compared_in_float32():
    h, labels = drawn(8, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = supcon_loss(h.float(), labels)
    torch.testing.assert_close(loss.double(), supcon_loss(h, labels), rtol=1e-5, atol=1e-5)


def test_stages_add_their_parts():
    h, labels = drawn(6, 2)
    rng = np.random.default_rng(1)
    predicted, values = torch.from_numpy(rng.normal(size=(2, 6, 5)))
    masked, groups = torch.from_numpy(rng.random((6, 5)) < 0.5), torch.tensor([0, 0, 0, 1, 2])
    batch = (h, predicted, values, masked, groups, labels)
    first = Objective(grouped=False, contrast=0.0)(*batch)
    assert set(first) == {"loss", "masked"}
    torch.testing.assert_close(first["loss"], masked_loss(predicted, values, masked))
    second = Objective(grouped=True, contrast=2.0, reduction="sum")(*batch)
    torch.testing.assert_close(second["masked"], masked_loss(predicted, values, masked, groups))
    torch.testing.assert_close(second["contrast"], supcon_loss(h, labels, reduction="sum"))
    torch.testing.assert_close(second["loss"], second["masked"] + 2 * second["contrast"])


def joined():
    """Losses of a mini-batch that processes share, and gradients as they are averaged afterwards."""
    rng = np.random.default_rng(4)
    share = [torch.from_numpy(x).chunk(joint.processes())[joint.rank()] for x in rng.normal(size=(3, 8, 5))]
    h, predicted, values = share[0].clone().requires_grad_(), share[1].clone().requires_grad_(), share[2]
    masked = torch.from_numpy(rng.random((8, 5)) < 0.3).chunk(joint.processes())[joint.rank()]
    labels = torch.tensor([0, 1, 2, 0, 3, 1, 1, 0]).chunk(joint.processes())[joint.rank()]
    found = {}
    for grouped in (False, True):
        objective = Objective(grouped=grouped, contrast=1.0)
        loss = objective(h, predicted, values, masked, torch.tensor([0, 0, 1, 1, 2]), labels)["loss"]
        gradients = torch.autograd.grad(loss, (h, predicted))
        found[f"loss {grouped}"] = loss.detach()
        for name, gradient in zip(("h", "predicted"), gradients, strict=True):
            found[f"{name} {grouped}"] = joint.joint_rows(gradient) / joint.processes()
    return found


def worker(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(joined(), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one_with_the_joined_mini_batch(tmp_path):
    multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    expected = joined()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_wrong_options_are_refused():
    h, labels = drawn(3, 2)
    with pytest.raises(SpecError, match="reduction is 'median', expected one of sum, mean"):
        supcon_loss(h, labels, reduction="median")
    with pytest.raises(SpecError, match="temperature is 0, expected more than 0"):
        supcon_loss(h, labels, temperature=0)
