"""A table at a glance: a heat map of measured and published values, and batch against biology."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.report.figures_style import COLOURS, GREY, MARKERS, pyplot, save
from morphobench.report.published import read_published

BATCH, BIOLOGY = ("aggregate", "Batch Corr."), ("aggregate", "Bio Metrics")


def draw_overview(
    table: pd.DataFrame,
    spec: Mapping[str, Any],
    published_dir: str | Path,
    output: str | Path,
    controls: set[str],
    footer: str = "",
) -> None:
    """Draw the heat map and, below it, the batch aggregate against the biology aggregate.

    Parameters
    ----------
    table
        The tidy table.
    spec
        The figure's spec: ``title``, ``settings`` (those whose scores lie between 0 and 1), ``published`` (file
        and table) or None; published rows that the table lacks are drawn as well.
    published_dir
        Folder of the published numbers.
    output
        The PNG file.
    controls
        The rows that are controls.
    footer
        A line under the figure.
    """
    table = table[table["setting"].isin(spec["settings"])]
    columns = list(dict.fromkeys(zip(table["setting"], table["column"], strict=True)))
    cells = {(r["row"], r["setting"], r["column"]): r for r in table.to_dict("records")}
    rows = list(dict.fromkeys(table["row"]))
    paper = {k: r["published_mean"] for k, r in cells.items()}
    if spec.get("published"):
        numbers = read_published(published_dir, spec["published"]["file"], spec["published"]["table"])
        extra = [r for r in dict.fromkeys(k[0] for k in numbers) if r not in rows]
        rows = [r for r in rows if r not in controls] + extra + [r for r in rows if r in controls]
        paper |= {k: p.mean for k, p in numbers.items() if k[0] in extra}
    with pyplot() as plt:
        height = 0.36 * len(rows)
        figure, (top, below) = plt.subplots(
            2,
            1,
            figsize=(2.6 + 0.78 * len(columns), height + 6.6),
            gridspec_kw={"height_ratios": [height, 4.2], "hspace": 1.5 / (height + 4.2)},
        )
        _heat(figure, top, rows, columns, cells, paper, controls)
        _scatter(below, rows, cells, paper, controls)
        box = below.get_position()
        below.set_position([box.x0 + 0.05, box.y0, 0.42, box.height])
        top.set_title(spec["title"], weight="bold", pad=88, loc="left")
        figure.text(0.5, box.y0 - 0.06, footer, ha="center", va="top", fontsize=8)
        save(figure, output)


def _heat(
    figure: Any,
    axes: Any,
    rows: list[str],
    columns: list[tuple[str, str]],
    cells: Mapping[tuple, Mapping[str, Any]],
    paper: Mapping[tuple, float],
    controls: set[str],
) -> None:
    import matplotlib as mpl

    ramp, scale = mpl.colormaps["cividis"], mpl.colors.Normalize(0, 1)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            cell = cells.get((row, *column))
            shown = cell["measured_mean"] if cell else np.nan
            beside = paper.get((row, *column), np.nan)
            width = 0.56 if np.isfinite(beside) else 0.96
            word = "" if np.isfinite(shown) else (cell["status"].replace("_", " ") if cell else "none")
            _tile(axes, x - 0.48, y, width, shown, ramp, scale, 8.5, word)
            if np.isfinite(beside):
                _tile(axes, x + 0.08, y, 0.40, beside, ramp, scale, 7)
    edges = [i for i in range(1, len(columns)) if columns[i][0] != columns[i - 1][0]]
    for edge in edges:
        axes.axvline(edge - 0.5, color="white", linewidth=4)
        axes.axvline(edge - 0.5, color="black", linewidth=0.8)
    first = next((i for i, r in enumerate(rows) if r in controls), None)
    if first:
        axes.axhline(first - 0.5, color="black", linewidth=0.8)
    for setting in dict.fromkeys(c[0] for c in columns):
        middle = np.mean([i for i, c in enumerate(columns) if c[0] == setting])
        axes.text(middle, len(rows) - 0.4, setting, ha="center", va="top", fontsize=9, weight="bold")
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(columns)), [c[1] for c in columns], rotation=40, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(mpl.cm.ScalarMappable(scale, ramp), ax=axes, fraction=0.015, pad=0.01)
    published = any(np.isfinite(value) for value in paper.values())
    bar.set_label("score (left: measured, right: published)" if published else "score", fontsize=8)


def _tile(
    axes: Any, x: float, y: int, width: float, value: float, ramp: Any, scale: Any, size: float, word: str = ""
) -> None:
    from matplotlib.patches import Rectangle

    known = np.isfinite(value)
    colour = ramp(scale(value)) if known else "#EEEEEE"
    axes.add_patch(Rectangle((x, y - 0.46), width, 0.92, color=colour, linewidth=0))
    dark = known and scale(value) < 0.55
    text, ink = (f"{value:.2f}", "white" if dark else "black") if known else (word, "#666666")
    axes.text(x + width / 2, y, text, ha="center", va="center", fontsize=size if known else 7, color=ink)


def _scatter(
    axes: Any,
    rows: list[str],
    cells: Mapping[tuple, Mapping[str, Any]],
    paper: Mapping[tuple, float],
    controls: set[str],
) -> None:
    marks = iter([(c, m) for m in MARKERS for c in COLOURS])
    for row in rows:
        colour, marker = (GREY, "X") if row in controls else next(marks)
        pair = [cells.get((row, *c)) for c in (BATCH, BIOLOGY)]
        here = np.array([c["measured_mean"] if c else np.nan for c in pair])
        there = np.array([paper.get((row, *c), np.nan) for c in (BATCH, BIOLOGY)])
        if np.isfinite(here).all() and np.isfinite(there).all():
            axes.plot(*zip(here, there, strict=True), color=colour, linewidth=0.7, alpha=0.6)
        if np.isfinite(there).all():
            axes.plot(*there, marker=marker, mfc="none", mec=colour, ms=8, linestyle="")
        if np.isfinite(here).all():
            axes.plot(*here, marker=marker, color=colour, ms=7, linestyle="")
            if row in controls:
                axes.annotate(row, here, (6, 3), textcoords="offset points", fontsize=7, color="#555555")
        else:
            row += " (no measured value)" if not np.isfinite(there).all() else " (published only)"
        axes.plot([], [], marker=marker, color=colour, linestyle="", label=row)
    axes.set(xlabel="batch correction, aggregate (score)", ylabel="biology, aggregate (score)")
    published = any(np.isfinite(value) for value in paper.values())
    marks_mean = " (filled: measured; hollow: published)" if published else ""
    axes.set_title(f"Batch correction against biology{marks_mean}", loc="left", fontsize=9)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))
