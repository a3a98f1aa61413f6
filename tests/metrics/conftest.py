"""Small planted screens for the metric tests."""

import numpy as np
import pandas as pd
import pytest

from morphobench.metrics.evaluation import Evaluation
from morphobench.metrics.neighbours import compute_neighbours, required_neighbours
from morphobench.profiles import Profiles
from morphobench.specs.lines import load_yaml
from morphobench.specs.metrics import resolve_metrics

from . import ROOT


def screen(n_compounds=8, n_plates=6, controls=4, dims=12, biology=2.0, batch=0.7, seed=0) -> Profiles:
    """Plates of two per batch; every compound once a plate, two compounds a mechanism, ``controls`` DMSO wells."""
    rng = np.random.default_rng(seed)
    names = ["DMSO"] * controls + [f"c{i}@1" for i in range(n_compounds)]
    effect = {f"c{i}@1": biology * rng.normal(size=dims) for i in range(n_compounds)}
    shift = rng.normal(size=(n_plates, dims)) * batch
    rows, features = [], []
    for plate in range(n_plates):
        for well, name in enumerate(names):
            rows.append(
                {
                    "Metadata_Batch": f"b{plate // 2}",
                    "Metadata_Plate": f"p{plate}",
                    "Metadata_Well": f"w{well:02d}",
                    "Metadata_Perturbation": name,
                    "Metadata_Compound": name.split("@")[0],
                    "Metadata_MoA": None if name == "DMSO" else f"m{int(name[1:-2]) // 2}",
                    "Metadata_Control": "negcon" if name == "DMSO" else "trt",
                    "Metadata_Split": "test" if plate % 3 == 2 else "train",
                }
            )
            features.append(effect.get(name, np.zeros(dims)) + shift[plate // 2] + rng.normal(size=dims))
    names = tuple(f"f{i}" for i in range(dims))
    return Profiles(pd.DataFrame(rows), np.array(features, dtype=np.float32), names)


def gene_screen(n=72, dims=6, seed=0):
    """Genes in complexes of three and functions of twelve, whose profiles share a direction; one control."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(n // 3, dims))
    group = 2 * rng.normal(size=(n // 12, dims))
    features = np.stack([centre[i // 3] + group[i // 12] + 0.7 * rng.normal(size=dims) for i in range(n)])
    genes = [f"G{i:02d}" for i in range(n)]
    names = [*genes, "nontargeting"]
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": "b",
            "Metadata_Plate": "p",
            "Metadata_Well": names,
            "Metadata_Perturbation": names,
            "Metadata_Gene": names,
            "Metadata_Control": ["trt"] * n + ["negcon"],
            "Metadata_Split": "test",
        }
    )
    rows = [(g, f"complex {i // 3}", "corum") for i, g in enumerate(genes[: n - 12])]
    rows += [(genes[-1], "alone", "corum"), ("ABSENT", "alone", "corum")]
    rows += [(g, f"function {i // 12}", "function") for i, g in enumerate(genes)]
    features = np.vstack([features, np.zeros(dims)]).astype(np.float32)
    annotations = pd.DataFrame(rows, columns=["entity", "set", "collection"])
    return Profiles(metadata, features, tuple(f"f{i}" for i in range(dims))), annotations


def all_specs() -> list[dict]:
    """Every metric spec of the repository, derived ones whole, in order of its file name."""
    paths = sorted((ROOT / "specs/metrics").glob("*.yaml"))
    return [document.value for document in resolve_metrics({p.stem: load_yaml(p) for p in paths}).values()]


def evaluation_of(profiles: Profiles, annotations=None, seed: int = 0) -> Evaluation:
    """An evaluation with all the neighbours that any metric asks for."""
    split = profiles.column("Metadata_Split")
    required = required_neighbours(all_specs(), len(profiles), split)
    neighbours = compute_neighbours(profiles.features, required, split=split)
    return Evaluation(profiles, neighbours, annotations, seed)


def changed(profiles: Profiles, features=None, **columns) -> Profiles:
    """The profiles with other features or other metadata columns."""
    return Profiles(
        profiles.metadata.assign(**columns),
        profiles.features if features is None else np.asarray(features, dtype=np.float32),
        profiles.names,
        profiles.provenance,
    )


@pytest.fixture
def small():
    return screen()


@pytest.fixture
def genes():
    return gene_screen()
