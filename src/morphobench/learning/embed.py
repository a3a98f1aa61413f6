"""From images to profiles: one row of features for each image, a mini-batch of pixels in memory at a time."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from morphobench.errors import DataError
from morphobench.images.folds import UNUSED
from morphobench.images.store import ImageStore
from morphobench.learning.augment import CentreCrop
from morphobench.profiles import Profiles


@torch.no_grad()
def features_of(
    encoder: nn.Module,
    store: ImageStore,
    rows: np.ndarray,
    view: CentreCrop,
    *,
    batch_size: int = 256,
    precision: torch.dtype | None = None,
    what: str | None = None,
) -> np.ndarray:
    """Return the features of images.

    Parameters
    ----------
    encoder
        From (B, C, h, w) float32 to (B, D). It is run in evaluation mode on the device it is on, and put back into
        the mode it was in.
    store, rows
        The images; (N,) rows of the store.
    view
        What is shown of an image.
    batch_size
        Images at a time.
    precision
        To run the network in, such as ``torch.bfloat16``; None for float32.
    what
        A few words for a progress bar on a terminal; None for none.

    Returns
    -------
    ndarray
        (N, D) float32.

    Raises
    ------
    DataError
        If the crop is larger than the images, or a feature is not finite.
    """
    view.check(store.shape)
    plates = view.normalisation.codes(store.samples["Metadata_Plate"].iloc[rows].tolist())
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    features: np.ndarray | None = None
    starts = range(0, len(rows), batch_size)
    try:
        for start in tqdm(starts, desc=what, disable=what is None or not sys.stderr.isatty(), leave=False):
            part = slice(start, start + batch_size)
            pixels = torch.from_numpy(store.take(rows[part])).to(device)
            with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
                found = encoder(view(pixels, torch.from_numpy(plates[part]).to(device))).float().cpu().numpy()
            if features is None:
                features = np.empty((len(rows), found.shape[1]), dtype=np.float32)
            features[part] = found
    finally:
        for module, training in modes.items():
            module.training = training
    if features is None:
        raise DataError(f"{store.folder}: no images to embed")
    if not np.isfinite(features).all():
        row = int(rows[np.flatnonzero(~np.isfinite(features).all(axis=1))[0]])
        raise DataError(f"{store.folder}: features of image {row} are not finite; the network has diverged")
    return features


def embed(
    encoder: nn.Module,
    store: ImageStore,
    fold: int,
    view: CentreCrop,
    *,
    batch_size: int = 256,
    name: str = "feature",
    provenance: dict[str, Any] | None = None,
) -> Profiles:
    """Return the profiles of all images of a fold, rows as in the store.

    Parameters
    ----------
    encoder, store, view, batch_size
        See :func:`features_of`.
    fold
        The fold that ``Metadata_Split`` shall state. Images that it does not use are left out; ``provenance``
        counts them as ``unused_images``.
    name
        Features are called ``<name>_0000`` and so on.
    provenance
        Facts to keep with the profiles.
    """
    used = np.sort(np.concatenate([store.rows(fold, split) for split in ("train", "val", "test")]))
    features = features_of(encoder, store, used, view, batch_size=batch_size, what="embed")
    metadata = store.samples.iloc[used].reset_index(drop=True)
    metadata["Metadata_Split"] = store.folds[f"fold{fold}"].to_numpy()[used].astype(str)
    names = tuple(f"{name}_{i:04d}" for i in range(features.shape[1]))
    facts = {"fold": fold, "unused_images": int((store.folds[f"fold{fold}"] == UNUSED).sum())}
    return Profiles(metadata, features, names, {**(provenance or {}), **facts})
