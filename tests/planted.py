"""The workflow's chain in process (simulate, fetch, prepare, represent, correct, evaluate), and chance levels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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

# Only intervals hang on the number of resamples, and no test here reads an interval.
FEW_RESAMPLES = 2


@dataclass(frozen=True)
class Prepared:
    """Prepared profiles of one data set with its gene sets."""

    dataset: str
    profiles: Profiles
    annotations: pd.DataFrame


class Chain:
    """The chain with the specs of the repository.

    Parameters
    ----------
    root
        The repository.
    folder
        An empty folder; every preparation gets a folder of its own in it.
    mirror
        Real data for the data sets that take it; None simulates.
    """

    def __init__(self, root: Path, folder: Path, mirror: Path | None = None) -> None:
        config = {**load_yaml(root / "config.yaml").value, "scale": "tiny"}
        self.house = load_house(root, {**config, "mirror": None if mirror is None else str(mirror)})
        self.folder, self.mirror = folder, mirror

    def prepare(self, dataset: str, **parameters: float) -> Prepared:
        """Prepare a data set; ``parameters`` replace those of the simulator, its seed among them."""
        spec = dict(self.house.datasets[dataset])
        folder = self.folder / f"{dataset}-{len(list(self.folder.iterdir()))}"
        mirror, simulated = self.mirror, None
        if spec["source"] == "simulated":
            spec["simulate"] = {**spec["simulate"], **parameters}
            mirror = folder / "simulated"
            simulate_dataset(spec, mirror)
            simulated = mirror / "manifest.tsv"
        records = fetch_dataset(spec, folder / "raw", mirror, manifest=simulated)
        manifest = folder / "manifest.tsv"
        write_manifest(records, manifest)
        names = {"profiles": "profiles.parquet", "annotations": "annotations.parquet"}
        names |= {"excluded": "excluded.csv", "report": "report.json"}
        out = {key: folder / name for key, name in names.items()}
        prepare(spec, manifest=manifest, raw_root=folder / "raw", **out)
        return Prepared(dataset, read_profiles(out["profiles"]), pd.read_parquet(out["annotations"]))

    def metrics(self, dataset: str, *kinds: str) -> list[str]:
        """Ids of the metrics of some kinds (all, if none is named) that the tables on ``dataset`` name.

        Without those of held-out wells: they are the same metrics on fewer wells, or judge a network's training.
        """
        plan = Plan(self.house)
        pairs = [*self.rows(dataset), ("random", "none")]
        specs = {spec["id"]: spec for pair in pairs for spec in plan.metrics_for(dataset, *pair)}
        held_out = {
            i for i, spec in specs.items() if "split" in spec or spec["function"].endswith("held_out_classifier")
        }
        wanted = [i for i in self.house.metrics if i in specs and i not in held_out]
        return [i for i in wanted if not kinds or specs[i]["kind"] in kinds]

    def rows(self, dataset: str) -> list[tuple[str, str]]:
        """Method and correction of every row of the tables on ``dataset`` that is no control and not trained."""
        tables = [t for t in self.house.tables.values() if t["dataset"] == dataset]
        rows = [row for t in tables for block in t["blocks"] for row in block["rows"] if "method" in row]
        found = [(r["method"], r.get("correction", "none")) for r in rows if not r.get("control")]
        # A row with other wells for testing has the features of one without.
        methods = self.house.methods
        found = [f for f in found if methods[f[0]]["input"] == "profiles" and "split" not in methods[f[0]]]
        return list(dict.fromkeys(found))

    def scores(
        self,
        prepared: Prepared,
        method: str,
        correction: str = "none",
        *,
        metrics: list[str],
        seed: int = 0,
        checked: bool = True,
    ) -> pd.DataFrame:
        """Represent, correct and evaluate; return the scores table by metric.

        Rows that a metric of several values has for the lack of any are kept: their status says so. ``checked``
        is whether the check for collapsed embeddings takes part.
        """
        methods = self.house.methods
        profiles = represent(prepared.profiles, prepared.annotations, methods[method], seed)
        profiles = correct(profiles, methods[correction], seed)
        specs = [_cheap(self.house.metrics[metric]) for metric in metrics]
        split = profiles.column("Metadata_Split")
        needed = required_neighbours(specs, len(profiles), split)
        neighbours = compute_neighbours(profiles.features, needed, split=split)
        found = health(profiles.features) if checked else None
        return evaluate(profiles, neighbours, prepared.annotations, specs, seed, health=found).set_index("metric")


def _cheap(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec with fewer resamples, where it has any."""
    parameters = dict(spec["parameters"])
    if "resamples" in parameters:
        parameters["resamples"] = FEW_RESAMPLES
    return {**spec, "parameters": parameters}


def expected_precision(positives: int, candidates: int, *, itself: bool = False) -> float:
    """Expected average precision of a random order; ``itself`` puts one more positive before all others.

    Rank i holds a positive with probability R/N, and then (i - 1)(R - 1)/(N - 1) positives before it.
    """
    rank = np.arange(1, candidates + 1)
    before = (rank - 1) * (positives - 1) / max(candidates - 1, 1)
    total = positives / candidates * ((1 + itself + before) / (rank + itself)).sum()
    return float((total + itself) / (positives + itself))


def chance_of_precisions(metadata: pd.DataFrame, *, tied: bool = False) -> dict[str, float]:
    """Chance levels of the four mean average precisions of a screen, by counting wells.

    As published a well is a candidate for itself: its own first match, unless everything is ``tied``.
    """
    label, plate = metadata["Metadata_Perturbation"], metadata["Metadata_Plate"]
    treated, control = (metadata["Metadata_Control"] == kind for kind in ("trt", "negcon"))
    chance = {}
    for metric, negative in (("map_control", control), ("map_nonrep", treated)):
        wells = {}
        for i in metadata.index[treated]:
            mates = int((treated & (label == label[i])).sum()) - 1
            others = int((negative & (plate == plate[i]) & (label != label[i])).sum())
            wells[i] = expected_precision(mates, mates + others)
        chance[metric] = pd.Series(wells).groupby(label).mean().mean()
    for metric, candidate in (("map_control_published", label == label), ("map_norep_published", ~control)):
        mates = label[~control].map(label[~control].value_counts()) - 1
        total = int(candidate.sum())
        wells = [
            expected_precision(m + 1, total) if tied else expected_precision(m, total - 1, itself=True)
            for m in mates
        ]
        chance[metric] = float(np.mean(wells))
    return chance


def chance_of_mechanism(metadata: pd.DataFrame, *, other_batch: bool = False) -> float:
    """Mean over treatments of the share of the candidates of NSC (or NSCB) that have the treatment's mechanism."""
    treated = metadata[metadata["Metadata_Control"] == "trt"]
    table = treated.groupby("Metadata_Perturbation", sort=False).agg(
        compound=("Metadata_Compound", "first"), moa=("Metadata_MoA", "first"), batches=("Metadata_Batch", set)
    )
    shares = []
    for row in table.itertuples():
        others = table[table["compound"] != row.compound]
        if other_batch:
            others = others[[row.batches.isdisjoint(batches) for batches in others["batches"]]]
        if (others["moa"] == row.moa).any():
            shares.append((others["moa"] == row.moa).mean())
    return float(np.mean(shares)) if shares else float("nan")


def related_pairs(prepared: Prepared) -> tuple[int, int]:
    """How many screened genes share a complex with another one, and how many pairs of genes share one."""
    table = prepared.annotations
    table = table[
        (table["collection"] == "corum") & table["entity"].isin(prepared.profiles.metadata["Metadata_Gene"])
    ]
    pairs = table.merge(table, on="set")
    pairs = pairs[pairs["entity_x"] < pairs["entity_y"]][["entity_x", "entity_y"]].drop_duplicates()
    return len(set(pairs["entity_x"]) | set(pairs["entity_y"])), len(pairs)


def chance_levels(prepared: Prepared) -> dict[str, float]:
    """Chance levels by counting, for the metrics that have one."""
    metadata = prepared.profiles.metadata
    if prepared.dataset == "funk22_published":
        genes, related = related_pairs(prepared)
        pairs = genes * (genes - 1) // 2
        levels = {"corum_average_precision": expected_precision(related, pairs)}
        for percentile in range(80, 100):
            # Self-distances take part in the percentiles, and lie on the near side.
            predicted = 2 * (1 - percentile / 100) * genes**2 - genes
            levels[f"corum_precision@{percentile}"] = related / pairs
            levels[f"corum_recall@{percentile}"] = predicted / (2 * pairs)
        groups = prepared.annotations.query("collection == 'function'")["set"].nunique()
        return {**levels, "function_accuracy": 1 / groups, "function_macro_f1": 1 / groups}
    levels = chance_of_precisions(metadata)
    treated = metadata[metadata["Metadata_Control"] != "negcon"]
    # Classes of equal size: guessing is right once in as many times as there are classes.
    levels["bio_classifier_nocontrol"] = 1 / treated["Metadata_Perturbation"].nunique()
    # cpg0016 has mechanisms, too, by which its wells are chosen; no table asks for their accuracy.
    if prepared.dataset == "bbbc021":
        levels["nsc_accuracy"] = chance_of_mechanism(metadata)
        levels["nscb_accuracy"] = chance_of_mechanism(metadata, other_batch=True)
    return levels
