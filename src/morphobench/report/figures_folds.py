"""A table as dots: every run, their mean and spread, and the published value beside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.report.cells import expand_cells
from morphobench.report.figures_style import COLOURS, GREY, pyplot, save
from morphobench.report.layout import scale_line
from morphobench.report.published import unit_factor
from morphobench.report.runs import cell_runs
from morphobench.report.scores import ScoreStore

MEASURED, PUBLISHED = COLOURS[0], COLOURS[1]


def dots(plan: Mapping[str, Any], table: pd.DataFrame, store: ScoreStore) -> pd.DataFrame:
    """Return one row a run of every cell: row, setting, column, control, seed, fold, value (in the unit shown).

    Runs without a value are left out; the figure says where nothing was measured.
    """
    units = {(r["row"], r["setting"], r["column"]): r["unit"] for r in table.to_dict("records")}
    found = []
    for cell in expand_cells(plan["spec"]):
        factor = unit_factor(plan["metrics"][cell.metric_id]["unit"], units[cell.key]) or 1.0
        for (seed, fold), reading in cell_runs(cell, store, factor).items():
            if reading.status == "ok":
                key = dict(zip(("row", "setting", "column"), cell.key, strict=True))
                found.append({**key, "control": cell.control, "seed": seed, "fold": fold, "value": reading.value})
    return pd.DataFrame(found, columns=["row", "setting", "column", "control", "seed", "fold", "value"])


def draw_folds(plan: Mapping[str, Any], table: pd.DataFrame, store: ScoreStore) -> list[Path]:
    """Draw a table as dots and return the file written.

    One panel a column, one line a row of the table. Small dots are runs (seed and fold), moved apart a little in
    their order; below them, the mean and standard deviation over runs, and below that the published ones. Controls
    stand at the end.

    Parameters
    ----------
    plan
        Of the figure, as ``morphobench.specs.plan.Plan.figure_plan`` makes it; ``figure`` may have ``settings``
        (those shown) and ``rows`` (those shown besides controls).
    table
        The tidy table.
    store
        The scores of its evaluations.
    """
    figure_spec = plan["figure"]
    runs = dots(plan, table, store)
    controls = {c.row for c in expand_cells(plan["spec"]) if c.control}
    rows = [r for r in dict.fromkeys(table["row"]) if r in figure_spec.get("rows", [r]) or r in controls]
    rows.sort(key=lambda r: r in controls)
    keys = list(dict.fromkeys(zip(table["setting"], table["column"], strict=True)))
    keys = [k for k in keys if k[0] in figure_spec.get("settings", [k[0]])]
    ((_, name),) = figure_spec["outputs"].items()
    output = Path(plan["folder"]) / f"{name}.png"
    with pyplot() as plt:
        size = (2.6 + 2.5 * len(keys), 1.3 + 0.42 * len(rows))
        figure, grid = plt.subplots(1, len(keys), figsize=size, sharey=True, squeeze=False)
        for axes, key in zip(grid[0], keys, strict=True):
            of = table[(table["setting"] == key[0]) & (table["column"] == key[1])].set_index("row")
            mine = runs[(runs["setting"] == key[0]) & (runs["column"] == key[1])]
            _panel(axes, rows, controls, of, mine)
            axes.set_title(f"{key[1]}\n({key[0]})" if key[0] else key[1], fontsize=9)
            axes.set_xlabel("" if of.empty else of["unit"].iloc[0])
        grid[0, 0].set_yticks(range(len(rows)), rows)
        for label, row in zip(grid[0, 0].get_yticklabels(), rows, strict=True):
            label.set_color("#555555" if row in controls else "black")
            label.set_fontstyle("italic" if row in controls else "normal")
        grid[0, 0].set_ylim(len(rows) - 0.4, -0.6)
        _words(figure, figure_spec["title"], runs, scale_line(plan["scale"], plan["dataset"]["source"]))
        save(figure, output)
    return [output]


def _panel(axes: Any, rows: list[str], controls: set[str], table: pd.DataFrame, runs: pd.DataFrame) -> None:
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)
    for y, row in enumerate(rows):
        if y % 2:
            axes.axhspan(y - 0.5, y + 0.5, color="#F6F6F8", linewidth=0, zorder=0)
        if row not in table.index:
            continue
        cell = table.loc[row]
        colour = GREY if row in controls else MEASURED
        values = runs.loc[runs["row"] == row].sort_values(["fold", "seed"])["value"].to_numpy()
        if len(values):
            shifts = np.linspace(-0.08, 0.08, len(values)) if len(values) > 1 else np.zeros(1)
            axes.scatter(values, y - 0.2 + shifts, s=11, color=colour, alpha=0.65, linewidths=0, zorder=3)
            _mean(axes, y + 0.06, cell["measured_mean"], cell["measured_std"], colour, "o", colour)
        else:
            word = str(cell["status"]).replace("_", " ")
            place = {"transform": axes.get_yaxis_transform(), "va": "center", "ha": "right"}
            axes.text(0.99, y - 0.14, word, fontsize=7, color="#555555", style="italic", **place)
        if np.isfinite(cell["published_mean"]):
            _mean(axes, y + 0.3, cell["published_mean"], cell["published_std"], PUBLISHED, "D", "white")
    first = next((i for i, r in enumerate(rows) if r in controls), None)
    if first:
        axes.axhline(first - 0.5, color="black", linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _mean(axes: Any, y: float, mean: float, std: float, colour: str, marker: str, face: str) -> None:
    if np.isfinite(std):
        axes.plot([mean - std, mean + std], [y, y], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=2)
    axes.plot(mean, y, marker=marker, mfc=face, mec=colour, ms=5.5, mew=1.3, linestyle="", zorder=4)


def _words(figure: Any, title: str, runs: pd.DataFrame, footer: str) -> None:
    from matplotlib.lines import Line2D

    figure.tight_layout(w_pad=1.5)
    marks = [
        Line2D([], [], linestyle="", marker="o", color=MEASURED, ms=3, alpha=0.65, label="one run (fold, seed)"),
        Line2D([], [], marker="o", color=MEASURED, ms=5.5, linewidth=1.6, label="measured, mean ± std over runs"),
        Line2D([], [], marker="D", mfc="white", color=PUBLISHED, ms=5.5, linewidth=1.6, label="published ± std"),
    ]
    if runs["control"].any():
        marks.append(Line2D([], [], linestyle="", marker="o", color=GREY, ms=5.5, label="control"))
    inch = 1 / figure.get_figheight()
    figure.text(0.5, 1 + 0.08 * inch, title, ha="center", va="bottom", fontsize=11, weight="bold")
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "frameon": False, "borderaxespad": 0}
    wide = figure.get_figwidth() > 7
    figure.legend(handles=marks, ncols=len(marks) if wide else 2, **place)
    figure.text(0.5, -(0.25 if wide else 0.45) * inch, footer, ha="center", va="top", fontsize=8)
