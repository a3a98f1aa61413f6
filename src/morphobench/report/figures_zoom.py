"""The window of a scatter plot that is enlarged beside it, coloured by what was done to the cells."""

from __future__ import annotations

from typing import Any

import numpy as np

from morphobench.report.figures_style import COLOURS, GREY, MARKERS, NEGATIVE

PART = 1 / 5
STEPS = 40
COLOURED = 12
FRAME = "#222222"
WINDOW_WORDS = (
    "the fifth of the width and height with most images of treatments that are there more than once, its "
    f"{COLOURED} most frequent treatments in colour"
)


def zoom_window(points: np.ndarray, labels: np.ndarray) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of the window to enlarge.

    It is a fifth as wide and high as the points spread. Among 41 by 41 places, evenly spaced, it is the one
    with most points of treatments that have two points or more in it; of equal ones that with most points at
    all, of these that whose middle is nearest to the mean of its points, so that an island that fits in is not
    at its edge; of these the leftmost, lowest. Negative controls are not counted. Nothing is random.

    Parameters
    ----------
    points
        (N, 2) coordinates.
    labels
        (N,) treatments, empty for negative controls.
    """
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    side = size * PART
    starts = low + np.linspace(0, 1, STEPS + 1)[:, None] * (size - side)
    treated = labels != ""
    names, codes = np.unique(labels[treated], return_inverse=True)
    # Rounding must not push the outermost points out of the outermost windows.
    slack = 1e-9 * np.maximum(size, 1)
    inside = [
        (points[treated, a] >= starts[:, a, None] - slack[a])
        & (points[treated, a] <= starts[:, a, None] + side[a] + slack[a])
        for a in (0, 1)
    ]
    scaled = (points[treated] - low) / np.where(side > 0, side, 1)
    best, place = (-1, -1, -np.inf), (0, 0)
    for i, columns in enumerate(inside[0]):
        for j, rows in enumerate(inside[1]):
            here = columns & rows
            counts = np.bincount(codes[here], minlength=len(names))
            score = (int(counts[counts > 1].sum()), int(counts.sum()))
            if score < best[:2] or not score[1]:
                continue
            middle = np.array([i, j]) * (1 / PART - 1) / STEPS + 0.5
            off = round(float(np.hypot(*(scaled[here].mean(axis=0) - middle))), 9)
            if (*score, -off) > best:
                best, place = (*score, -off), (i, j)
    left, bottom = starts[place[0], 0], starts[place[1], 1]
    return float(left), float(bottom), float(side[0]), float(side[1])


def within(points: np.ndarray, window: tuple[float, float, float, float]) -> np.ndarray:
    """Return which points lie in a window."""
    low, side = np.array(window[:2]), np.array(window[2:])
    slack = 1e-9 * np.maximum(np.abs(low) + side, 1)
    return ((points >= low - slack) & (points <= low + side + slack)).all(axis=1)


def frequent(labels: np.ndarray, most: int = COLOURED) -> list[str]:
    """Return the most frequent labels, the empty one left out; equally frequent ones in alphabetical order."""
    names, counts = np.unique(labels[labels != ""], return_counts=True)
    return [str(n) for n in names[np.lexsort((names, -counts))][:most]]


def frame_window(axes: Any, window: tuple[float, float, float, float]) -> None:
    """Draw the window's frame into the panel of all points."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(window[:2], *window[2:], fill=False, edgecolor=FRAME, linewidth=1.2, zorder=5))


def draw_window(
    axes: Any, points: np.ndarray, labels: np.ndarray, window: tuple[float, float, float, float]
) -> None:
    """Draw what lies in a window: the most frequent treatments in colours, others grey, negative controls red."""
    inside = within(points, window)
    points, labels = points[inside], labels[inside]
    size = float(np.clip(4000 / max(len(points), 1), 8, 22))
    marks = dict(zip(frequent(labels), [(c, m) for m in MARKERS for c in COLOURS], strict=False))
    rest = np.array([label != "" and label not in marks for label in labels], bool)
    axes.scatter(*points[rest].T, s=0.6 * size, c=GREY, alpha=0.35, linewidths=0)
    axes.scatter(*points[labels == ""].T, s=0.9 * size, c=NEGATIVE, marker="x", alpha=0.8, linewidths=0.9)
    for label, (colour, marker) in marks.items():
        style = {"marker": marker, "alpha": 0.9, "edgecolors": "white", "linewidths": 0.3}
        axes.scatter(*points[labels == label].T, s=size, color=colour, **style)
    axes.set(xticks=[], yticks=[])
    axes.set_xlim(window[0], window[0] + window[2])
    axes.set_ylim(window[1], window[1] + window[3])
    for spine in axes.spines.values():
        spine.set(visible=True, edgecolor=FRAME, linewidth=1.2)
    count = len(np.unique(labels[labels != ""]))
    facts = f"{len(points):,} images, {count:,} treatments"
    axes.text(0.02, 0.02, facts, transform=axes.transAxes, fontsize=6.5, color=FRAME, va="bottom", bbox=_PLATE)


_PLATE = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.0}


def zoom_legend(axes: Any, *_: Any) -> None:
    """Say beside a row of windows what their colours mean."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D

    def handle(colour: str, marker: str = "o") -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, markersize=5)

    handles = [tuple(map(handle, COLOURS[:4])), handle(GREY), handle(NEGATIVE, "x")]
    words = [f"the {COLOURED} treatments with\nmost images in a window", "other treatments", "negative controls"]
    place = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5), "frameon": False}
    style = {"labelspacing": 0.5, "handletextpad": 0.6, "fontsize": 7.5}
    axes.legend(handles, words, handler_map={tuple: HandlerTuple(ndivide=None, pad=0.2)}, **style, **place)
