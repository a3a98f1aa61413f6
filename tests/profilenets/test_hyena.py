"""The long convolution against sums over offsets, and the operator and its filter against their formulas."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from morphobench.errors import DataError, SpecError
from morphobench.profilenets.hyena import Hyena, ImplicitFilter, fft_convolution

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def direct_convolution(u, kernel, bias):
    """The definition: a (L, L) matrix of the filter at offsets t - s for each channel."""
    length = u.shape[-1]
    steps = torch.arange(length)
    matrix = kernel[:, length - 1 + steps[:, None] - steps]
    return torch.einsum("wts,bws->bwt", matrix, u) + bias[:, None] * u


def loop_convolution(u, kernel, bias):
    """The definition once more, one product at a time."""
    u, kernel, bias = u.numpy(), kernel.numpy(), bias.numpy()
    batch, width, length = u.shape
    y = np.zeros_like(u)
    for b, w, t in np.ndindex(batch, width, length):
        y[b, w, t] = bias[w] * u[b, w, t]
        for s in range(length):
            y[b, w, t] += kernel[w, length - 1 + t - s] * u[b, w, s]
    return torch.from_numpy(y)


def test_the_reference_is_the_double_loop():
    u, kernel, bias = drawn(2, 3, 7), drawn(3, 13, seed=1), drawn(3, seed=2)
    torch.testing.assert_close(direct_convolution(u, kernel, bias), loop_convolution(u, kernel, bias))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@settings(deadline=None, max_examples=25)
@given(length=st.integers(1, 70), batch=st.integers(1, 3), width=st.integers(1, 4), seed=st.integers(0, 99))
def test_convolution_and_its_gradients_are_the_direct_ones(dtype, length, batch, width, seed):
    arguments = [
        drawn(batch, width, length, seed=seed, dtype=dtype),
        drawn(width, 2 * length - 1, seed=seed + 1, dtype=dtype),
        drawn(width, seed=seed + 2, dtype=dtype),
    ]
    weight = drawn(batch, width, length, seed=seed + 3, dtype=dtype)
    ours = [x.clone().requires_grad_() for x in arguments]
    theirs = [x.double().requires_grad_() for x in arguments]
    y, expected = fft_convolution(*ours), direct_convolution(*theirs)
    assert y.dtype == dtype
    gradients = torch.autograd.grad((y * weight).sum(), ours)
    expected_gradients = torch.autograd.grad((expected * weight.double()).sum(), theirs)
    for found, wanted in zip((y, *gradients), (expected, *expected_gradients), strict=True):
        # Relative to the largest value: sums of many terms may cancel.
        error = (found.double() - wanted).abs().max() / wanted.abs().max().clamp_min(1)
        assert error.item() < TOLERANCE[dtype]


@pytest.mark.parametrize("length", [1, 2, 5, 8, 9, 14, 61])
def test_nothing_wraps_around(length):
    # Impulses at both ends, and a filter whose every offset has a value of its own.
    kernel = torch.arange(1.0, 2 * length, dtype=torch.float64)[None]
    for place in (0, length - 1):
        u = torch.zeros(1, 1, length, dtype=torch.float64)
        u[..., place] = 1
        y = fft_convolution(u, kernel, torch.zeros(1, dtype=torch.float64))[0, 0]
        torch.testing.assert_close(y, kernel[0, length - 1 - place : 2 * length - 1 - place])


def test_gradient_checks_numerically():
    arguments = [drawn(2, 2, 6), drawn(2, 11, seed=1), drawn(2, seed=2)]
    assert torch.autograd.gradcheck(fft_convolution, [x.requires_grad_() for x in arguments])


def test_half_precision_is_convolved_in_float32():
    u, kernel, bias = drawn(1, 2, 9, dtype=torch.bfloat16), drawn(2, 17, seed=1), drawn(2, seed=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = fft_convolution(u, kernel.float(), bias.float())
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, direct_convolution(u.double(), kernel, bias).float(), atol=1e-5, rtol=1e-5)


def test_a_filter_of_another_length_is_refused():
    with pytest.raises(DataError, match="filter has length 9, expected 11 for 6 tokens"):
        fft_convolution(torch.zeros(1, 2, 6), torch.zeros(2, 9), torch.zeros(2))


def filter_by_formula(made, bands, window, shift=0.05):
    """The filter, one offset at a time, from the layers' weights in numpy."""
    weights = {name: value.detach().double().numpy() for name, value in made.state_dict().items()}
    layers = [weights[f"network.{k}.weight"] for k in (0, 2, 4, 6)]
    biases = [weights[f"network.{k}.bias"] for k in (0, 2, 4)]
    frequency = weights["network.1.frequency"]
    length, width = made.length, made.width
    slow, fast = math.log(100) / 1.5, math.log(100) / 0.3
    columns = []
    for offset in range(1 - length, length):
        place = offset / (length - 1)
        angles = [2 * math.pi * f * offset / length for f in bands]
        h = np.array([place, *np.cos(angles), *(-np.sin(angles))])
        for layer, bias in zip(layers[:3], biases, strict=True):
            h = np.sin(frequency * (layer @ h + bias))
        distance = abs(place) if window == "two_sided" else place
        rates = np.linspace(slow, fast, width)
        columns.append(layers[3] @ h * (np.exp(-rates * distance) + shift))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("window", ["two_sided", "one_sided"])
@pytest.mark.parametrize("bands", [(1e-4, 1e-4), (1e-4, 1.0)])
def test_the_filter_has_its_formula(window, bands):
    torch.manual_seed(0)
    made = ImplicitFilter(6, 11, hidden=8, window=window, bands=bands)
    assert made(11).shape == (6, 21)
    expected = filter_by_formula(made, bands, window)
    np.testing.assert_allclose(made(11).detach().numpy(), expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_published_sizes_of_the_filter():
    made = ImplicitFilter(256, 3257)
    assert made.features.shape == (6513, 5)
    shapes = [tuple(layer.weight.shape) for layer in made.network if isinstance(layer, nn.Linear)]
    assert shapes == [(64, 5), (64, 64), (64, 64), (256, 64)]
    assert made.network[6].bias is None
    assert made.network[1] is made.network[3] is made.network[5]
    assert made.network[1].frequency.tolist() == [10.0] * 64


def test_a_window_fades_both_ways_or_grows_towards_later_tokens():
    both, one = (ImplicitFilter(4, 50, window=window) for window in ("two_sided", "one_sided"))
    fade = torch.exp(-both.distance[:, None] * both.rates)
    torch.testing.assert_close(fade, fade.flip(0))
    # At 0.3 of the sequence's length the fastest channel is down to the target, at 1.5 the slowest would be.
    np.testing.assert_allclose(np.exp(-0.3 * float(both.rates[-1])), 0.01, rtol=1e-5)
    np.testing.assert_allclose(np.exp(-1.5 * float(both.rates[0])), 0.01, rtol=1e-5)
    assert torch.exp(-one.distance[:, None] * one.rates).max().item() == pytest.approx(
        0.01 ** (-1 / 0.3), rel=1e-4
    )


def test_a_shorter_sequence_gets_the_middle_of_the_filter():
    made = ImplicitFilter(3, 9)
    torch.testing.assert_close(made(4), made(9)[:, 5:12])
    assert made(1).shape == (3, 1)
    with pytest.raises(DataError, match="sequence has 10 tokens, expected 1 to 9"):
        made(10)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize(("length", "most"), [(10, 10), (7, 7), (6, 10)])
def test_the_operator_is_gates_around_direct_convolutions(order, length, most):
    torch.manual_seed(1)
    width = 4
    made = Hyena(width, most, order=order).double()
    x = drawn(2, length, width).requires_grad_()
    inner = x @ made.in_proj.weight.T + made.in_proj.bias
    early = nn.functional.pad(inner, (0, 0, 2, 0))
    taps = made.short.weight[:, 0]
    smooth = sum(taps[:, k] * early[:, k : k + length] for k in range(3)) + made.short.bias
    *gates, v = smooth.transpose(1, 2).split(width, dim=1)
    kernels, biases = made.filter(length).reshape(order - 1, width, -1), made.filter.bias.reshape(order - 1, width)
    for number in range(order - 1):
        v = direct_convolution(gates[order - 1 - number] * v, kernels[number], biases[number])
    expected = (gates[0] * v).transpose(1, 2) @ made.out_proj.weight.T + made.out_proj.bias
    found = made(x)
    torch.testing.assert_close(found, expected)
    weight = drawn(2, length, width, seed=5)
    wanted = [x, *made.parameters()]
    ours = torch.autograd.grad((found * weight).sum(), wanted, retain_graph=True)
    theirs = torch.autograd.grad((expected * weight).sum(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_every_token_sees_every_other_in_both_directions():
    torch.manual_seed(2)
    made = Hyena(3, 8).double()
    x = drawn(1, 8, 3).requires_grad_()
    y = made(x)
    for t in range(8):
        (gradient,) = torch.autograd.grad(y[0, t].sum(), x, retain_graph=True)
        assert (gradient.abs().sum(-1) > 0).all()


def test_wrong_options_are_refused():
    with pytest.raises(SpecError, match="window is 'round', expected one of two_sided, one_sided"):
        Hyena(2, 4, window="round")
    with pytest.raises(SpecError, match="order is 1, expected 2 or more"):
        Hyena(2, 4, order=1)
    with pytest.raises(SpecError, match="length is 0"):
        ImplicitFilter(2, 0)
