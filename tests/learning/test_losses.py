"""Losses and centres against lightly, closed forms and loops over samples."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightly.loss import BarlowTwinsLoss, DINOLoss, NegativeCosineSimilarity

from morphobench.errors import DataError, SpecError
from morphobench.learning.joint import standardise
from morphobench.learning.losses import (
    Centres,
    barlow_loss,
    byol_loss,
    correlation_sums,
    dino_loss,
    view_pairs,
)


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_eight_views_make_fourteen_pairs():
    pairs = view_pairs(8)
    assert len(pairs) == 14
    assert set(pairs) == {(t, s) for t in (0, 1) for s in range(8)} - {(0, 0), (1, 1)}


def test_pairs_of_one_image_can_be_left_out():
    # Views 0 and 2 to 4 are of the first image, views 1 and 5 to 7 of the second.
    pairs = view_pairs(8, same_image=False)
    assert sorted(pairs) == [(0, 1), (0, 5), (0, 6), (0, 7), (1, 0), (1, 2), (1, 3), (1, 4)]


def test_dino_is_lightlys_with_its_centre_over_steps():
    reference = DINOLoss(7, teacher_temp=0.05, student_temp=0.1, center_momentum=0.9)
    centres = Centres(7, 0.9)
    for step in range(4):
        teachers, students = rows(2, 5, 7, seed=step) + 1, rows(6, 5, 7, seed=10 + step).requires_grad_()
        origin = torch.zeros(10, dtype=torch.int64)
        centred = teachers - centres(origin).reshape(2, 5, 7)
        loss = dino_loss(centred, students, view_pairs(6), 0.05, 0.1)
        (gradient,) = torch.autograd.grad(loss, students)
        centres.update(teachers.reshape(10, 7), origin)
        expected = reference(list(teachers), list(students), teacher_temp=0.05)
        (expected_gradient,) = torch.autograd.grad(expected, students)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient, expected_gradient)
        torch.testing.assert_close(centres.values[0], reference.center[0, 0])


def test_dino_of_uniform_outputs_is_the_logarithm_of_their_number():
    loss = dino_loss(torch.zeros(2, 3, 4096), torch.zeros(8, 3, 4096), view_pairs(8), 0.04, 0.1)
    assert loss.item() == pytest.approx(math.log(4096), rel=1e-6)


def test_the_teacher_gets_no_gradient():
    teachers = rows(2, 3, 4).requires_grad_()
    students = rows(2, 3, 4, seed=1).requires_grad_()
    dino_loss(teachers, students, view_pairs(2), 0.04, 0.1).backward()
    assert teachers.grad is None
    targets = [rows(3, 4).requires_grad_() for _ in range(2)]
    byol_loss(list(students), targets).backward()
    assert targets[0].grad is None


def test_byol_is_four_and_twice_lightlys_in_both_directions():
    reference = NegativeCosineSimilarity()
    p, z = [rows(5, 6, seed=s).requires_grad_() for s in (1, 2)], [rows(5, 6, seed=s) for s in (3, 4)]
    loss = byol_loss(p, z)
    expected = 4 + 2 * (reference(p[0], z[1]) + reference(p[1], z[0]))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, p), torch.autograd.grad(expected, p))


def correlation(x, y):
    """The cross-correlation matrix by numpy, one pair of columns at a time."""
    x, y = x.detach().double().numpy(), y.detach().double().numpy()
    matrix = np.empty((x.shape[1], y.shape[1]))
    for i in range(x.shape[1]):
        for j in range(y.shape[1]):
            a = (x[:, i] - x[:, i].mean()) / np.sqrt(x[:, i].var() + 1e-5)
            b = (y[:, j] - y[:, j].mean()) / np.sqrt(y[:, j].var() + 1e-5)
            matrix[i, j] = (a * b).mean()
    return matrix


@pytest.mark.parametrize("shape", [(4, 9), (9, 9), (40, 6)])
def test_barlow_has_its_closed_form_with_few_rows_and_with_many(shape):
    x, y = rows(*shape, seed=1), rows(*shape, seed=2) + rows(*shape, seed=1)
    matrix = correlation(x, y)
    on = (1 - np.diag(matrix)) ** 2
    off = matrix[~np.eye(shape[1], dtype=bool)] ** 2
    measured_on, measured_off = correlation_sums([x], [y])
    assert measured_on.item() == pytest.approx(on.sum(), rel=1e-4)
    assert measured_off.item() == pytest.approx(off.sum(), rel=1e-4)
    a = 0.95
    expected = ((1 - a) * on.mean() + a * off.mean()) / ((1 - a) + 0.01 * a)
    assert barlow_loss([x], [y], a).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("shape", [(5, 8), (30, 8)])
def test_the_sums_are_lightlys_barlow_twins_with_gradients(shape):
    x, y = rows(*shape, seed=1).requires_grad_(), rows(*shape, seed=2).requires_grad_()
    on, off = correlation_sums([x], [y])
    expected = BarlowTwinsLoss(lambda_param=5e-3)(x, y)
    loss = on + 5e-3 * off
    torch.testing.assert_close(loss, expected)
    ours, theirs = torch.autograd.grad(loss, (x, y)), torch.autograd.grad(expected, (x, y))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("samples", [3, 20])
def test_two_pairs_share_one_matrix(samples):
    x, y = [rows(samples, 7, seed=s) for s in (1, 2)], [rows(samples, 7, seed=s) for s in (3, 4)]
    matrix = (correlation(x[0], y[0]) + correlation(x[1], y[1])) / 2
    on, off = correlation_sums(x, y)
    assert on.item() == pytest.approx(((1 - np.diag(matrix)) ** 2).sum(), rel=1e-4)
    assert off.item() == pytest.approx((matrix[~np.eye(7, dtype=bool)] ** 2).sum(), rel=1e-4)


def test_barlow_is_zero_for_equal_uncorrelated_features_and_blind_to_scale():
    signs = torch.tensor([[a, b, a * b] for a in (-1.0, 1.0) for b in (-1.0, 1.0)])
    assert barlow_loss([signs], [signs * 30 + 4], 0.95).item() == pytest.approx(0, abs=1e-8)


def test_barlow_of_one_sample_is_refused():
    with pytest.raises(DataError, match="1 sample, expected 2 or more"):
        barlow_loss([rows(1, 4)], [rows(1, 4)], 0.95)


def test_losses_stay_in_float32_under_autocast():
    x, y = rows(6, 8, seed=1), rows(6, 8, seed=2)
    plain = [barlow_loss([x], [y], 0.9), dino_loss(x[None], y[None], [(0, 0)], 0.04, 0.1), byol_loss([x], [y])]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = [barlow_loss([x], [y], 0.9), dino_loss(x[None], y[None], [(0, 0)], 0.04, 0.1), byol_loss([x], [y])]
    for a, b in zip(plain, cast, strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)


def test_standardised_is_batch_norm_without_parameters():
    x = rows(6, 4) * 3 + 1
    torch.testing.assert_close(standardise(x), torch.nn.BatchNorm1d(4, affine=False)(x))


def centres_by_loop(values, outputs, domains, sizes, momentum):
    """CDCL's update, one sample and one domain at a time."""
    values, outputs = values.double().numpy().copy(), outputs.double().numpy()
    for d in range(len(sizes)):
        total, count = np.zeros(outputs.shape[1]), 0
        for sample in range(len(outputs)):
            if domains[sample] == d:
                total += outputs[sample]
                count += 1
        if count:
            over = (count / len(outputs)) / (sizes[d] / sum(sizes))
            pace = min((1 - momentum) * over, 1.0)
            values[d] = (1 - pace) * values[d] + pace * total / count
    return values


@given(
    domains=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    sizes=st.lists(st.integers(1, 500), min_size=4, max_size=4),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40)
def test_centres_are_those_of_a_loop_over_samples(domains, sizes, seed):
    centres = Centres(3, 0.9, sizes)
    centres.values.copy_(rows(4, 3, seed=seed))
    outputs = rows(len(domains), 3, seed=seed + 1)
    expected = centres_by_loop(centres.values, outputs, domains, sizes, 0.9)
    before, codes = centres.values.clone(), torch.tensor(domains)
    torch.testing.assert_close(centres(codes), torch.stack([before[d] for d in domains]))
    centres.update(outputs, codes)
    np.testing.assert_allclose(centres.values.numpy(), expected, atol=1e-5)
    for absent in set(range(4)) - set(domains):
        assert torch.equal(centres.values[absent], before[absent])


def test_a_domain_that_takes_the_whole_small_step_is_not_overshot():
    centres = Centres(2, 0.9, [10] * 24)
    centres.update(torch.ones(4, 2), torch.full((4,), 7))
    assert torch.equal(centres.values[7], torch.ones(2))
    assert not centres.values[6].any()


def test_one_domain_is_one_centre():
    one, single = Centres(3, 0.9, [17]), Centres(3, 0.9)
    for step in range(3):
        outputs = rows(8, 3, seed=step)
        one.update(outputs, torch.zeros(8, dtype=torch.int64))
        single.update(outputs, torch.arange(8))
        torch.testing.assert_close(one.values, single.values)
    assert torch.equal(single(torch.arange(8)), single.values.expand(8, 3))


def test_domains_without_a_centre_are_refused():
    centres = Centres(3, 0.9, [4, 4])
    for wrong in (2, -1):
        with pytest.raises(DataError, match="expected codes 0 to 1"):
            centres(torch.tensor([0, wrong]))
    for sizes in ([], [0, 0], [3, -1]):
        with pytest.raises(SpecError, match="expected counts of at least one domain"):
            Centres(3, 0.9, sizes)
