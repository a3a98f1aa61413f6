"""Drawing one figure spec from a plan: which rows have what, and which kind of picture it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from morphobench.jobs import failure_path
from morphobench.report.cells import expand_cells
from morphobench.report.figures_curves import draw_precision_recall
from morphobench.report.figures_embeddings import Item, draw_embeddings
from morphobench.report.figures_overview import draw_overview
from morphobench.report.figures_rows import shown_profiles, shown_rows
from morphobench.report.layout import scale_line
from morphobench.report.scores import failure
from morphobench.report.table import Table

if TYPE_CHECKING:
    import pandas as pd


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
        shown = {name: shown_rows(panel, plan["spec"]) for name, panel in spec["panels"].items()}
        if "split" in spec:
            folds = sorted({e["fold"] for e in plan["evaluations"]})[:1]
            footer = f"The {spec['split']} split of fold {folds[0] if folds else 0}. {footer}"
        draw_embeddings(embedding_items(plan), spec["panels"], shown, outputs, spec, footer)
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
    words = {
        "title": spec["title"] if "montage" in spec else plan["dataset"]["label"],
        "subtitle": scale_line(plan["scale"], plan["dataset"]["source"]),
    }
    store = ImageStore(plan["store"])
    if "montage" in outputs:
        choice = montage_choice(store.samples, plan["images"], spec["montage"]) if "montage" in spec else {}
        draw_montage(store, plan["images"], outputs["montage"], **words, **choice)
    if "plates" in outputs:
        draw_plates(store, plan["images"], outputs["plates"], **words)
    return list(outputs.values())


def montage_choice(
    samples: pd.DataFrame, images: Mapping[str, Any], montage: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Return the treatments and batches of a montage.

    Parameters
    ----------
    samples
        Those of the image store.
    images
        ``images`` of the dataset's spec; ``montage`` names the columns of treatments and rows.
    montage
        ``treatments``, their names or how many: as many as possible of the chosen rows have them, spread over
        their natural order, and controls are not among them; and ``rows``, names or how many, spread over all.
    """
    from morphobench.images.folds import natural_key
    from morphobench.images.views import choose_treatments, spread

    columns = images.get("montage") or {}
    label, row = columns.get("label", "Metadata_Perturbation"), columns.get("rows", "Metadata_Batch")
    rows = montage["rows"]
    if isinstance(rows, int):
        rows = spread(sorted(samples[row].dropna().unique(), key=natural_key), rows)
    treatments = montage["treatments"]
    if isinstance(treatments, int):
        treated = samples[
            (samples["Metadata_Control"] == "trt") & samples[row].isin(rows) & (samples[label] != "")
        ]
        treatments = choose_treatments(treated, label, row, treatments)
    return {"treatments": treatments, "batches": rows}


def embedding_items(plan: Mapping[str, Any]) -> dict[tuple[str, str], Item]:
    """Return, by method and correction, the profiles of the first evaluation of everything that panels show.

    Where profiles are missing there are the status and reason of the first failure, or ``not_run``.
    """
    items = {}
    for key in shown_profiles(plan["figure"], plan["spec"]):
        runs = [e for e in plan["evaluations"] if (e["method"], e["correction"]) == key]
        records = (failure_path(log) for e in runs[:1] for log in e["logs"])
        record = next((path for path in records if path.is_file()), None)
        if record is None and runs and Path(runs[0]["profiles"]).is_file():
            items[key] = Item(runs[0]["profiles"], "ok", "")
            continue
        reading = failure(record)
        items[key] = Item(None, reading.status, reading.reason)
    return items
