"""From specs to work: which evaluations a table needs, which metrics they run, and where the results lie.

Only the standard library is imported, because every parse of the workflow asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from morphobench.files import sha256_of
from morphobench.report.cells import metric_ids, required_evaluations
from morphobench.specs.checks import REPRESENTATIONS
from morphobench.specs.house import House


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

    folds = (0,)

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
        methods = self.house.methods.values()
        if kind == "representations":
            ids = [m["id"] for m in methods if m["kind"] in REPRESENTATIONS]
        elif kind == "cpu_representations":
            ids = [m["id"] for m in methods if m["kind"] in REPRESENTATIONS and not m["resources"]["gpu"]]
        elif kind == "gpu_representations":
            ids = [m["id"] for m in methods if m["kind"] in REPRESENTATIONS and m["resources"]["gpu"]]
        elif kind == "corrections":
            ids = [m["id"] for m in methods if m["kind"] == "correction"]
        elif kind == "profile_datasets":
            ids = [i for i, d in self.house.datasets.items() if d["reader"]]
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
        spec = self.house.tables[table]
        needed = required_evaluations(spec, self.house.methods, self.house.config["seeds"], self.folds)
        return [Evaluation(spec["dataset"], *evaluation) for evaluation in needed]

    def figure_cells(self, group: str) -> list[Evaluation]:
        """Return the evaluations whose profiles a figure of embeddings shows: its rows, for the first seed."""
        figure = self.house.figures[group]
        table = self.house.tables[figure["table"]]
        shown = {row for panel in figure.get("panels", {}).values() for row in panel["rows"]}
        rows = [row for block in table["blocks"] for row in block["rows"] if row["row"] in shown]
        pairs = dict.fromkeys((row["method"], row.get("correction", "none")) for row in rows)
        seed = self.house.config["seeds"][0]
        return [Evaluation(table["dataset"], *pair, seed, fold) for pair in pairs for fold in self.folds]

    def metrics_for(self, dataset: str) -> list[dict[str, Any]]:
        """Return the specs of the metrics that any table on ``dataset`` names, parts of aggregates included."""
        wanted: dict[str, None] = {}
        for table in self.house.tables.values():
            if table["dataset"] == dataset:
                wanted |= dict.fromkeys(metric_ids(table))
        queue = list(wanted)
        while queue:
            parts = self.house.metrics[queue.pop()]["parameters"].get("parts", [])
            queue += [p for p in parts if p not in wanted]
            wanted |= dict.fromkeys(parts)
        return [spec for i, spec in self.house.metrics.items() if i in wanted]

    def metric_functions(self, dataset: str) -> list[str]:
        """Return the ``module:function`` of every metric that runs on ``dataset``."""
        return sorted({spec["function"] for spec in self.metrics_for(dataset)})

    def neighbour_needs(self, dataset: str) -> list[dict[str, Any]]:
        """Return what the metrics on ``dataset`` ask of the shared neighbour graph."""
        return [spec for spec in self.metrics_for(dataset) if "neighbours" in spec]

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

    def target_list(self) -> str:
        """Return the names that can be asked for, as text."""
        tables = {table: self.house.tables[table]["title"] for table in self.tables}
        figures = {}
        for group in self.figures:
            spec = self.house.figures[group]
            for output, name in spec["outputs"].items():
                panel = spec.get("panels", {}).get(output)
                figures[name] = panel["title"] if panel else spec["title"]
                if spec["kind"] == "screen":
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
            logs = [f"{results}/logs/{rule}/{cell.dataset}.log" for rule in ("simulate", "fetch", "prepare")]
            logs += [f"{results}/logs/{rule}/{embedding}.log" for rule in ("embed", "embed_gpu")]
            logs += [f"{results}/logs/{rule}/{cell.folder}.log" for rule in ("correct", "neighbours", "evaluate")]
            rows.append(
                {
                    **asdict(cell),
                    "outputs": [
                        f"{results}/{cell.dataset}/prepared/profiles.parquet",
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

    def _published_digests(self, spec: dict[str, Any]) -> dict[str, str]:
        named = [part["published"] for part in (spec, *spec["blocks"]) if part.get("published")]
        files = {published["file"] for published in named}
        return {name: sha256_of(self.house.root / "specs" / "published" / name) for name in sorted(files)}

    def _method_labels(self, spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
        named = {m for e in required_evaluations(spec, self.house.methods, [0], [0]) for m in e[:2]}
        keys = ("id", "kind", "label", "deterministic")
        return {m: {k: self.house.methods[m][k] for k in keys} for m in sorted(named)}
