"""Counter-based random numbers: the published generator, and what samples may rely on."""

import numpy as np
import torch
from scipy import stats

from morphobench.learning.randomness import normals, sample_keys, uniforms


def splitmix(state, count):
    """SplitMix64 in Python's whole numbers, as published."""
    mask = (1 << 64) - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield z ^ (z >> 31)


def test_numbers_are_those_of_splitmix64():
    # The first outputs for seed 1234567 are also those of the reference implementation in C.
    bits = list(splitmix(1234567, 5))
    assert bits[:2] == [6457827717110365317, 3203168211198807973]
    keys = torch.tensor([1234567, -5])
    found = uniforms(keys, 0, 5)
    np.testing.assert_array_equal(found[0], [(b >> 11) * 2.0**-53 for b in bits])
    np.testing.assert_array_equal(found[1], [(b >> 11) * 2.0**-53 for b in splitmix(2**64 - 5, 5)])
    np.testing.assert_array_equal(uniforms(keys, 2, 3), found[:, 2:])


def test_keys_depend_on_seed_epoch_and_sample_only():
    rows = np.arange(1000)
    keys = sample_keys(1, 2, rows)
    assert len(set(keys.tolist())) == 1000
    assert sample_keys(1, 2, rows[::-7]).tolist() == keys.flip(0)[::7].tolist()
    for other in (sample_keys(2, 1, rows), sample_keys(1, 3, rows), sample_keys(0, 2, rows)):
        assert not set(other.tolist()) & set(keys.tolist())


def test_distributions():
    keys = sample_keys(0, 0, np.arange(2000))
    u, n = uniforms(keys, 0, 10), normals(keys, 10, 10)
    assert stats.kstest(u.flatten(), "uniform").pvalue > 1e-3
    assert stats.kstest(n.flatten(), "norm").pvalue > 1e-3
    correlation = np.corrcoef(torch.cat([u, n], dim=1).T)
    assert np.abs(correlation - np.eye(20)).max() < 0.1
    # Samples whose rows follow each other have unrelated numbers.
    assert abs(np.corrcoef(u[:-1, 0], u[1:, 0])[0, 1]) < 0.1
