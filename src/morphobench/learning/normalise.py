"""Normalisation of pixels by the statistics of each plate, kept with a model so that it can be used elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.errors import DataError
from morphobench.files import atomic_path
from morphobench.images.store import ImageStore

SOURCES = ("controls", "images", "none")


@dataclass(frozen=True)
class Normalisation:
    """What is subtracted from the pixels of a plate and what they are divided by, on the 0-1 scale.

    Pixels are first divided by the largest number of their type (255 or 65535), then intensities may be shifted by
    augmentation, then the plate's mean is subtracted and the rest divided by its standard deviation (CDCL,
    authors' code).

    Attributes
    ----------
    plates
        P names.
    channels
        C names.
    mean, std
        (P, C) float64, in units of the full range, 0 to 1.
    maximum
        The full range of stored pixels, 255 or 65535.
    source
        ``controls``, ``images`` or ``none``.
    replaced
        Plates and channels whose own statistics could not be used (no controls, or a standard deviation of 0), as
        ``plate/channel``; they have the mean over the other plates.
    """

    plates: tuple[str, ...]
    channels: tuple[str, ...]
    mean: np.ndarray
    std: np.ndarray
    maximum: int
    source: str
    replaced: tuple[str, ...] = field(default=())

    @classmethod
    def of_store(cls, store: ImageStore, source: str = "controls") -> Normalisation:
        """Return the normalisation of a store's plates.

        Parameters
        ----------
        store
            A store; its ``statistics`` are of stored pixel values.
        source
            ``controls``: over the pixels of the plate's negative controls (CDCL on RxRx1). ``images``: of all its
            images (CDCL on CPG0004). ``none``: 0 and 1, pixels are only brought to 0-1.

        Raises
        ------
        DataError
            If no plate has usable statistics of a channel, or the source is unknown.
        """
        if source not in SOURCES:
            raise DataError(f"normalisation by {source!r}, expected one of {', '.join(SOURCES)}")
        table, maximum = store.statistics, int(np.iinfo(store.dtype).max)
        plates = tuple(dict.fromkeys(table["Metadata_Plate"].tolist()))
        shape = (len(plates), len(store.channels))
        if source == "none":
            return cls(plates, store.channels, np.zeros(shape), np.ones(shape), maximum, source)
        name = {"controls": "control", "images": "image"}[source]
        index = pd.MultiIndex.from_product([plates, store.channels])
        own = table.set_index(["Metadata_Plate", "channel"]).reindex(index)
        mean = own[f"{name}_mean"].to_numpy(dtype=np.float64).reshape(shape) / maximum
        std = own[f"{name}_std"].to_numpy(dtype=np.float64).reshape(shape) / maximum
        bad = ~(np.isfinite(mean) & (std > 0))
        if bad.all(axis=0).any():
            channel = store.channels[int(np.flatnonzero(bad.all(axis=0))[0])]
            raise DataError(
                f"{store.folder}: no plate has a mean and a standard deviation above 0 of channel {channel} over "
                f"its "
                f"{'negative controls' if source == 'controls' else 'images'}; normalise by another source"
            )
        mean = np.where(bad, np.nanmean(np.where(bad, np.nan, mean), axis=0), mean)
        std = np.where(bad, np.nanmean(np.where(bad, np.nan, std), axis=0), std)
        replaced = tuple(f"{plates[p]}/{store.channels[c]}" for p, c in np.argwhere(bad))
        return cls(plates, store.channels, mean, std, maximum, source, replaced)

    def codes(self, plates: Sequence[str]) -> np.ndarray:
        """Return (N,) int64, the place of each plate; DataError for one without statistics."""
        known = {name: code for code, name in enumerate(self.plates)}
        missing = sorted(set(plates) - set(known))
        if missing:
            raise DataError(f"plate {missing[0]} has no statistics to normalise by; known are {len(known)} plates")
        return np.fromiter((known[p] for p in plates), dtype=np.int64, count=len(plates))

    def save(self, path: str | Path) -> None:
        """Write a parquet file: ``Metadata_Plate, channel, mean, std, maximum, source, replaced``."""
        frame = pd.DataFrame(
            {
                "Metadata_Plate": np.repeat(self.plates, len(self.channels)),
                "channel": np.tile(self.channels, len(self.plates)),
                "mean": self.mean.reshape(-1),
                "std": self.std.reshape(-1),
                "maximum": self.maximum,
                "source": self.source,
            }
        )
        frame["replaced"] = (frame["Metadata_Plate"] + "/" + frame["channel"]).isin(self.replaced)
        with atomic_path(path) as part:
            frame.to_parquet(part, index=False)

    @classmethod
    def read(cls, path: str | Path) -> Normalisation:
        """Read what :meth:`save` wrote."""
        try:
            frame = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
        plates, channels = (tuple(dict.fromkeys(frame[c].tolist())) for c in ("Metadata_Plate", "channel"))
        shape = (len(plates), len(channels))
        names = frame["Metadata_Plate"] + "/" + frame["channel"]
        facts: dict[str, Any] = {"maximum": int(frame["maximum"].iloc[0]), "source": frame["source"].iloc[0]}
        mean, std = (frame[c].to_numpy().reshape(shape) for c in ("mean", "std"))
        return cls(plates, channels, mean, std, replaced=tuple(names[frame["replaced"]]), **facts)
