"""Raw plates of a few laboratories, with gaps, as CellProfiler and a reader leave them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from morphobench.preprocessing.pipeline import run_pipeline
from morphobench.profilenets.scaling import model_steps
from morphobench.profiles import Profiles

WORDS = ("Intensity_Mean", "Texture_Contrast", "Granularity_3", "RadialDistribution_RadialCV")


def names(count: int) -> tuple[str, ...]:
    """So many names of CellProfiler features that name a compartment and a dye, sorted."""
    found = [
        f"{part}_{WORDS[i % len(WORDS)]}_{dye}_{i:03d}"
        for i in range(-(-count // 15))
        for part in ("Cells", "Cytoplasm", "Nuclei")
        for dye in ("DNA", "ER", "Mito", "RNA", "AGP")
    ]
    return tuple(sorted(found[:count]))


@dataclass
class LabPlate:
    """A plate of one of three laboratories; it makes its profiles anew at each reading."""

    index: int
    columns: int = 30
    wells: int = 24
    sources: int = 3
    controls: int = 8

    @property
    def source(self) -> str:
        return f"source_{self.index % self.sources + 9}"

    @property
    def plate(self) -> str:
        return f"plate{self.index:03d}"

    @property
    def batch(self) -> str:
        return f"{self.source} run {self.index // (2 * self.sources)}"

    def read(self) -> Profiles:
        rng = np.random.default_rng(self.index)
        x = rng.normal(size=(self.wells, self.columns)) * rng.uniform(1, 3, self.columns) + 20
        x[:, 0] = 7
        x[self.controls + 1, 0] = 9
        x[2, 1], x[3, 2], x[-1, 3] = np.nan, np.inf, -np.inf
        well = np.arange(self.wells)
        control = np.select([well < self.controls, well < self.controls + 4], ["negcon", "poscon"], "trt")
        metadata = pd.DataFrame(
            {
                "Metadata_Batch": self.batch,
                "Metadata_Plate": self.plate,
                "Metadata_Well": [f"A{i:03d}" for i in well],
                "Metadata_Perturbation": np.where(control == "negcon", "DMSO", [f"KEY{i}" for i in well]),
                "Metadata_Control": control,
                "Metadata_Split": "train" if self.index % 4 else "test",
                "Metadata_Source": self.source,
                "Metadata_MoA": [None if i % 3 else f"moa {i % 2}" for i in well],
            }
        )
        return Profiles(metadata, x.astype(np.float32), names(self.columns), {"dataset": "toy"})


def together(plates: list[LabPlate]) -> Profiles:
    """All plates as one raw table."""
    read = [plate.read() for plate in plates]
    metadata = pd.concat([p.metadata for p in read], ignore_index=True)
    return Profiles(metadata, np.concatenate([p.features for p in read]), read[0].names)


def write(plates: list[LabPlate], folder, *, row_group_bytes: int = 6_000):
    """The model's branch of these plates as a profiles file; a row group has two plates of the default size."""
    path = folder / "model_profiles.parquet"
    run_pipeline(model_steps(), plates, path, folder, row_group_bytes=row_group_bytes)
    return path
