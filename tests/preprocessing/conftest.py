"""Plates with gaps, infinities, ties, constant and redundant features, as CellProfiler leaves them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from morphobench.profiles import Profiles

STEPS = [
    {"step": "drop_low_variation", "scope": "all", "threshold": 0.001},
    {"step": "mad_normalise", "scope": "plate", "on": "negcon", "epsilon": 0.0},
    {"step": "inverse_normal", "scope": "plate", "c": 0.375},
    {"step": "select_uncorrelated", "scope": "all", "threshold": 0.9},
    {"step": "clip_quantiles", "scope": "all", "low": 0.01, "high": 0.99, "per": "matrix"},
    {"step": "impute", "scope": "all", "value": 0.0, "what": ["nan", "inf"]},
]


@dataclass
class Plate:
    """A plate that makes its profiles anew at each reading."""

    index: int
    columns: int = 20
    wells: int = 48
    gaps: float = 0.02

    @property
    def plate(self) -> str:
        return f"plate{self.index:03d}"

    @property
    def batch(self) -> str:
        return f"batch{self.index // 2}"

    def read(self) -> Profiles:
        rng = np.random.default_rng(self.index)
        x = rng.normal(size=(self.wells, self.columns)) * rng.uniform(1, 3, self.columns) + 20
        x[:, 1] = x[:, 0] + 0.05 * rng.normal(size=self.wells)
        x[:, 2] = -x[:, 0] + 0.05 * rng.normal(size=self.wells)
        x[:, 3] = np.round(x[:, 3])
        x[:, 4] = 5
        x[rng.random(x.shape) < self.gaps] = np.nan
        x[rng.random(x.shape) < self.gaps / 10] = np.inf
        control = np.where(np.arange(self.wells) % 4 == 0, "negcon", "trt")
        metadata = pd.DataFrame(
            {
                "Metadata_Batch": self.batch,
                "Metadata_Plate": self.plate,
                "Metadata_Well": [f"A{i:03d}" for i in range(self.wells)],
                "Metadata_Perturbation": np.where(control == "negcon", "DMSO", "c1"),
                "Metadata_Control": control,
                "Metadata_Split": "test",
                "Metadata_Concentration": np.nan if self.index == 0 else 1.5,
            }
        )
        names = tuple(f"Cells_{i:03d}" for i in range(self.columns))
        return Profiles(metadata, x.astype(np.float32), names, {"dataset": "toy"})


@pytest.fixture
def plates() -> list[Plate]:
    return [Plate(i) for i in range(4)]


def together(plates: list[Plate]) -> Profiles:
    """All plates as one table."""
    read = [plate.read() for plate in plates]
    return Profiles(
        pd.concat([p.metadata for p in read], ignore_index=True),
        np.concatenate([p.features for p in read]),
        read[0].names,
        dict(read[0].provenance),
    )
