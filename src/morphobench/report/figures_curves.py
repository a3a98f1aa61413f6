"""Precision against recall over similarity thresholds, as Figure 2B of mcVAE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.report.figures_style import COLOURS, GREY, pyplot, save
from morphobench.report.published import read_published

PREFIX = "cutoff percentile "


def curve(table: pd.DataFrame, row: str) -> pd.DataFrame:
    """Return a row's points: recall, precision and their bounds by percentile; only cells that are ``ok``."""
    mine = table[(table["row"] == row) & table["setting"].str.startswith(PREFIX) & (table["status"] == "ok")]
    values = ["measured_mean", "ci_low", "ci_high"]
    wide = mine.pivot_table(index="setting", columns="column", values=values, sort=False, dropna=False)
    if not {("measured_mean", "recall"), ("measured_mean", "precision")} <= set(wide.columns):
        return wide.iloc[:0]
    return wide.dropna(subset=[("measured_mean", "recall"), ("measured_mean", "precision")])


def draw_precision_recall(
    table: pd.DataFrame,
    spec: Mapping[str, Any],
    published_dir: str | Path,
    output: str | Path,
    footer: str = "",
) -> None:
    """Draw the curves of a table.

    Parameters
    ----------
    table
        The tidy table.
    spec
        The figure's spec: ``title``, ``rows``, ``controls``, ``published`` (file and table).
    published_dir
        Folder of the published numbers, drawn as hollow markers.
    output
        The PNG file.
    footer
        A line under the figure.
    """
    numbers = read_published(published_dir, spec["published"]["file"], spec["published"]["table"])
    with pyplot() as plt:
        figure, axes = plt.subplots(figsize=(6.4, 4.8))
        ends = []
        for row, colour, marker in zip(spec["rows"], COLOURS, "oD^svPX*", strict=False):
            points = curve(table, row)
            if len(points):
                _measured(axes, points, row, colour, marker)
                ends.append(points["measured_mean"][["recall", "precision"]].to_numpy())
            settings = [k[1] for k in numbers if k[0] == row and k[1].startswith(PREFIX) and k[2] == "recall"]
            paper = np.array([[numbers[row, s, c].mean for c in ("recall", "precision")] for s in settings])
            if len(paper):
                style = {"marker": marker, "mfc": "none", "mec": colour, "linestyle": "", "ms": 7, "mew": 0.9}
                axes.plot(*paper.T, label=f"{row}, published", **style)
                ends.append(paper)
        _frame(axes, ends)
        absent = _controls(axes, table, spec.get("controls", []))
        axes.set(xlabel="recall of CORUM pairs (fraction)", ylabel="precision (fraction)")
        axes.set_title(spec["title"], weight="bold")
        axes.legend(frameon=False, ncols=1, loc="upper right")
        note = "Markers: cutoff percentiles 80 (right) to 99 (left); crosses: intervals."
        text = "\n".join(filter(None, [note, absent, footer]))
        figure.text(0.5, -0.01, text, ha="center", va="top", fontsize=8)
        save(figure, output)


def _measured(axes: Any, points: pd.DataFrame, row: str, colour: str, marker: str) -> None:
    x, y = (points["measured_mean"][c].to_numpy() for c in ("recall", "precision"))
    bars = {}
    for name, column, middle in (("xerr", "recall", x), ("yerr", "precision", y)):
        low, high = (points[b][column].to_numpy() for b in ("ci_low", "ci_high"))
        bars[name] = np.nan_to_num(np.clip([middle - low, high - middle], 0, None))
    axes.errorbar(x, y, **bars, fmt="none", ecolor=colour, alpha=0.3, elinewidth=1)
    axes.plot(x, y, marker=marker, ms=4, color=colour, linewidth=1.2, label=f"{row}, measured")


def _frame(axes: Any, ends: list[np.ndarray]) -> None:
    # The frame follows the methods: a perfect control would press the curves flat.
    if not ends:
        return
    points = np.concatenate(ends)
    pad = np.maximum(0.06 * np.ptp(points, axis=0), 1e-3)
    low, high = points.min(axis=0) - pad, points.max(axis=0) + 2 * pad
    axes.set_xlim(max(low[0], 0), min(high[0], 1.02))
    axes.set_ylim(0, min(high[1], 1.02))


def _controls(axes: Any, table: pd.DataFrame, rows: list[str]) -> str:
    outside = []
    for row, style in zip(rows, ("--", ":", "-.", (0, (5, 1, 1, 1))), strict=False):
        points = curve(table, row)["measured_mean"] if len(curve(table, row)) else pd.DataFrame()
        xy = points[["recall", "precision"]].to_numpy() if len(points) else np.empty((0, 2))
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        inside = (xy[:, 0] >= left) & (xy[:, 0] <= right) & (xy[:, 1] >= bottom) & (xy[:, 1] <= top)
        if not inside.any():
            outside.append(f"{row} ({'outside the frame' if len(xy) else 'no values'})")
            continue
        axes.plot(*xy.T, linestyle=style, color=GREY, linewidth=1.3, label=f"{row} (control)")
    return f"Controls not shown: {', '.join(outside)}." if outside else ""
