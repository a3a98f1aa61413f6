"""Masks against the ratio that was asked for, group by group, and the loss against loops."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.errors import DataError, SpecError
from morphobench.learning.randomness import sample_keys
from morphobench.profilenets.features import FeatureSpace
from morphobench.profilenets.masking import draw_mask, draw_ratio, masked_loss
from morphobench.simulate.cellprofiler_names import choose_features

SPACE = FeatureSpace.from_names([feature.name for feature in choose_features(200)])
GROUPS = torch.from_numpy(SPACE.groups)


def screen(rows, seed=0):
    """Values of which a tenth is zero and another tenth absent."""
    features, generator = len(SPACE), torch.Generator().manual_seed(seed)
    values = torch.randn(rows, features, generator=generator)
    values[torch.rand(rows, features, generator=generator) < 0.1] = 0
    present = torch.rand(rows, features, generator=generator) >= 0.1
    return values, present, sample_keys(seed, 0, np.arange(rows))


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["as coded", "as described"])
@pytest.mark.parametrize("ratio", [0.05, 0.173, 0.40])
def test_each_group_is_masked_at_the_ratio(groups, ratio):
    values, present, keys = screen(3000)
    masked = draw_mask(values, present, keys, ratio, groups)
    eligible = present & (values != 0)
    assert not (masked & ~eligible).any()
    assert len(SPACE.group_names) > 15
    for code in range(len(SPACE.group_names)):
        member = GROUPS.eq(code)
        count = int(eligible[:, member].sum())
        # Five standard errors of independent draws; stratified ones vary less.
        assert masked[:, member].sum().item() / count == pytest.approx(
            ratio, abs=5 * (ratio * (1 - ratio) / count) ** 0.5
        )


def test_as_described_every_profile_has_the_ratio_in_every_group():
    values, present, keys = screen(300)
    masked = draw_mask(values, present, keys, 0.3, GROUPS)
    eligible = present & (values != 0)
    for code in range(len(SPACE.group_names)):
        member = GROUPS.eq(code)
        wanted = 0.3 * eligible[:, member].sum(1)
        off = (masked[:, member].sum(1) - wanted).abs()
        assert off.max() < 1 + 1e-9


def test_as_coded_profiles_vary_as_independent_draws_do():
    values, present, keys = screen(4000)
    values, present = torch.ones_like(values), torch.ones_like(present)
    shares = draw_mask(values, present, keys, 0.3).double().mean(1)
    assert shares.var().item() == pytest.approx(0.3 * 0.7 / len(SPACE), rel=0.1)


# Of small groups too, whose shares are mostly made by rounding.
@pytest.mark.parametrize(
    "groups", [None, GROUPS, torch.arange(200) % 67], ids=["as coded", "as described", "small"]
)
def test_all_features_are_masked_equally_often(groups):
    values, present, keys = screen(4000)
    values, present = torch.ones_like(values), torch.ones_like(present)
    shares = draw_mask(values, present, keys, 0.2, groups).double().mean(0)
    assert (shares - 0.2).abs().max() < 5 * (0.2 * 0.8 / 4000) ** 0.5


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["as coded", "as described"])
def test_the_ends_of_the_ratio(groups):
    values, present, keys = screen(50)
    assert not draw_mask(values, present, keys, 0.0, groups).any()
    assert torch.equal(draw_mask(values, present, keys, 1.0, groups), present & (values != 0))


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["as coded", "as described"])
def test_a_profiles_mask_is_its_own(groups):
    values, present, keys = screen(20)
    together = draw_mask(values, present, keys, 0.25, groups)
    assert torch.equal(draw_mask(values[7:9], present[7:9], keys[7:9], 0.25, groups), together[7:9])
    other = draw_mask(values, present, sample_keys(0, 1, np.arange(20)), 0.25, groups)
    assert not torch.equal(other, together)


@pytest.mark.parametrize("groups", [None, GROUPS], ids=["as coded", "as described"])
def test_a_profile_of_zeros_is_not_masked(groups):
    values, present, keys = screen(3)
    assert not draw_mask(torch.zeros_like(values), present, keys, 0.4, groups).any()
    assert not draw_mask(values, torch.zeros_like(present), keys, 0.4, groups).any()


def test_ratios_are_uniform_and_belong_to_their_mini_batch():
    ratios = np.array([draw_ratio(3, epoch, batch) for epoch in range(20) for batch in range(100)])
    assert ratios.min() >= 0.05
    assert ratios.max() <= 0.40
    counts, _ = np.histogram(ratios, bins=7, range=(0.05, 0.40))
    assert np.abs(counts - 2000 / 7).max() < 5 * (2000 / 7) ** 0.5
    assert len(set(ratios)) == 2000
    assert draw_ratio(3, 4, 5) == draw_ratio(3, 4, 5)
    assert draw_ratio(4, 4, 5) != draw_ratio(3, 4, 5)
    assert draw_ratio(3, 4, 5, 0.2, 0.2) == 0.2


def loss_by_loop(predicted, values, masked, groups):
    means = []
    for code in sorted(set(groups)):
        errors = [
            (predicted[b, f] - values[b, f]) ** 2
            for b, f in np.ndindex(values.shape)
            if masked[b, f] and groups[f] == code
        ]
        if errors:
            means.append(np.mean(errors))
    return np.mean(means) if means else 0.0


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(1, 4),
    features=st.integers(1, 9),
    seed=st.integers(0, 99),
    ratio=st.sampled_from([0, 0.2, 0.9]),
)
def test_the_loss_is_the_loop_over_groups(rows, features, seed, ratio):
    rng = np.random.default_rng(seed)
    predicted, values = rng.normal(size=(2, rows, features))
    masked, groups = rng.random((rows, features)) < ratio, rng.integers(0, features, features)
    tensors = [torch.from_numpy(x) for x in (predicted, values, masked)]
    found = masked_loss(*tensors, torch.from_numpy(groups))
    assert found.item() == pytest.approx(loss_by_loop(predicted, values, masked, groups))
    pooled = masked_loss(*tensors)
    expected = ((predicted - values)[masked] ** 2).mean() if masked.any() else 0.0
    assert pooled.item() == pytest.approx(expected)


def test_small_groups_count_as_much_as_large_ones_only_as_described():
    values, masked = torch.zeros(1, 4), torch.ones(1, 4, dtype=torch.bool)
    predicted, groups = torch.tensor([[1.0, 1.0, 1.0, 3.0]]), torch.tensor([0, 0, 0, 1])
    assert masked_loss(predicted, values, masked, groups).item() == 5.0
    assert masked_loss(predicted, values, masked).item() == 3.0


def test_only_masked_values_have_gradients_and_absent_ones_may_be_anything():
    predicted = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    values = torch.tensor([[0.0, float("nan"), float("inf")]])
    masked = torch.tensor([[True, False, False]])
    for groups in (None, torch.tensor([0, 1, 1])):
        loss = masked_loss(predicted, values, masked, groups)
        (gradient,) = torch.autograd.grad(loss, predicted)
        assert loss.item() == 1.0
        assert gradient.tolist() == [[2.0, 0.0, 0.0]]
        nothing = masked_loss(predicted, values, torch.zeros_like(masked), groups)
        (gradient,) = torch.autograd.grad(nothing, predicted)
        assert nothing.item() == 0.0
        assert not gradient.any()


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match=r"\(2, 3\), present \(2, 4\)"):
        draw_mask(torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool), torch.zeros(2, dtype=torch.int64), 0.2)
    with pytest.raises(SpecError, match="masking ratio is from 0.4 to 0.1"):
        draw_ratio(0, 0, 0, 0.4, 0.1)
