"""The workflow's chain in process: simulate, fetch, prepare, represent, correct, evaluate."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from morphobench.corrections.apply import correct
from morphobench.datasets.prepare import prepare
from morphobench.fetch import fetch_dataset, write_manifest
from morphobench.metrics.evaluate import evaluate
from morphobench.metrics.health import health
from morphobench.metrics.neighbours import compute_neighbours, required_neighbours
from morphobench.profiles import Profiles, read_profiles
from morphobench.representations.apply import represent
from morphobench.simulate.dataset import simulate_dataset
from morphobench.specs import load_house
from morphobench.specs.lines import load_yaml
from morphobench.specs.plan import Plan


@dataclass(frozen=True)
class Prepared:
    """Prepared profiles of one data set with its gene sets."""

    profiles: Profiles
    annotations: pd.DataFrame


class Chain:
    """The chain with the specs of the repository.

    Parameters
    ----------
    root
        The repository.
    folder
        Where files go; every preparation gets a folder of its own.
    mirror
        Real data for the scales that take it; None simulates.
    """

    def __init__(self, root: Path, folder: Path, mirror: Path | None = None) -> None:
        config = {**load_yaml(root / "config.yaml").value, "scale": "tiny"}
        self.house = load_house(root, {**config, "mirror": None if mirror is None else str(mirror)})
        self.folder = folder
        self.mirror = mirror

    def prepare(self, dataset: str, **parameters: float) -> Prepared:
        """Prepare a data set; ``parameters`` replace those of the simulator (the seed too)."""
        spec = dict(self.house.datasets[dataset])
        folder = self.folder / f"{dataset}-{len(list(self.folder.iterdir()))}"
        manifest = None
        mirror = self.mirror
        if spec["source"] == "simulated":
            spec["simulate"] = {**spec["simulate"], **parameters}
            mirror = folder / "simulated"
            simulate_dataset(spec, mirror)
            manifest = mirror / "manifest.tsv"
        records = fetch_dataset(spec, folder / "raw", mirror, manifest=manifest)
        write_manifest(records, folder / "manifest.tsv")
        names = {"profiles": "profiles.parquet", "annotations": "annotations.parquet"}
        names |= {"excluded": "excluded.csv", "report": "report.json"}
        out = {key: folder / name for key, name in names.items()}
        prepare(spec, manifest=folder / "manifest.tsv", raw_root=folder / "raw", **out)
        return Prepared(read_profiles(out["profiles"]), pd.read_parquet(out["annotations"]))

    def metrics(self, dataset: str, kind: str) -> list[str]:
        """Ids of the metrics of one kind that the tables on ``dataset`` name."""
        return [spec["id"] for spec in Plan(self.house).metrics_for(dataset) if spec["kind"] == kind]

    def embed(self, prepared: Prepared, method: str, correction: str = "none", seed: int = 0) -> Profiles:
        """Represent and correct."""
        methods = self.house.methods
        profiles = represent(prepared.profiles, prepared.annotations, methods[method], seed)
        return correct(profiles, methods[correction], seed)

    def scores(self, prepared: Prepared, profiles: Profiles, metrics: list[str], seed: int = 0) -> pd.DataFrame:
        """The scores table of ``profiles``, by metric."""
        specs = [self.house.metrics[metric] for metric in metrics]
        needed = required_neighbours(specs, len(profiles))
        found = health(profiles.features)
        neighbours = compute_neighbours(profiles.features, needed)
        table = evaluate(profiles, neighbours, prepared.annotations, specs, seed, health=found)
        return table.set_index("metric")
