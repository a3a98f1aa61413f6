"""Drawing one figure spec from a plan: which rows have what, and which kind of picture it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphobench.jobs import failure_path
from morphobench.report.cells import expand_cells
from morphobench.report.figures_curves import draw_precision_recall
from morphobench.report.figures_embeddings import Item, draw_embeddings
from morphobench.report.figures_overview import draw_overview
from morphobench.report.layout import scale_line
from morphobench.report.scores import failure
from morphobench.report.table import Table


def draw(plan: Mapping[str, Any], table: Table | None, published: str | Path) -> list[Path]:
    """Draw every picture of a figure spec and return the files written.

    Parameters
    ----------
    plan
        As ``morphobench.specs.plan.Plan.figure_plan`` makes it: ``figure`` and ``spec`` (of its table), ``scale``,
        ``dataset``, ``evaluations`` and ``folder``.
    table
        The table; only embeddings do without.
    published
        Folder of the published numbers.
    """
    spec = plan["figure"]
    outputs = {name: Path(plan["folder"]) / f"{figure}.png" for name, figure in spec["outputs"].items()}
    footer = scale_line(plan["scale"], plan["dataset"]["source"])
    if spec["kind"] == "embeddings":
        draw_embeddings(
            embedding_items(plan), spec["panels"], outputs, spec["seed"], spec["colour_by"], footer=footer
        )
        return list(outputs.values())
    (output,) = outputs.values()
    if spec["kind"] == "precision_recall":
        draw_precision_recall(table.cells, spec, published, output, footer)
    else:
        controls = {c.row for c in expand_cells(plan["spec"]) if c.control}
        draw_overview(table.cells, spec, published, output, controls, footer)
    return [output]


def draw_screen(plan: Mapping[str, Any]) -> list[Path]:
    """Draw the montage and the plate maps of an image store and return the files written.

    Parameters
    ----------
    plan
        As ``morphobench.specs.plan.Plan.figure_plan`` makes it for a data set of images: ``figure``, ``images``,
        ``store``, ``scale``, ``dataset`` and ``folder``.
    """
    from morphobench.images.store import ImageStore
    from morphobench.report.figures_images import draw_montage, draw_plates

    spec = plan["figure"]
    outputs = {name: Path(plan["folder"]) / f"{figure}.png" for name, figure in spec["outputs"].items()}
    footer = scale_line(plan["scale"], plan["dataset"]["source"])
    store = ImageStore(plan["store"])
    for name, draw_one in (("montage", draw_montage), ("plates", draw_plates)):
        if name in outputs:
            draw_one(store, plan["images"], outputs[name], title=plan["dataset"]["label"], subtitle=footer)
    return list(outputs.values())


def embedding_items(plan: Mapping[str, Any]) -> list[Item]:
    """Return the rows of the plan's table that are one method, with the profiles of the first evaluation.

    A row whose profiles are missing has the status and reason of its first failure, or ``not_run``.
    """
    items: dict[str, Item] = {}
    shown = {row for panel in plan["figure"]["panels"].values() for row in panel.get("rows", [])}
    for cell in expand_cells(plan["spec"]):
        if cell.row in items or len(cell.methods) > 1 or (shown and cell.row not in shown):
            continue
        runs = [
            e for e in plan["evaluations"] if (e["method"], e["correction"]) == (cell.methods[0], cell.correction)
        ]
        records = (failure_path(log) for e in runs[:1] for log in e["logs"])
        record = next((path for path in records if path.is_file()), None)
        if record is None and runs and Path(runs[0]["profiles"]).is_file():
            items[cell.row] = Item(cell.row, runs[0]["profiles"], "ok", "")
            continue
        reading = failure(record)
        items[cell.row] = Item(cell.row, None, reading.status, reading.reason)
    return list(items.values())
