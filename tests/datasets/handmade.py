"""Hand-made raw files of units of an image data set, without a simulator."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from morphobench.images.unit import UnitFiles


def picture(*key: int, size: int = 16, dtype=np.uint8) -> np.ndarray:
    high = 250 if dtype == np.uint8 else 60000
    return np.random.default_rng(key).integers(1, high, (size, size)).astype(dtype)


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png")
    return stream.getvalue()


def tiff(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, image, photometric="minisblack")
    return stream.getvalue()


def unit_of(folder: Path, unit: str, files, contents: dict[str, bytes | None], options, variant: str) -> UnitFiles:
    """Write ``contents`` (None: missing) and return the unit with a manifest row for each."""
    records = []
    for name, content in contents.items():
        path = folder / "raw" / name
        record = {"name": name, "member": None, "path": str(path), "variant": variant}
        if content is None:
            records.append({**record, "status": "missing", "reason": "404"})
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        records.append({**record, "status": "fetched", "reason": None})
    return UnitFiles(unit, files, tuple(records), options)
