"""Tiles of the pooled screen: stacks projected, channels registered and clipped, cells cut out (mcVAE, A.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from morphobench.errors import DataError

CHANNELS = ("A594", "AF750", "DAPI-GFP_0", "DAPI-GFP_1")
FILES = ("DAPI-GFP", "A594", "AF750")


def project(pages: np.ndarray, channels: int, where: str) -> np.ndarray:
    """Project a stack along z by its maximum.

    Parameters
    ----------
    pages
        (Z * channels, H, W), z slowest; or (Z, channels * H, W), channels below each other.
    channels
        Number of channels, 1 or more.
    where
        The file's name, for errors.

    Returns
    -------
    ndarray
        (channels, H, W) of the same type. Tiles are square, which tells the two layouts apart.
    """
    n, height, width = pages.shape
    if height == width and n % channels == 0:
        return pages.reshape(n // channels, channels, height, width).max(axis=0)
    if height == channels * width:
        return pages.reshape(n, channels, width, width).max(axis=0)
    raise DataError(
        f"{where}: {n} pages of {height} x {width}, expected square pages of {channels} channels at each z"
    )


def find_shift(
    reference: np.ndarray,
    moving: np.ndarray,
    upsample: int = 1,
    normalization: str | None = None,
    window: float = 1,
) -> tuple[float, float]:
    """Find by phase cross-correlation how far a channel must be moved to lie on another.

    Parameters
    ----------
    reference, moving
        (H, W).
    upsample
        1 for whole pixels, n for n-ths of a pixel.
    normalization
        ``phase`` gives all frequencies the same weight, None leaves them as strong as they are. Stains of
        different structures agree in their low frequencies alone, and None is what scikit-image did when the
        screen was made.
    window
        The central part that is compared, as the whole side over the part's: 2 for half of each side.

    Returns
    -------
    tuple of float
        Shift down and to the right, as :func:`move` takes it.
    """
    from skimage.registration import phase_cross_correlation

    height, width = reference.shape
    top, left = (int(size / 2 * (1 - 1 / window)) for size in (height, width))
    inner = (slice(top, height - top), slice(left, width - left))
    shift, _, _ = phase_cross_correlation(
        reference[inner].astype(np.float32),
        moving[inner].astype(np.float32),
        upsample_factor=upsample,
        normalization=normalization,
    )
    return float(shift[0]), float(shift[1])


def move(image: np.ndarray, shift: tuple[float, float]) -> np.ndarray:
    """Move an image (H, W) down and to the right; what comes in from outside repeats the border.

    Whole pixels leave the counts as they are; parts of pixels are interpolated linearly and rounded.
    """
    if all(part == round(part) for part in shift):
        rows, columns = (
            np.clip(np.arange(size) - round(part), 0, size - 1)
            for size, part in zip(image.shape, shift, strict=True)
        )
        return image[rows[:, None], columns[None, :]]
    from scipy.ndimage import shift as interpolate

    moved = interpolate(image.astype(np.float32), shift, order=1, mode="nearest")
    return np.rint(moved).astype(image.dtype)


def register(
    tile: np.ndarray,
    steps: Sequence[Mapping[str, Any]],
    farthest: float,
    where: str,
    upsample: int = 1,
    normalization: str | None = None,
    window: float = 1,
) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """Register channels of a tile.

    Parameters
    ----------
    tile
        (4, H, W) in the order of :data:`CHANNELS`.
    steps
        One mapping a step: ``reference`` and ``source``, names of channels, and ``riders``, channels that are
        moved with the source because they were taken with it.
    farthest
        The largest shift in pixels that is believed.
    where
        The tile's name, for errors.
    upsample, normalization, window
        See :func:`find_shift`.

    Returns
    -------
    ndarray
        The registered tile.
    dict
        The shift of each source.

    Raises
    ------
    DataError
        If a shift is larger than ``farthest``: then the correlation has no peak worth the name.
    """
    tile, shifts = tile.copy(), {}
    for step in steps:
        reference, source = step["reference"], step["source"]
        pair = tile[CHANNELS.index(reference)], tile[CHANNELS.index(source)]
        shift = find_shift(*pair, upsample, normalization, window)
        if max(map(abs, shift)) > farthest:
            raise DataError(
                f"{where}: {source} would be moved by ({shift[0]:g}, {shift[1]:g}) px to lie on {reference}, "
                f"at most {farthest:g} are believed"
            )
        shifts[source] = shift
        for name in (source, *(step.get("riders") or ())):
            tile[CHANNELS.index(name)] = move(tile[CHANNELS.index(name)], shift)
    return tile, shifts


def clip_tails(image: np.ndarray, share: float) -> np.ndarray:
    """Clip the lowest and the highest ``share`` of the pixels of a uint16 image to the counts at those quantiles.

    The quantiles are counts that occur (the inverse of the cumulative histogram), so results are exact.
    """
    if share == 0:
        return image
    histogram = np.cumsum(np.bincount(image.ravel(), minlength=1))
    low, high = (int(np.searchsorted(histogram, q * image.size)) for q in (share, 1 - share))
    return np.clip(image, low, high)


def inside(positions: np.ndarray, crop: int, tile: int) -> np.ndarray:
    """Return which cells have a whole crop in a square tile.

    Parameters
    ----------
    positions
        (n, 2) centres (y, x) in pixels.
    crop, tile
        Sides in pixels.

    Returns
    -------
    ndarray
        (n,) bool.
    """
    corner = corners(positions, crop)
    return ((corner >= 0) & (corner + crop <= tile)).all(axis=1)


def corners(positions: np.ndarray, crop: int) -> np.ndarray:
    """Return the upper left corners (n, 2) of crops whose centre pixel (``crop // 2``) is nearest to a cell's."""
    return np.floor(positions + 0.5).astype(np.int64) - crop // 2


def cut(tile: np.ndarray, corner: np.ndarray, crop: int) -> np.ndarray:
    """Return one crop (C, crop, crop) of a tile (C, H, W), C-contiguous."""
    y, x = int(corner[0]), int(corner[1])
    return np.ascontiguousarray(tile[:, y : y + crop, x : x + crop])


def well_grid(columns: Sequence[int]) -> np.ndarray:
    """Return where the tiles of a round well lie: (tiles, 2) row and column in the grid, by tile number.

    The stage goes down the first column, up the second, and so on; columns are centred.

    Parameters
    ----------
    columns
        Number of tiles of each column.
    """
    tallest = max(columns)
    places = []
    for column, count in enumerate(columns):
        rows = np.arange(count) + (tallest - count) // 2
        places.append(np.stack([rows if column % 2 == 0 else rows[::-1], np.full(count, column)], axis=1))
    return np.concatenate(places)
