import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.datasets.funk22_tiles import clip_tails, corners, cut, find_shift, inside, move, project, register
from morphobench.errors import DataError


@settings(deadline=None, max_examples=25)
@given(st.integers(-15, 15), st.integers(-15, 15), st.integers(0, 1000))
def test_a_planted_shift_is_found_and_undone(down, right, seed):
    rng = np.random.default_rng(seed)
    scene = np.zeros((160, 160), np.float32)
    for y, x in rng.integers(0, 160, (40, 2)):
        scene[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5] += rng.uniform(50, 200)
    noisy = (scene + rng.normal(100, 5, scene.shape)).clip(0).astype(np.uint16)
    other = (0.5 * scene + rng.normal(300, 5, scene.shape)).clip(0).astype(np.uint16)
    reference, moving = noisy[16:144, 16:144], other[16 + down : 144 + down, 16 + right : 144 + right]
    assert find_shift(reference, moving) == (down, right)
    undone = move(moving, (down, right))
    inner = slice(16, 112)
    np.testing.assert_array_equal(undone[inner, inner], other[16:144, 16:144][inner, inner])


@settings(deadline=None, max_examples=20)
@given(st.integers(-9, 9), st.integers(-9, 9))
def test_moving_by_whole_pixels_repeats_the_border(down, right):
    image = np.arange(12 * 13, dtype=np.uint16).reshape(12, 13)
    padded = np.pad(image, 10, mode="edge")
    np.testing.assert_array_equal(
        move(image, (down, right)), padded[10 - down : 22 - down, 10 - right : 23 - right]
    )


def test_moving_by_half_a_pixel_interpolates():
    image = np.tile(np.arange(0, 100, 10, dtype=np.uint16), (4, 1))
    moved = move(image, (0.0, 0.5))
    assert moved.dtype == np.uint16
    np.testing.assert_array_equal(moved[:, 1:], image[:, 1:] - 5)


def test_riders_move_with_their_source_and_an_absurd_shift_is_refused():
    rng = np.random.default_rng(0)
    scene = np.zeros((96, 96), np.uint16)
    scene[rng.integers(0, 96, 60), rng.integers(0, 96, 60)] = 1000
    tile = np.stack(
        [np.roll(scene, (-3, 5), (0, 1)), rng.integers(0, 9, scene.shape).astype(np.uint16), scene, scene]
    )
    steps = [{"reference": "DAPI-GFP_0", "source": "A594", "riders": ["AF750"]}]
    registered, shifts = register(tile, steps, 40, "tile")
    assert shifts == {"A594": (3.0, -5.0)}
    np.testing.assert_array_equal(registered[0, 10:-10, 10:-10], scene[10:-10, 10:-10])
    np.testing.assert_array_equal(registered[1], move(tile[1], (3, -5)))
    np.testing.assert_array_equal(registered[2:], tile[2:])
    with pytest.raises(DataError, match=r"tile 7: A594 would be moved by \(3, -5\) px .* at most 4"):
        register(tile, steps, 4, "tile 7")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0, 0.2))
def test_clipping_is_at_the_quantiles(seed, share):
    image = np.random.default_rng(seed).integers(0, 2000, (37, 41)).astype(np.uint16)
    low, high = np.quantile(image, [share, 1 - share], method="inverted_cdf")
    np.testing.assert_array_equal(clip_tails(image, share), np.clip(image, low, high))


def test_projection_knows_both_layouts():
    stack = np.random.default_rng(0).integers(0, 99, (3, 2, 8, 8)).astype(np.uint16)
    expected = stack.max(axis=0)
    np.testing.assert_array_equal(project(stack.reshape(6, 8, 8), 2, "x"), expected)
    np.testing.assert_array_equal(project(stack.reshape(3, 16, 8), 2, "x"), expected)
    with pytest.raises(DataError, match="x: 5 pages of 8 x 8, expected square pages of 2 channels"):
        project(np.zeros((5, 8, 8), np.uint16), 2, "x")


@settings(deadline=None, max_examples=60)
@given(st.floats(-2, 66), st.floats(-2, 66))
def test_only_whole_crops_are_inside(y, x):
    tile = np.arange(64 * 64, dtype=np.uint16).reshape(1, 64, 64)
    position = np.array([[y, x]])
    corner = corners(position, 10)[0]
    whole = all(c >= 0 and c + 10 <= 64 for c in corner)
    assert inside(position, 10, 64)[0] == whole
    assert np.abs(corner + 5 - [y, x]).max() <= 0.5
    if whole:
        crop = cut(tile, corner, 10)
        assert crop.shape == (1, 10, 10)
        assert crop.flags.c_contiguous
        assert crop[0, 5, 5] == 64 * np.floor(y + 0.5) + np.floor(x + 0.5)
