"""16-bit TIFFs of the LINCS pilot to 8-bit images, the way its compressed set was made.

The compressed set was made with DeepProfiler (``illumination_statistics.py``, ``illumination_correction.py``,
``compression.py``; illumination after Singh et al. 2014, J. Microscopy 256): divide by the plate's illumination
function, halve the size, clip each image at its 0.05th and 99.95th percentile, stretch to 0..255. The percentiles
agree with 225 of the 900 published example images (neural-profiling, LINCS_example_data): in each, 585 to 610 of
1080 x 1080 pixels are 255, which is 0.05 %, so the clip was by image, not by plate.

What nobody could check: DeepProfiler estimates the illumination from all images of a plate, here only those that
are fetched are used; it also lowers the upper limit to the plate's 99.99th percentile, which shows in none of the
examples and is left out; it halves with a Gaussian and interpolation, here by means of 2 x 2 blocks.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from morphobench.images.decode import decode_image

# The plate's mean image is kept at a quarter of the size; the median's disk has 24 of its 540 pixels.
SHRINK = 4
MEDIAN = 24 / 540
CLIP = (0.05, 99.95)
# A mean of fewer images still shows their cells, and dividing by it would erase cells.
FEWEST = 50


class MeanImages:
    """Sums of shrunken images by channel."""

    def __init__(self, channels: int) -> None:
        self.sums: list[np.ndarray | None] = [None] * channels
        self.counts = [0] * channels

    def add(self, channel: int, image: np.ndarray) -> None:
        """Add one (H, W) uint16 image to the mean of its channel; one of another size is ignored."""
        small = block_means(image, SHRINK).astype(np.float64)
        total = self.sums[channel]
        if total is None:
            self.sums[channel] = small
        elif total.shape == small.shape:
            total += small
        else:
            return
        self.counts[channel] += 1

    def illumination(self, channel: int) -> np.ndarray | None:
        """Return the illumination function of a channel (see :func:`illumination`), None if too few images."""
        if self.counts[channel] < FEWEST:
            return None
        return illumination(self.sums[channel] / self.counts[channel])


def illumination(mean: np.ndarray) -> np.ndarray:
    """Return what to divide images by, at the size of ``mean``.

    Parameters
    ----------
    mean
        (h, w) mean image of a plate and channel.

    Returns
    -------
    ndarray
        (h, w) float32, 1 or more: the median over a disk, divided by its 2nd percentile, at least 1.
    """
    from scipy.ndimage import median_filter
    from skimage.morphology import disk

    radius = max(1, round(mean.shape[0] * MEDIAN / 2))
    smooth = median_filter(mean.astype(np.float32), footprint=disk(radius), mode="reflect")
    lowest = max(float(np.percentile(smooth, 2)), 1e-6)
    return np.maximum(smooth / lowest, 1).astype(np.float32)


def block_means(image: np.ndarray, block: int) -> np.ndarray:
    """Return the means of ``block`` x ``block`` pixels as float32; rows and columns that fill no block are cut."""
    height, width = (n - n % block for n in image.shape)
    blocks = image[:height, :width].reshape(height // block, block, width // block, block)
    return blocks.mean(axis=(1, 3), dtype=np.float32)


def compress(image: np.ndarray, correction: np.ndarray | None) -> np.ndarray:
    """Return the 8-bit image of half the size.

    Parameters
    ----------
    image
        (H, W) uint16.
    correction
        (H / 4, W / 4) illumination function of its plate and channel, or None for none.

    Returns
    -------
    ndarray
        (H / 2, W / 2) uint8; all 0 if the image is constant between its percentiles.
    """
    half = block_means(image, 2)
    if correction is not None:
        half /= enlarged(correction, half.shape)
    low, high = np.percentile(half, CLIP)
    if high <= low:
        return np.zeros(half.shape, np.uint8)
    return np.rint(np.clip((half - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def enlarged(correction: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a smooth (h, w) function at a larger ``shape``, linear between the centres of its pixels."""
    result = correction
    for axis, size in enumerate(shape):
        old = result.shape[axis]
        places = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        below = np.minimum(places.astype(int), max(old - 2, 0))
        weight = (places - below).astype(np.float32)
        weight = weight[:, None] if axis == 0 else weight[None, :]
        above = np.minimum(below + 1, old - 1)
        result = np.take(result, below, axis) * (1 - weight) + np.take(result, above, axis) * weight
    return result


def mean_images(
    contents: Iterable[tuple[int, bytes, str]], channels: int, shape: tuple[int, int] | None
) -> MeanImages:
    """Return the mean images of ``(channel, bytes, name)``; images that cannot be decoded are skipped here.

    They are listed when they are read for the samples.
    """
    from morphobench.errors import DataError

    means = MeanImages(channels)
    for channel, content, name in contents:
        try:
            means.add(channel, decode_image(content, name, dtype=np.uint16, shape=shape))
        except DataError:
            continue
    return means
