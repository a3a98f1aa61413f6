import numpy as np
import pytest
from scipy.ndimage import generic_filter
from skimage.morphology import disk

from morphobench.datasets.lincs_tiff import FEWEST, block_means, compress, enlarged, illumination, mean_images

from .handmade import tiff


def gradient(size):
    """A smooth field from 1 to 2, from left to right."""
    return np.tile(1 + np.linspace(0, 1, size), (size, 1))


def test_each_image_is_clipped_at_its_own_percentiles():
    rng = np.random.default_rng(0)
    for scale in (1, 20):
        image = (rng.gamma(2, 300, (200, 200)) * scale).clip(0, 65535).astype(np.uint16)
        got = compress(image, None)
        half = image.reshape(100, 2, 100, 2).mean(axis=(1, 3))
        low, high = np.percentile(half, (0.05, 99.95))
        expected = np.round((np.clip(half, low, high) - low) / (high - low) * 255)
        assert got.dtype == np.uint8
        assert np.abs(got.astype(int) - expected).max() <= 1
        # 0.05 % of 10,000 pixels, and those that round to 255.
        assert 5 <= np.count_nonzero(got == 255) <= 12
        assert got.min() == 0


def test_an_empty_image_gives_zeros():
    assert not compress(np.full((8, 8), 700, np.uint16), None).any()


def test_illumination_is_the_median_over_a_disk_by_its_low_percentile():
    mean = 1000 * gradient(45) + np.random.default_rng(0).normal(0, 20, (45, 45))
    # 45 pixels: the radius is 12 of 540, so 1.
    smooth = generic_filter(mean, np.median, footprint=disk(1), mode="reflect")
    expected = np.maximum(smooth / np.percentile(smooth, 2), 1)
    np.testing.assert_allclose(illumination(mean), expected, rtol=1e-5)
    assert illumination(mean).min() == 1


def test_a_gradient_over_the_plate_is_removed():
    rng = np.random.default_rng(1)
    field = gradient(80)
    images = [(rng.uniform(500, 1500, (80, 80)) * field).astype(np.uint16) for _ in range(FEWEST)]
    means = mean_images(((1, tiff(i), "x") for i in images), 3, (80, 80))
    assert means.counts == [0, FEWEST, 0]
    assert means.illumination(0) is None

    def slope(correction):
        columns = np.mean([compress(i, correction).mean(axis=0) for i in images], axis=0)
        return columns[-10:].mean() / columns[:10].mean()

    assert slope(None) > 1.8
    assert 0.9 < slope(means.illumination(1)) < 1.1


def test_few_images_give_no_illumination_and_bad_ones_are_passed_over():
    good = tiff(np.random.default_rng(0).integers(1, 900, (16, 16)).astype(np.uint16))
    contents = [(0, good, "a")] * (FEWEST - 1) + [(0, good[:200], "b"), (0, b"", "c")]
    means = mean_images(contents, 1, (16, 16))
    assert means.counts == [FEWEST - 1]
    assert means.illumination(0) is None


def test_enlarging_keeps_a_plane_and_the_range():
    plane = np.add.outer(np.arange(6.0), 2 * np.arange(8.0)).astype(np.float32)
    big = enlarged(plane, (12, 16))
    places = (np.arange(12) + 0.5) / 2 - 0.5, (np.arange(16) + 0.5) / 2 - 0.5
    expected = np.add.outer(places[0], 2 * places[1])
    np.testing.assert_allclose(big[1:-1, 1:-1], expected[1:-1, 1:-1], rtol=1e-5)
    assert big.min() == plane.min()
    assert big.max() == plane.max()
    np.testing.assert_array_equal(enlarged(np.full((1, 1), 3.0, np.float32), (4, 4)), 3)


@pytest.mark.parametrize("shape", [(8, 8), (9, 11)])
def test_block_means(shape):
    image = np.random.default_rng(0).integers(0, 65535, shape).astype(np.uint16)
    means = block_means(image, 4)
    assert means.shape == (2, 2)
    np.testing.assert_allclose(means[1, 0], image[4:8, 0:4].mean(), rtol=1e-6)
