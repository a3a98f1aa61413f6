"""Preprocessing speed beside pycytominer, on plates of 384 wells with gaps; prints a markdown table.

Usage: python benchmarks/bench_preprocessing.py [plates] [features]      (10 and 1000 by default)
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pycytominer import feature_select, normalize
from scipy.stats import norm

from morphobench.preprocessing.pipeline import preprocess, run_pipeline
from morphobench.profiles import Profiles

WELLS = 384
MAD = {"step": "mad_normalise", "scope": "plate", "on": "negcon", "epsilon": 1e-6}
RANKS = {"step": "inverse_normal", "scope": "plate"}
VARIATION = {"step": "drop_low_variation", "scope": "all", "threshold": 0.001}
CORRELATION = {"step": "select_uncorrelated", "scope": "all", "threshold": 0.9, "absolute": False}
FILL = {"step": "impute", "scope": "all", "value": 0.0}


@dataclass(frozen=True)
class Source:
    """One simulated plate."""

    plate: str
    batch: str
    profiles: Profiles

    def read(self) -> Profiles:
        """Return the plate."""
        return self.profiles


def simulate(plates: int, columns: int) -> list[Source]:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(40, columns)) * 2
    sources = []
    for index in range(plates):
        x = rng.normal(size=(WELLS, 40)) @ mixing + 3 * rng.normal(size=(WELLS, columns)) + 50
        x[:, : columns // 10] = x[:, columns // 10 : 2 * (columns // 10)] + 0.1 * rng.normal(
            size=(WELLS, columns // 10)
        )
        x[rng.random(x.shape) < 0.002] = np.nan
        control = np.where(np.arange(WELLS) % 6 == 0, "negcon", "trt")
        metadata = pd.DataFrame(
            {
                "Metadata_Batch": "b",
                "Metadata_Plate": f"p{index}",
                "Metadata_Well": [f"w{i}" for i in range(WELLS)],
                "Metadata_Perturbation": control,
                "Metadata_Control": control,
                "Metadata_Split": "test",
            }
        )
        names = tuple(f"Cells_Intensity_{i:04d}" for i in range(columns))
        sources.append(Source(f"p{index}", "b", Profiles(metadata, x.astype(np.float32), names)))
    return sources


def timed(function: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def per_plate(frame: pd.DataFrame, names: list[str], method: str, samples: str) -> pd.DataFrame:
    meta = [c for c in frame if c.startswith("Metadata_")]
    parts = [
        normalize(
            part, features=names, meta_features=meta, samples=samples, method=method, mad_robustize_epsilon=1e-6
        )
        for _, part in frame.groupby("Metadata_Plate", sort=False)
    ]
    return pd.concat(parts, ignore_index=True)


def ranks_by_pandas(frame: pd.DataFrame, names: list[str]) -> np.ndarray:
    grouped = frame.groupby("Metadata_Plate", sort=False)[names]
    ranks, count = grouped.rank(), grouped.transform("count")
    return norm.ppf((ranks - 0.375) / (count + 0.25))


def main(plates: int, columns: int) -> None:
    sources = simulate(plates, columns)
    metadata = pd.concat([s.profiles.metadata for s in sources], ignore_index=True)
    features = np.concatenate([s.profiles.features for s in sources])
    profiles = Profiles(metadata, features, sources[0].profiles.names)
    names = list(profiles.names)
    frame = pd.concat([metadata, pd.DataFrame(features.astype(np.float64), columns=names)], axis=1)
    rows = []

    def compare(step: str, steps: list[dict], peer: str, function: Callable[[], object]) -> tuple[object, object]:
        own_time, own = timed(lambda: preprocess(profiles, [*steps, FILL]))
        peer_time, other = timed(function)
        rows.append(f"| {step} | {own_time:.2f} | {peer} | {peer_time:.2f} | {peer_time / own_time:.1f} |")
        return own, other

    own, other = compare(
        "MAD per plate on controls",
        [MAD],
        "pycytominer normalize",
        lambda: per_plate(frame, names, "mad_robustize", "Metadata_Control == 'negcon'"),
    )
    gap = np.nanmax(np.abs(own[0].features - other[names].to_numpy())[np.isfinite(features)])
    rows[-1] += f" {gap:.1e} |"
    own, other = compare("inverse normal per plate", [RANKS], "pandas rank", lambda: ranks_by_pandas(frame, names))
    rows[-1] += f" {np.nanmax(np.abs(own[0].features - other)[np.isfinite(features)]):.1e} |"
    for step, steps, operation, options in (
        ("low variation", [VARIATION], "variance_threshold", {}),
        ("correlation > 0.9", [CORRELATION], "correlation_threshold", {"corr_threshold": 0.9}),
    ):
        own, other = compare(
            step,
            steps,
            f"pycytominer {operation}",
            lambda operation=operation, options=options: feature_select(
                frame, features=names, operation=operation, **options
            ),
        )
        kept = [c for c in other if not c.startswith("Metadata_")]
        rows[-1] += f" {len(set(kept) ^ set(own[0].names))} names |"
    with tempfile.TemporaryDirectory() as folder:
        steps = [VARIATION, MAD, RANKS, CORRELATION, FILL]
        seconds, _ = timed(lambda: run_pipeline(steps, sources, Path(folder) / "out.parquet", folder))
    print(f"{plates} plates x {WELLS} wells x {columns} features, seconds of wall time; ours imputes as well.\n")
    print(
        "| step | morphobench | peer | peer's time | ratio | difference |\n| --- | --- | --- | --- | --- | --- |"
    )
    print("\n".join(rows))
    print(f"| all steps, streamed to a file | {seconds:.2f} | | | | |")


if __name__ == "__main__":
    main(*(int(a) for a in [*sys.argv[1:], *["10", "1000"][len(sys.argv) - 1 :]]))
