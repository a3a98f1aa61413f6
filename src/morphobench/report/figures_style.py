"""What all figures share: size of type, colours that colour-blind readers can tell apart, status panels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from morphobench.files import atomic_path

# Okabe and Ito (2008) without vermillion, which is kept for negative controls.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#B8A800", "#7A4B94")
MARKERS = ("o", "^", "s")
NEGATIVE = "#D62728"
GREY = "#8A8A8A"
STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 160,
    "figure.facecolor": "white",
}


@contextmanager
def pyplot() -> Iterator[Any]:
    """Yield matplotlib's pyplot on a backend without a display, in the style of the figures; close all after."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        try:
            yield plt
        finally:
            plt.close("all")


def save(figure: Any, path: str | Path) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_path(path) as part:
        figure.savefig(part, format="png", bbox_inches="tight")


def status_panel(axes: Any, status: str, reason: str) -> None:
    """Fill axes with why there is nothing to show."""
    import textwrap

    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#F2F2F2")
    for spine in axes.spines.values():
        spine.set_visible(False)
    text = status.replace("_", " ") + "\n" + "\n".join(textwrap.wrap(reason, 20)[:7])
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=8, color="#555555", transform=axes.transAxes)
