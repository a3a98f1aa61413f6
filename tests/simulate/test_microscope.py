"""The microscope's set-up against closed forms on even light, and what normalising a plate leaves of it."""

from dataclasses import replace

import numpy as np
import pytest

from morphobench.simulate.microscope import Laboratory, Nuisance, expose

SIDE = 33


def exposed(light, **changed):
    """What the camera makes of even light in two channels, without noise."""
    even = np.broadcast_to(np.asarray(light, np.float32)[:, None, None], (2, SIDE, SIDE)).copy()
    nuisance = replace(Nuisance.none(2, noise=0.0), **changed)
    return expose(np.random.default_rng(0), even, nuisance).astype(float)


def test_a_set_up_that_changes_nothing_changes_nothing():
    plain = exposed([0.4, 0.2])
    same = exposed([0.4, 0.2], vignette=np.zeros(2), crosstalk=np.zeros(2), response=np.ones(2))
    np.testing.assert_array_equal(plain, same)
    assert np.ptp(plain[0]) < 1e-6


def test_crosstalk_adds_the_next_channels_light():
    dark = exposed([0.0, 0.2])
    leaked = exposed([0.0, 0.2], crosstalk=np.array([0.5, 0.0]))
    alone = exposed([0.1, 0.2])
    np.testing.assert_allclose(leaked, alone, atol=1e-6)
    assert leaked[0].mean() > dark[0].mean()


def test_a_response_is_a_power():
    plain, bent = exposed([0.4, 0.2]), exposed([0.4, 0.2], response=np.array([1.0, 1.5]))
    np.testing.assert_allclose(bent[0], plain[0], atol=1e-6)
    np.testing.assert_allclose(bent[1], plain[1] ** 1.5, atol=1e-5)


def test_vignetting_changes_light_from_the_middle_outwards():
    plain, vignetted = exposed([0.4, 0.2]), exposed([0.4, 0.2], vignette=np.array([-0.4, 0.0]))
    share = vignetted[0] / plain[0]
    middle = SIDE // 2
    # 1 + v (4 r^2 - 1/2): 1 - v/2 in the middle, 1 + v/2 at the middle of an edge, 1 + 3 v/2 in a corner.
    assert share[middle, middle] == pytest.approx(1.2, abs=1e-5)
    assert share[middle, 0] == pytest.approx(0.8, abs=1e-5)
    assert share[0, 0] == pytest.approx(0.4, abs=1e-5)
    np.testing.assert_allclose(vignetted[1], plain[1], atol=1e-6)


def test_an_instrument_is_of_its_batch_and_absent_at_strength_0():
    strengths = {"batch_strength": 0.0, "plate_strength": 0.0, "well_strength": 0.0, "noise": 1.0}
    still = Laboratory(seed=3, channels=2, **strengths)
    moved = Laboratory(seed=3, channels=2, **strengths, instrument_strength=1.0)
    rng = np.random.default_rng(0)
    light = rng.random((2, SIDE, SIDE)).astype(np.float32)

    def pixels(laboratory, batch, plate=0, well=0):
        image = expose(np.random.default_rng(1), light.copy(), laboratory.nuisance(batch, plate, well))
        # As plates are normalised: mean and standard deviation of each channel.
        return (image - image.mean((1, 2), keepdims=True)) / image.std((1, 2), keepdims=True)

    np.testing.assert_array_equal(pixels(still, 0), pixels(still, 1))
    np.testing.assert_array_equal(pixels(moved, 0, 0, 0), pixels(moved, 0, 1, 5))
    assert np.abs(pixels(moved, 0) - pixels(moved, 1)).mean() > 0.05
