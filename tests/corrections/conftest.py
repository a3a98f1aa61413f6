"""Small screens with a known batch effect, and the correction specs."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from morphobench.corrections.base import Covariates


def make_covariates(batches: int = 3, plates: int = 2, wells: int = 16, controls: int = 6) -> Covariates:
    """Plates of ``wells`` wells, the first ``controls`` negative controls; the last plate of a batch is test."""
    rows = [(b, p, w) for b in range(batches) for p in range(plates) for w in range(wells)]
    return Covariates(
        batch=np.array([f"week{b}" for b, _, _ in rows]),
        plate=np.array([f"week{b}-plate{p}" for b, p, _ in rows]),
        well=np.array([f"A{w:02d}" for _, _, w in rows]),
        control=np.array(["negcon" if w < controls else "trt" for _, _, w in rows]),
        split=np.array(["test" if p == plates - 1 and plates > 1 else "train" for _, p, _ in rows]),
    )


def make_features(covariates: Covariates, columns: int = 8, seed: int = 0) -> np.ndarray:
    """Correlated features with a shift and a scale of each batch, float32."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(columns, columns))
    features = rng.normal(size=(len(covariates), columns)) @ mixing
    for batch in np.unique(covariates.batch):
        rows = covariates.batch == batch
        features[rows] = features[rows] * rng.uniform(0.5, 2, columns) + 3 * rng.normal(size=columns)
    features[covariates.control == "trt"] += rng.normal(size=columns)
    return features.astype(np.float32)


@pytest.fixture
def covariates() -> Covariates:
    return make_covariates()


@pytest.fixture
def features(covariates) -> np.ndarray:
    return make_features(covariates)


def correction_specs() -> list[dict]:
    """Every shipped spec of kind ``correction``."""
    folder = Path(__file__).resolve().parents[2] / "specs" / "methods"
    specs = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    return [spec for spec in specs if spec.get("kind") == "correction"]
