"""From specs to work: which evaluations a table needs, which metrics they run, and where the results lie.

Only the standard library is imported, because every parse of the workflow asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from morphobench.files import sha256_of
from morphobench.report.cells import expand_cells, metric_ids, required_evaluations
from morphobench.report.figures_rows import shown_profiles
from morphobench.specs.checks import REPRESENTATIONS
from morphobench.specs.house import House
from morphobench.specs.methods import TRAINED_ON


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: a representation, corrected, for one seed and fold of a dataset."""

    dataset: str
    method: str
    correction: str
    seed: int
    fold: int

    @property
    def folder(self) -> str:
        """Folder of the evaluation below ``results/<scale>``."""
        return f"{self.dataset}/{self.method}/seed{self.seed}/fold{self.fold}/{self.correction}"


class Plan:
    """What the selected tables and figures need.

    Parameters
    ----------
    house
        The validated specs.
    """

    def __init__(self, house: House):
        self.house = house

    @cached_property
    def tables(self) -> list[str]:
        """Ids of the tables that the configuration asks for."""
        wanted = self.house.config["tables"]
        return list(self.house.tables) if wanted == "all" else list(wanted)

    @cached_property
    def figures(self) -> list[str]:
        """Ids of the figure specs that draw one of those tables."""
        datasets = {self.house.tables[t]["dataset"] for t in self.tables}
        if self.house.config["tables"] == "all":
            datasets = set(self.house.datasets)
        wanted = {"table": self.tables, "dataset": datasets}
        return [f for f, spec in self.house.figures.items() if any(spec.get(k) in v for k, v in wanted.items())]

    def figure_names(self, group: str) -> list[str]:
        """Return the names of the pictures that one figure spec draws."""
        return list(self.house.figures[group]["outputs"].values())

    def pattern(self, kind: str) -> str:
        """Return a regular expression that matches the ids of one kind and nothing else."""
        ids: Iterable[str]
        methods = [m for m in self.house.methods.values() if m["kind"] in REPRESENTATIONS]
        if kind == "representations":
            ids = [m["id"] for m in methods]
        elif kind in ("cpu_representations", "gpu_representations"):
            gpu = kind.startswith("gpu")
            ids = [m["id"] for m in methods if m["input"] == "profiles" and bool(m["resources"]["gpu"]) == gpu]
        elif kind in ("cpu_image_methods", "gpu_image_methods", "cpu_networks", "gpu_networks"):
            gpu, taken = kind.startswith("gpu"), "images" if "image" in kind else "model_profiles"
            ids = [m["id"] for m in methods if m["input"] == taken and bool(m["resources"]["gpu"]) == gpu]
        elif kind == "corrections":
            ids = [m["id"] for m in self.house.methods.values() if m["kind"] == "correction"]
        elif kind == "pixel_datasets":
            ids = [i for i, d in self.house.datasets.items() if d["images"] and not d["reader"]]
        elif kind == "profile_datasets":
            ids = [i for i, d in self.house.datasets.items() if d["reader"]]
        elif kind == "network_datasets":
            ids = [i for i, d in self.house.datasets.items() if d["preprocessing_model"]]
        elif kind == "image_datasets":
            ids = [i for i, d in self.house.datasets.items() if d["images"]]
        elif kind == "units":
            ids = sorted({u for d in self.house.datasets.values() if d["images"] for u in d["images"]["units"]})
        else:
            ids = getattr(self.house, kind)
        # A name that no file can have stands for "none of them": an empty alternation would match anything.
        return "|".join(re.escape(i) for i in ids) or "-none-"

    def raw_folder(self, dataset: str) -> str:
        """Return where a dataset's raw files go; simulated ones are kept apart from real ones."""
        config = self.house.config
        if self.house.datasets[dataset]["source"] == "real":
            return f"{config['data']}/raw"
        # Copies of simulated files lie apart from them, as copies of a mirror's would.
        return f"{config['data']}/simulated/{config['scale']}/{dataset}/raw"

    def units(self, dataset: str) -> list[str]:
        """Return the units (experiments, plates) in which a dataset's images are fetched and stored."""
        return list(self.house.datasets[dataset]["images"]["units"])

    def selectors(self, dataset: str) -> list[str]:
        """Return the ``module:function`` that chooses a dataset's plates, where it has plates."""
        plates = self.house.datasets[dataset]["plates"]
        return [plates["selector"]] if plates else []

    def table_cells(self, table: str) -> list[Evaluation]:
        """Return the evaluations that a table is made of, each once."""
        spec, config = self.house.tables[table], self.house.config
        needed = required_evaluations(
            spec, self.house.methods, config["seeds"], range(spec["folds"]), config["trainings"]
        )
        return [Evaluation(spec["dataset"], *evaluation) for evaluation in needed]

    def figure_cells(self, group: str) -> list[Evaluation]:
        """Return the evaluations whose profiles a figure of embeddings shows: its rows, first seed, first fold."""
        figure = self.house.figures[group]
        table = self.house.tables[figure["table"]]
        seed = self.house.config["seeds"][0]
        return [Evaluation(table["dataset"], *pair, seed, 0) for pair in shown_profiles(figure, table)]

    @cached_property
    def _wanted_metrics(self) -> dict[tuple[str, str, str], dict[str, None]]:
        """By data set, method and correction, the metrics that any table's cells ask for, in their order."""
        wanted: dict[tuple[str, str, str], dict[str, None]] = {}
        for table in self.house.tables.values():
            for cell in expand_cells(table):
                for method in cell.methods:
                    key = (table["dataset"], method, cell.correction)
                    wanted.setdefault(key, {})[cell.metric_id] = None
        return wanted

    def metrics_for(self, dataset: str, method: str, correction: str) -> list[dict[str, Any]]:
        """Return the specs of the metrics that any table asks of an evaluation, parts of aggregates included."""
        wanted = dict(self._wanted_metrics.get((dataset, method, correction), {}))
        queue = list(wanted)
        while queue:
            parts = self.house.metrics[queue.pop()]["parameters"].get("parts", [])
            queue += [p for p in parts if p not in wanted]
            wanted |= dict.fromkeys(parts)
        return [spec for i, spec in self.house.metrics.items() if i in wanted]

    def metric_functions(self, dataset: str, method: str, correction: str) -> list[str]:
        """Return the ``module:function`` of every metric of an evaluation."""
        return sorted({spec["function"] for spec in self.metrics_for(dataset, method, correction)})

    def neighbour_needs(self, dataset: str, method: str, correction: str) -> list[dict[str, Any]]:
        """Return what the metrics of an evaluation ask of the shared neighbour graph."""
        return [spec for spec in self.metrics_for(dataset, method, correction) if "neighbours" in spec]

    def table_plan(self, table: str, results: str) -> dict[str, Any]:
        """Return everything that rendering a table needs, as plain JSON-able values."""
        spec = self.house.tables[table]
        dataset = self.house.datasets[spec["dataset"]]
        return {
            "kind": "table",
            "id": table,
            "spec": spec,
            "scale": self.house.config["scale"],
            "dataset": {k: dataset[k] for k in ("id", "label", "source")},
            "evaluations": self._evaluations(self.table_cells(table), results),
            "metrics": {i: self.house.metrics[i] for i in sorted(set(metric_ids(spec)))},
            "methods": self._method_labels(spec),
            "published": self._published_digests(spec),
            "folder": f"{results}/tables",
        }

    def claims_plan(self, results: str) -> dict[str, Any]:
        """Return everything that judging the published claims needs, as plain JSON-able values."""
        claims = self.house.root / "specs" / "claims.csv"
        return {
            "kind": "claims",
            "claims": str(claims),
            "digest": sha256_of(claims),
            "published": {p.name: sha256_of(p) for p in sorted((claims.parent / "published").glob("*.csv"))},
            "tables": [self.table_plan(table, results) for table in self.tables],
            "scale": self.house.config["scale"],
            "folder": f"{results}/tables",
        }

    def target_list(self) -> str:
        """Return the names that can be asked for, as text."""
        tables = {table: self.house.tables[table]["title"] for table in self.tables}
        tables["claims"] = "Published claims: which of them hold here"
        figures = {}
        for group in self.figures:
            spec = self.house.figures[group]
            for output, name in spec["outputs"].items():
                panel = spec.get("panels", {}).get(output)
                figures[name] = panel["title"] if panel else spec["title"]
                if spec["kind"] == "screen" and "montage" not in spec:
                    figures[name] += ": " + {"montage": "montage", "plates": "plate maps"}[output]
        width = max(map(len, [*tables, *figures])) + 2
        lines = ["all, tables, figures, verify"]
        for heading, names in (("Tables", tables), ("Figures", figures)):
            lines += ["", heading, *(f"  {name:{width}}{title}" for name, title in names.items())]
        return "\n".join(lines)

    def figure_plan(self, group: str, results: str) -> dict[str, Any]:
        """Return everything that drawing one figure spec needs, as plain JSON-able values."""
        spec = self.house.figures[group]
        if "dataset" in spec:
            return self._screen_plan(group, results)
        plan = self.table_plan(spec["table"], results)
        # A table's words are not in its pictures: rewording must not redraw them.
        plan["spec"] = {k: v for k, v in plan["spec"].items() if k not in ("title", "caption", "notes")}
        if spec["kind"] == "embeddings":
            plan["evaluations"] = self._evaluations(self.figure_cells(group), results)
        return {**plan, "kind": spec["kind"], "id": group, "figure": spec, "folder": f"{results}/figures"}

    def _screen_plan(self, group: str, results: str) -> dict[str, Any]:
        spec = self.house.figures[group]
        dataset = self.house.datasets[spec["dataset"]]
        images = {k: dataset["images"].get(k) for k in ("channels", "pixel_size_um", "montage")}
        return {
            "kind": spec["kind"],
            "id": group,
            "figure": spec,
            "scale": self.house.config["scale"],
            "dataset": {k: dataset[k] for k in ("id", "label", "source")},
            "images": images,
            "store": f"{results}/{dataset['id']}/images",
            "evaluations": [],
            "folder": f"{results}/figures",
        }

    def _evaluations(self, cells: list[Evaluation], results: str) -> list[dict[str, Any]]:
        # Every stage of an evaluation may have failed; the first that did is the reason its cells give.
        rows = []
        for cell in cells:
            embedding = f"{cell.dataset}/{cell.method}/seed{cell.seed}/fold{cell.fold}"
            taken = self.house.methods[cell.method]["input"]
            trained = taken in TRAINED_ON
            stages = ["simulate", "fetch", "prepare", "prepare_images", "pixels"]
            stages += ["prepare_model"] if taken == "model_profiles" else []
            logs = [f"{results}/logs/{rule}/{cell.dataset}.log" for rule in stages]
            if trained:
                logs += self._training_logs(cell, results)
            else:
                logs += [f"{results}/logs/{rule}/{embedding}.log" for rule in ("embed", "embed_gpu")]
            logs += [f"{results}/logs/{rule}/{cell.folder}.log" for rule in ("correct", "neighbours", "evaluate")]
            rows.append(
                {
                    **asdict(cell),
                    "outputs": [
                        f"{results}/{embedding}/model/model.json"
                        if trained
                        else f"{results}/{cell.dataset}/prepared/profiles.parquet",
                        f"{results}/{embedding}/embedding.parquet",
                        f"{results}/{cell.folder}/profiles.parquet",
                        f"{results}/{cell.folder}/neighbours.npz",
                        f"{results}/{cell.folder}/scores.csv",
                    ],
                    "profiles": f"{results}/{cell.folder}/profiles.parquet",
                    "logs": logs,
                }
            )
        return rows

    def _training_logs(self, cell: Evaluation, results: str) -> list[str]:
        # A training may start from another, whose failure is then the reason.
        method = self.house.methods[cell.method]
        logs = []
        if method["starts_from"]:
            logs = self._training_logs(replace(cell, method=method["starts_from"]), results)
        where = f"{cell.dataset}/{cell.method}/seed{cell.seed}/fold{cell.fold}.log"
        rule = "train" if method["input"] == "images" else "train_network"
        return [*logs, f"{results}/logs/{rule}/{where}", f"{results}/logs/{rule}_gpu/{where}"]

    def _published_digests(self, spec: dict[str, Any]) -> dict[str, str]:
        named = [part["published"] for part in (spec, *spec["blocks"]) if part.get("published")]
        files = {published["file"] for published in named}
        return {name: sha256_of(self.house.root / "specs" / "published" / name) for name in sorted(files)}

    def _method_labels(self, spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
        named = {m for cell in expand_cells(spec) for m in (*cell.methods, cell.correction)}
        keys = ("id", "kind", "label", "deterministic")
        return {m: {k: self.house.methods[m][k] for k in keys} for m in sorted(named)}
