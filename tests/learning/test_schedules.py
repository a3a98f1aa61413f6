"""Schedules against torch's schedulers and closed forms."""

import math

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts, LinearLR, SequentialLR

from morphobench.errors import SpecError
from morphobench.learning import schedules


def run(make, rate, steps, fraction=None):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    scheduler = make(optimiser)
    values = []
    for step in range(steps):
        values.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if fraction is None:
            scheduler.step()
        else:
            scheduler.step((step + 1) / fraction)
    return np.array(values)


def test_learning_rate_is_torchs_linear_and_cosine():
    expected = run(
        lambda o: SequentialLR(
            o,
            [
                LinearLR(o, start_factor=1e-5 / 7e-4, total_iters=10),
                CosineAnnealingLR(o, T_max=30, eta_min=1e-5),
            ],
            milestones=[10],
        ),
        7e-4,
        40,
    )
    values = schedules.warmup_cosine(7e-4, 1e-5, 40, 10)
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert values[0] == 1e-5
    assert values[10] == pytest.approx(7e-4)
    assert values[-1] == pytest.approx(1e-5 + 6.9e-4 * (1 + math.cos(math.pi * 29 / 30)) / 2)


def test_without_warm_up_it_starts_at_the_peak():
    assert schedules.warmup_cosine(1.0, 0.0, 4, 0)[0] == 1.0


@pytest.mark.parametrize("warmup", [-1, 4, 9])
def test_warm_up_must_be_shorter_than_training(warmup):
    with pytest.raises(SpecError, match=f"warms up for {warmup} steps, expected fewer than the 4"):
        schedules.warmup_cosine(1.0, 0.0, 4, warmup)


def test_restarts_are_torchs():
    expected = run(lambda o: CosineAnnealingWarmRestarts(o, T_0=1, eta_min=1e-8), 5e-5, 14, fraction=5)
    np.testing.assert_allclose(schedules.cosine_restarts(5e-5, 1e-8, 5, 14), expected, rtol=1e-6)


def test_temperature_is_constant_in_an_epoch_and_rises_over_the_warm_up():
    values = schedules.temperature(0.04, 0.07, 10, 12, 3)
    assert values.shape == (36,)
    by_epoch = values.reshape(12, 3)
    assert (by_epoch == by_epoch[:, :1]).all()
    for epoch in range(12):
        assert by_epoch[epoch, 0] == pytest.approx(0.04 + 0.03 * min(epoch, 9) / 9)
    np.testing.assert_allclose(schedules.temperature(0.04, 0.07, 10, 2, 1), [0.04, 0.04 + 0.03 / 9])
    np.testing.assert_allclose(schedules.temperature(0.04, 0.07, 0, 2, 2), 0.07)


def test_cosine_has_its_ends_and_its_middle():
    values = schedules.cosine(0.995, 0.9996, 100)
    assert values[0] == 0.995
    assert values[50] == pytest.approx((0.995 + 0.9996) / 2)
    assert 0.9995 < values[-1] < 0.9996
    assert (np.diff(values) > 0).all()
    np.testing.assert_array_equal(schedules.cosine(0.3, 0.3, 4), 0.3)


def test_after_the_end_the_last_value_holds():
    values = schedules.cosine(1.0, 0.0, 5)
    assert schedules.value_at(values, 2) == values[2]
    assert schedules.value_at(values, 99) == values[4]


def test_no_steps_are_refused():
    with pytest.raises(SpecError, match="0 steps or epochs"):
        schedules.cosine(1.0, 0.0, 0)
