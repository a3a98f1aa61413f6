"""Pixel statistics: the simplest profiles of images, which learned representations are held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.datasets.collection import ANNOTATION_COLUMNS
from morphobench.errors import DataError
from morphobench.files import atomic_path
from morphobench.images.folds import SPLITS
from morphobench.images.store import ImageStore
from morphobench.profiles import Profiles, write_profiles

QUANTILES = (1, 25, 50, 75, 99)


def pixel_statistics(images: np.ndarray) -> np.ndarray:
    """Return statistics of each image's channels.

    Parameters
    ----------
    images
        (B, C, H, W) numbers.

    Returns
    -------
    numpy.ndarray
        (B, 8 C + C (C - 1) / 2) float32, named by :func:`statistic_names`: for each channel mean, standard
        deviation, five percentiles and the mean absolute difference of neighbouring pixels; then Pearson's
        correlation of each pair of channels over the pixels, 0 where a channel is constant.
    """
    pixels = np.asarray(images, dtype=np.float32)
    flat = pixels.reshape(*pixels.shape[:2], -1)
    mean, std = flat.mean(axis=2), flat.std(axis=2)
    steps = [np.abs(np.diff(pixels, axis=axis)).mean(axis=(2, 3)) for axis in (2, 3)]
    per_channel = [mean, std, *np.percentile(flat, QUANTILES, axis=2), (steps[0] + steps[1]) / 2]
    unit = (flat - mean[..., None]) / np.where(std > 0, std, 1)[..., None]
    products = unit @ unit.transpose(0, 2, 1) / flat.shape[2]
    first, second = np.triu_indices(pixels.shape[1], 1)
    by_channel = np.stack(per_channel, axis=2).reshape(len(pixels), -1)
    return np.concatenate([by_channel, products[:, first, second]], axis=1).astype(np.float32)


def statistic_names(channels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the statistics of some channels."""
    kinds = ("mean", "std", *(f"p{q:02d}" for q in QUANTILES), "gradient")
    names = [f"{channel}_{kind}" for channel in channels for kind in kinds]
    first, second = np.triu_indices(len(channels), 1)
    return (*names, *(f"correlation_{channels[i]}_{channels[j]}" for i, j in zip(first, second, strict=True)))


def write_pixel_profiles(
    store: str | Path,
    dataset: Mapping[str, Any],
    *,
    profiles: str | Path,
    annotations: str | Path,
    batch_size: int = 256,
) -> None:
    """Write the pixel statistics of all images of a store as profiles, and an empty table of gene sets.

    Parameters
    ----------
    store
        Folder of an image store; rows are its samples in their order.
    dataset
        ``id`` and ``source`` of the data set, for the provenance.
    profiles, annotations
        The files to write. ``Metadata_Split`` is what the reader gave; :func:`of_fold` says what a fold uses.
    batch_size
        Images in memory at a time.
    """
    images = ImageStore(store)
    starts = range(0, len(images), batch_size)
    found = [pixel_statistics(images.take(np.arange(s, min(s + batch_size, len(images))))) for s in starts]
    facts = {"dataset": dataset["id"], "source": dataset["source"], "features": "pixel statistics"}
    write_profiles(
        Profiles(images.samples, np.concatenate(found), statistic_names(images.channels), facts), profiles
    )
    with atomic_path(annotations) as part:
        pd.DataFrame(columns=list(ANNOTATION_COLUMNS), dtype="string").to_parquet(part, index=False)
    print(f"{len(images)} images, {found[0].shape[1]} statistics each")


def of_fold(profiles: Profiles, folds: pd.DataFrame, fold: int) -> Profiles:
    """Return the rows that a fold uses, with ``Metadata_Split`` as it is in that fold.

    Parameters
    ----------
    profiles
        One row for each sample of an image store, in its order.
    folds
        The store's folds.
    fold
        The number of the fold.

    Raises
    ------
    DataError
        If there is no such fold, or profiles and folds have different numbers of rows.
    """
    column = f"fold{fold}"
    if column not in folds:
        raise DataError(f"there is no fold {fold}; the image store has {', '.join(map(str, folds))}")
    if len(folds) != len(profiles):
        raise DataError(
            f"profiles have {len(profiles)} rows, expected the {len(folds)} of the image store's folds"
        )
    split = folds[column].to_numpy(dtype=object)
    used = np.isin(split, SPLITS)
    result = profiles.rows(used)
    metadata = result.metadata.assign(Metadata_Split=split[used])
    return replace(result, metadata=metadata, provenance={**result.provenance, "fold": fold})
