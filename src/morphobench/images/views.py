"""The numbers and colours behind the pictures of an image store: merged channels, values of wells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from morphobench.images.folds import natural_key
from morphobench.images.store import ImageStore

IMAGES_PER_WELL = 24
STRETCH = (0.5, 99.7)
GAMMA = 1.3
NUCLEI = re.compile(r"dna|hoechst|dapi|nucle", re.IGNORECASE)


def spread(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most ``most`` items, evenly spaced, first and last among them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def stretch_limits(images: np.ndarray) -> np.ndarray:
    """Return (C, 2) values to show as black and as full colour: two percentiles per channel over all images.

    Parameters
    ----------
    images
        (B, C, H, W).
    """
    flat = np.moveaxis(images, 1, 0).reshape(images.shape[1], -1)
    limits = np.percentile(flat, STRETCH, axis=1).T
    limits[:, 1] = np.maximum(limits[:, 1], limits[:, 0] + 1)
    return limits


def merge_channels(image: np.ndarray, colours: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return an (..., H, W, 3) picture in 0..1: each channel in its colour, blended by screen.

    Screen blending, 1 - (1 - a)(1 - b), adds light without clipping. A gamma of 1.3 keeps six channels from
    adding up to white.

    Parameters
    ----------
    image
        (..., C, H, W).
    colours
        (C, 3) in 0..1.
    limits
        (C, 2), see :func:`stretch_limits`.
    """
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    light = np.clip((image - low) / (high - low), 0, 1)
    light = light if len(colours) == 1 else light**GAMMA
    dark = np.ones((*image.shape[:-3], *image.shape[-2:], 3))
    for channel, colour in enumerate(colours):
        dark *= 1 - light[..., channel, :, :, None] * colour
    return 1 - dark


def choose_treatments(samples: pd.DataFrame, label: str, rows: str, most: int) -> list[str]:
    """Return treatments to show: the negative control of most images first, then those in the most rows.

    Where many treatments are in as many rows, as in screens with all treatments on every batch, they are spread
    over the list in its natural order.
    """
    negative = samples["Metadata_Control"] == "negcon"
    controls = samples.loc[negative, label].value_counts()
    first = sorted(controls.index[controls == controls.max()], key=natural_key)[:1] if len(controls) else []
    counts = samples[~negative].groupby(label)[rows].nunique()
    chosen: list[str] = []
    for count in sorted(counts.unique(), reverse=True):
        names = sorted(counts.index[counts == count], key=natural_key)
        chosen += spread(names, most - len(first) - len(chosen))
    return [*first, *chosen]


def count_nuclei(image: np.ndarray) -> int:
    """Return a rough number of nuclei: objects above Otsu's threshold after slight smoothing.

    Objects smaller than a fifth of the median one are left out; nuclei that touch count as one, so crowded images
    are undercounted. Good for seeing gradients over a plate, not for biology.

    Parameters
    ----------
    image
        (H, W) channel with nuclei.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1.0)
    if smooth.max() == smooth.min():
        return 0
    labels, count = ndimage.label(smooth > threshold_otsu(smooth))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return int((areas >= max(4.0, np.median(areas) / 5)).sum()) if count else 0


def well_place(well: str) -> tuple[int, int] | None:
    """Return row and column from 0 of a well such as ``B07`` or ``AF48``; None if it is not named so."""
    match = re.fullmatch(r"([A-Z]{1,2})0*([1-9]\d?)", str(well).upper())
    if not match:
        return None
    row = 0
    for letter in match[1]:
        row = 26 * row + ord(letter) - 64
    return row - 1, int(match[2]) - 1


def plate_values(
    store: ImageStore, plate: str, channels: Sequence[Mapping[str, Any]], most: int = IMAGES_PER_WELL
) -> tuple[pd.DataFrame, str]:
    """Return mean intensities and cell counts of the wells of one plate, and what the count is.

    Parameters
    ----------
    store
        The images.
    plate
        The plate.
    channels
        Channels of the spec.
    most
        At most this many images of a well are read, evenly spaced over its samples.

    Returns
    -------
    DataFrame
        Index: wells. Columns: names of the channels (mean pixel value), ``negcon`` (whether nothing else is in
        the well), and ``count`` where there is one: number of samples where these are cells (there is a channel
        of nuclei, and ``Metadata_Cell`` or ``Metadata_Tile``), else the mean of ``Metadata_CellCount``, else the
        mean of :func:`count_nuclei` in the first channel whose name or stain tells of nuclei.
    str
        The unit of ``count``; empty without one.
    """
    samples = store.samples[store.samples["Metadata_Plate"] == plate]
    nuclei = [i for i, c in enumerate(channels) if NUCLEI.search(f"{c['name']} {c.get('stain', '')}")]
    if nuclei and {"Metadata_Cell", "Metadata_Tile"} & set(samples):
        unit = "cells"
    elif "Metadata_CellCount" in samples:
        unit = "cells per image"
    else:
        unit = "nuclei per image" if nuclei else ""
    rows = {}
    for well, part in samples.groupby("Metadata_Well", sort=True):
        images = store.take(spread(part.index.to_numpy(), most))
        row: dict[str, Any] = dict(zip(store.channels, images.mean(axis=(0, 2, 3)), strict=True))
        row["negcon"] = (part["Metadata_Control"] == "negcon").all()
        if unit == "cells":
            row["count"] = len(part)
        elif unit == "cells per image":
            row["count"] = part["Metadata_CellCount"].mean()
        elif unit:
            row["count"] = np.mean([count_nuclei(image[nuclei[0]]) for image in images])
        rows[well] = row
    return pd.DataFrame.from_dict(rows, orient="index"), unit
