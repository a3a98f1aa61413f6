"""Mean and standard deviation of the pixels of each plate and channel, from sums that add up over units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd


class PlateSums:
    """Sums and sums of squares of the pixels of each plate and channel, exact integers."""

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self.plates: dict[str, dict[str, dict[str, Any]]] = {}

    def add(self, image: np.ndarray, plate: str, negative: bool) -> None:
        """Add one (C, H, W) image to its plate, and to the plate's negative controls if it is one."""
        # Every partial sum is a whole number below 2^53, so the order of summation does not matter.
        pixels = image.reshape(self.channels, -1).astype(np.float64)
        total, squares = pixels.sum(axis=1), np.einsum("cp,cp->c", pixels, pixels)
        row = {"images": 1, "pixels": pixels.shape[1], "sum": total.astype(int).tolist()}
        row["squares"] = squares.astype(int).tolist()
        groups = self.plates.setdefault(plate, {})
        for group in ("all", "negcon") if negative else ("all",):
            groups[group] = merged(groups[group], row) if group in groups else row


def merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sums of two sets of images together."""
    return {
        k: [x + y for x, y in zip(a[k], b[k], strict=True)] if isinstance(a[k], list) else a[k] + b[k] for k in a
    }


def plate_statistics(records: Sequence[Mapping[str, Any]], channels: Sequence[str]) -> pd.DataFrame:
    """Return means and standard deviations per plate and channel from the sums that units hold.

    Parameters
    ----------
    records
        The contents of ``<unit>.json``. A plate may span units.
    channels
        Names of the channels.

    Returns
    -------
    DataFrame
        As ``statistics.parquet`` of ``finish_store``, plates in the order of the units.
    """
    plates: dict[str, dict[str, Any]] = {}
    for record in records:
        for plate, groups in record["plates"].items():
            known = plates.setdefault(plate, {})
            for group, sums in groups.items():
                known[group] = merged(known[group], sums) if group in known else sums
    rows = []
    for plate, groups in plates.items():
        for index, channel in enumerate(channels):
            row: dict[str, Any] = {"Metadata_Plate": plate, "channel": channel}
            for group, images, name in (("negcon", "controls", "control"), ("all", "images", "image")):
                row[images] = groups[group]["images"] if group in groups else 0
                row[f"{name}_mean"], row[f"{name}_std"] = _moments(groups.get(group), index)
            rows.append(row)
    return pd.DataFrame(rows)


def _moments(sums: Mapping[str, Any] | None, channel: int) -> tuple[float, float]:
    if sums is None:
        return math.nan, math.nan
    count, total, squares = sums["pixels"], sums["sum"][channel], sums["squares"][channel]
    # Whole numbers of any size up to the one division, so that nothing cancels.
    return total / count, math.sqrt((count * squares - total * total) / count**2)
