"""A small image store that the tests of learning share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from morphobench.images.finish import finish_store
from morphobench.images.store import ImageStore
from morphobench.images.unit import Sample, UnitFiles
from morphobench.images.write import write_unit

CHANNELS = ["DNA", "Actin", "Mito"]
SIZE = 16
TREATMENTS = ("EMPTY", "s1", "s2", "s3")
FOLDS = {"kind": "rotate_groups", "by": "Metadata_Batch", "train": 2, "val": 1, "test": 1, "step": 1}


def picture(batch: int, plate: int, treatment: int, copy: int) -> np.ndarray:
    """A treatment is a place of a bright square, a batch is a gain; the rest is noise."""
    rng = np.random.default_rng([batch, plate, treatment, copy])
    image = rng.integers(0, 60, (len(CHANNELS), SIZE, SIZE)).astype(float)
    top = 3 * treatment
    image[treatment % len(CHANNELS), top : top + 5, 4:9] += 120
    return np.clip(image * (0.6 + 0.2 * batch), 0, 255).astype(np.uint8)


def make_store(folder: Path, batches=4, plates=2, copies=3, without=(), folds=FOLDS) -> ImageStore:
    """Batches ``week-1`` ... with every treatment on each plate, but for those (batch, treatment) listed."""

    def read(unit: UnitFiles):
        batch = int(unit.unit.rpartition("-")[2])
        for plate in range(plates):
            for t, treatment in enumerate(TREATMENTS):
                for copy in range(copies):
                    if (batch, treatment) in without:
                        continue
                    metadata = {
                        "Metadata_Batch": unit.unit,
                        "Metadata_Plate": f"{unit.unit}-plate{plate}",
                        "Metadata_Well": f"{chr(65 + t)}{copy + 1:02d}",
                        "Metadata_Site": "1",
                        "Metadata_Perturbation": treatment,
                        "Metadata_Control": "negcon" if treatment == "EMPTY" else "trt",
                        "Metadata_Split": "train",
                    }
                    yield Sample(metadata, picture(batch, plate, t, copy))

    units = [f"week-{b + 1}" for b in range(batches)]
    for unit in units:
        write_unit(read, UnitFiles(unit, {}, (), {}), folder, channels=CHANNELS)
    finish_store(folder, units, CHANNELS, folds)
    return ImageStore(folder)


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> ImageStore:
    """Four batches of 2 plates, 4 treatments, 3 wells each: 96 images, four folds of 2/1/1 batches."""
    return make_store(tmp_path_factory.mktemp("store"))
