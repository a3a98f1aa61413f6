"""A small made-up screen that the tests of the image store share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from morphobench.images.finish import finish_store
from morphobench.images.unit import Excluded, Sample, UnitFiles
from morphobench.images.write import write_unit

CHANNELS = [{"name": "DNA", "colour": "#4169e1"}, {"name": "Actin", "colour": "#ff4500"}]
SHAPE = (2, 24, 24)
UNITS = ("plate-1", "plate-2", "plate-3")
FOLDS = {"kind": "rotate_groups", "by": "Metadata_Batch", "train": 1, "val": 1, "test": 1, "step": 1}


def unit_files(unit: str, **options) -> UnitFiles:
    return UnitFiles(unit, {}, (), options)


def metadata(plate: str, well: str, site: int, **more) -> dict:
    control = "negcon" if well.endswith("01") else "trt"
    row = {
        "Metadata_Batch": plate.replace("plate", "batch"),
        "Metadata_Plate": plate,
        "Metadata_Well": well,
        "Metadata_Site": str(site),
        "Metadata_Perturbation": "DMSO" if control == "negcon" else f"drug {well}",
        "Metadata_Control": control,
        "Metadata_Split": "train",
    }
    return {**row, **more}


def pixels(plate: str, well: str, site: int, shape=SHAPE, dtype=np.uint8) -> np.ndarray:
    seed = [ord(c) for c in f"{plate}{well}{site}"]
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def read_unit(unit: UnitFiles) -> Iterator[Sample | Excluded]:
    """Wells A01 (negative control) to B03, two sites; the second site of B03 cannot be read."""
    for row in "AB":
        for column in unit.options.get("columns", ("01", "02", "03")):
            for site in (1, 2):
                if (row, column, site) == ("B", "03", 2):
                    yield Excluded("site", f"{unit.unit}/B03/s2", "made up")
                    continue
                well = row + column
                yield Sample(metadata(unit.unit, well, site), pixels(unit.unit, well, site))


def make_store(folder: Path, units=UNITS, reader=read_unit, folds=FOLDS, **facts) -> Path:
    for unit in units:
        write_unit(reader, unit_files(unit), folder, channels=CHANNELS)
    finish_store(folder, units, CHANNELS, folds, **facts)
    return folder
