"""Pictures of an image store: montages of treatments and batches, and heat maps of plates."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from morphobench.errors import DataError
from morphobench.images.folds import natural_key
from morphobench.images.store import ImageStore
from morphobench.images.views import (
    IMAGES_PER_WELL,
    choose_treatments,
    merge_channels,
    plate_values,
    spread,
    stretch_limits,
    well_place,
)
from morphobench.report.figures_style import NEGATIVE, pyplot, save, status_panel

ROWS, COLUMNS = 6, 8
PLATES = 4
PANEL_PIXELS = 192
FORMATS = ((2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24), (32, 48))


def draw_montage(
    store: ImageStore,
    spec_images: Mapping[str, Any],
    path: str | Path,
    *,
    title: str,
    subtitle: str,
    treatments: Sequence[str] | None = None,
    batches: Sequence[str] | None = None,
) -> None:
    """Draw treatments across and batches down, as Figure 3 of CDCL (Haslum et al. 2023).

    A panel is one image, or a square of several where images are crops smaller than a panel. Channels are shown in
    the colours of the spec; one channel alone is grey. All images share one stretch of each channel.

    Parameters
    ----------
    store
        The images.
    spec_images
        ``images`` of the dataset's spec; used are ``channels``, ``pixel_size_um`` (unless ``store.json`` has one)
        and ``montage``: ``label``, the column that names treatments, and optionally ``rows``, by default
        ``Metadata_Batch``.
    path
        The PNG.
    title, subtitle
        Name of the dataset; scale and source of the data.
    treatments, batches
        What to show; by default chosen by number of batches, and spread over all batches.
    """
    montage = spec_images.get("montage") or {}
    label, rows = montage.get("label", "Metadata_Perturbation"), montage.get("rows", "Metadata_Batch")
    samples = store.samples
    for column in (label, rows):
        if column not in samples:
            raise DataError(f"{store.folder}: samples have no column {column}, which the montage is to show")
    samples = _with_named_controls(samples, label)
    if batches is None:
        batches = spread(sorted(samples[rows].dropna().unique(), key=natural_key), ROWS)
    if treatments is None:
        shown = samples[samples[rows].isin(batches) & (samples[label] != "")]
        treatments = choose_treatments(shown, label, rows, COLUMNS)
    groups = samples.groupby([rows, label], sort=False).indices
    places = [[np.sort(groups.get((b, t), np.array([], int))) for t in treatments] for b in batches]
    side = _mosaic_side(store, [p for row in places for p in row])
    shown = [[np.array(spread(p, side**2), int) for p in row] for row in places]
    facts = [
        subtitle.rstrip("."),
        f"across: {_word(label)}, down: {_word(rows)}",
        "each channel stretched alike in all images",
    ]
    if side > 1:
        facts.insert(2, f"{side * side} images of {store.shape[1]} x {store.shape[2]} pixels a panel")
    channels, names = spec_images["channels"], [_short(t, samples, label) for t in treatments]
    canvas = _Canvas.of(store, channels, shown, side)
    pixel = store.facts.get("pixel_size_um", spec_images.get("pixel_size_um"))
    with pyplot() as plt:
        height, width = canvas.picture.shape[:2]
        inches = max(3.0, 1.15 * len(treatments))
        figure = plt.figure(figsize=(inches, inches * height / width))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(canvas.picture, interpolation="antialiased", aspect="auto")
        axes.set_xticks(canvas.centres[1], names, rotation=35, ha="left", rotation_mode="anchor")
        axes.set_yticks(canvas.centres[0], [textwrap.shorten(str(b), 24, placeholder="...") for b in batches])
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        axes.set_ylabel(_word(rows))
        if pixel:
            _scale_bar(axes, canvas, pixel, store.shape[2])
        inch = 1 / figure.get_figheight()
        # A slanted label of n letters is about 0.035 n inches high.
        above = 1 + (0.22 + 0.035 * max(len(n) for n in names)) * inch
        figure.text(0.5, above, title, ha="center", va="bottom", fontsize=11, weight="bold")
        below = -0.08 * inch
        if len(channels) > 1:
            below -= (0.1 + 0.18 * _channel_legend(figure, channels, below)) * inch
        lines = "\n".join(textwrap.wrap("; ".join(facts), int(16.5 * inches)))
        figure.text(0.5, below, lines, ha="center", va="top", fontsize=8)
        save(figure, path)


def _with_named_controls(samples: pd.DataFrame, label: str) -> pd.DataFrame:
    # Mechanisms and genes are often empty for controls, which are then named by their perturbation.
    named = samples[label].where(samples[label].notna() & (samples[label] != ""), samples["Metadata_Perturbation"])
    return samples.assign(**{label: named.where(samples["Metadata_Control"] == "negcon", samples[label])})


def _word(column: str) -> str:
    if column == "Metadata_MoA":
        return "mechanism"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column.removeprefix("Metadata_")).lower()


def _short(treatment: Any, samples: pd.DataFrame, label: str) -> str:
    text = str(treatment) if len(str(treatment)) <= 22 else f"{str(treatment)[:20]}..."
    controls = samples.loc[samples[label] == treatment, "Metadata_Control"]
    return f"{text} (control)" if (controls == "negcon").any() else text


def _mosaic_side(store: ImageStore, places: Sequence[np.ndarray]) -> int:
    fewest = min((len(p) for p in places if len(p)), default=1)
    return max(1, min(PANEL_PIXELS // max(store.shape[1:]), int(fewest**0.5)))


class _Canvas(NamedTuple):
    """All panels in one picture on white, the centres of its rows and columns, the corner of the last panel."""

    picture: np.ndarray
    centres: tuple[np.ndarray, np.ndarray]
    corner: np.ndarray
    zoom: int

    @classmethod
    def of(
        cls,
        store: ImageStore,
        channels: Sequence[Mapping[str, Any]],
        shown: Sequence[Sequence[np.ndarray]],
        side: int,
    ) -> _Canvas:
        from matplotlib.colors import to_rgb

        size, grid = np.array(store.shape[1:]), np.array([len(shown), len(shown[0])])
        limits = stretch_limits(store.take(np.concatenate([p for row in shown for p in row])))
        colours = np.array([to_rgb(c["colour"]) if len(channels) > 1 else (1.0, 1.0, 1.0) for c in channels])
        panel = size * side + (side - 1)
        step = panel + max(3, int(panel.max()) // 40)
        picture, corner = np.ones((*(step * (grid - 1) + panel), 3)), panel
        for place in np.ndindex(*grid):
            indices = shown[place[0]][place[1]]
            y, x = step * place
            picture[y : y + panel[0], x : x + panel[1]] = 1.0 if len(indices) else 0.92
            corner = step * place + panel if len(indices) else corner
            for k, image in enumerate(merge_channels(store.take(indices).astype(float), colours, limits)):
                v, u = (y, x) + np.array([k // side, k % side]) * (size + 1)
                picture[v : v + size[0], u : u + size[1]] = image
        zoom = max(1, round(PANEL_PIXELS / int(panel.max())))
        centres = [zoom * (step[a] * np.arange(grid[a]) + panel[a] / 2) for a in (0, 1)]
        return cls(picture.repeat(zoom, axis=0).repeat(zoom, axis=1), tuple(centres), corner * zoom, zoom)


def _scale_bar(axes: Any, canvas: _Canvas, pixel_um: float, width: int) -> None:
    """Draw a bar of a round length, at most 0.4 of an image, into the lower right corner of the last panel."""
    from matplotlib.patheffects import withStroke

    lengths = [n * 10.0**e for e in range(-2, 5) for n in (1, 2, 5)]
    length = max(n for n in lengths if n <= max(0.4 * width * pixel_um, lengths[0]))
    inset = 0.06 * width * canvas.zoom
    y, right = canvas.corner - inset
    left = right - length / pixel_um * canvas.zoom
    text = f"{length:g} \N{MICRO SIGN}m"
    outline = [withStroke(linewidth=1.5, foreground="black")]
    bar = axes.plot([left, right], [y, y], linewidth=2.5, color="white", solid_capstyle="butt")[0]
    bar.set_path_effects([withStroke(linewidth=3.5, foreground="black")])
    style = {"color": "white", "fontsize": 7, "path_effects": outline}
    axes.text(right, y - 0.5 * inset, text, ha="right", va="bottom", **style)


def _channel_legend(figure: Any, channels: Sequence[Mapping[str, Any]], top: float) -> int:
    """Draw the channels' colours below ``top`` and return the number of lines they take."""
    from matplotlib.patches import Patch

    names = [c["name"] + (f" ({c['stain']})" if c.get("stain") not in (None, c["name"]) else "") for c in channels]
    handles = [
        Patch(facecolor=c["colour"], edgecolor="#555555", linewidth=0.5, label=n)
        for c, n in zip(channels, names, strict=True)
    ]
    lines = -(-(len("".join(names)) + 6 * len(names)) // int(14 * figure.get_figwidth()))
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, top), "borderaxespad": 0, "frameon": False}
    figure.legend(handles=handles, ncols=-(-len(names) // lines), handlelength=1, handleheight=1, **place)
    return lines


def draw_plates(
    store: ImageStore,
    spec_images: Mapping[str, Any],
    path: str | Path,
    *,
    title: str,
    subtitle: str,
    plates: Sequence[str] | None = None,
) -> None:
    """Draw heat maps of plates: mean intensity of each channel and cell count, by well.

    Wells of negative controls alone are marked. Each column of maps has one colour scale, between the 1st and the
    99th percentile of its wells. Without wells that have a row and a column, a panel says so.

    Parameters
    ----------
    store
        The images.
    spec_images
        ``images`` of the dataset's spec; ``channels`` is used.
    path
        The PNG.
    title, subtitle
        Name of the dataset; scale and source of the data.
    plates
        Which plates; by default four, spread over all.
    """
    if plates is None:
        plates = spread(sorted(store.samples["Metadata_Plate"].unique(), key=natural_key), PLATES)
    places = [well_place(w) for w in store.samples["Metadata_Well"].unique()]
    if None in places:
        with pyplot() as plt:
            figure, axes = plt.subplots(figsize=(3, 1.5))
            status_panel(axes, "not_applicable", "wells of this dataset have no row and column")
            axes.set_title(title)
            save(figure, path)
        return
    shape = next((f for f in FORMATS if np.all(np.max(places, axis=0) < f)), FORMATS[-1])
    tables = [plate_values(store, plate, spec_images["channels"]) for plate in plates]
    unit = tables[0][1]
    columns = [*store.channels, *(["count"] if unit else [])]
    limits = {
        c: np.percentile(np.concatenate([t[c].to_numpy(float) for t, _ in tables]), [1, 99]) for c in columns
    }
    wide, gap = 9.0 / max(4, len(columns)), 0.1
    high = wide * shape[0] / shape[1]
    with pyplot() as plt:
        # Axes are placed in inches from the lower left corner of the last row of maps.
        size = ((wide + gap) * len(columns), (high + gap) * len(plates))
        figure = plt.figure(figsize=size)
        for j, column in enumerate(columns):
            for i, (table, _) in enumerate(tables):
                box = (j * (wide + gap), (len(plates) - 1 - i) * (high + gap), wide, high)
                axes = figure.add_axes((box[0] / size[0], box[1] / size[1], wide / size[0], high / size[1]))
                image = _heat_map(axes, table, column, shape, limits[column], wide)
                axes.tick_params(labelleft=j == 0, labelbottom=i == len(plates) - 1)
                if j == 0:
                    fitting = 72 * high / (0.66 * len(str(plates[i])))
                    axes.set_ylabel(str(plates[i]), fontsize=float(np.clip(fitting, 5, 8)), labelpad=4)
                if i == 0:
                    axes.set_title("cell count" if column == "count" else column, fontsize=9)
            axes = figure.add_axes((box[0] / size[0], -0.3 / size[1], wide / size[0], 0.07 / size[1]))
            bar = figure.colorbar(image, cax=axes, orientation="horizontal")
            bar.outline.set_visible(False)
            bar.locator = plt.MaxNLocator(3)
            axes.tick_params(labelsize=7, width=0.5, length=2)
            axes.set_xlabel(unit if column == "count" else "mean pixel value", fontsize=8, labelpad=2)
        facts = f"{subtitle.rstrip('.')}; grey: no images; colours from 1st to 99th percentile of wells"
        if any(table["negcon"].any() for table, _ in tables):
            facts += "; red: negative controls"
        if store.samples.groupby(["Metadata_Plate", "Metadata_Well"]).size().max() > IMAGES_PER_WELL:
            facts += f"; intensity from at most {IMAGES_PER_WELL} images a well"
        if unit.startswith("nuclei"):
            facts += "; nuclei: objects above Otsu's threshold, touching ones count as one"
        lines = "\n".join(textwrap.wrap(facts, int(16.5 * size[0])))
        figure.text(0.5, 1 + 0.25 / size[1], title, ha="center", va="bottom", fontsize=11, weight="bold")
        figure.text(0.5, -0.75 / size[1], lines, ha="center", va="top", fontsize=8)
        save(figure, path)


def _heat_map(
    axes: Any, table: pd.DataFrame, column: str, shape: tuple[int, int], limits: np.ndarray, inches: float
) -> Any:
    values = np.full(shape, np.nan)
    places = np.array([well_place(w) for w in table.index])
    values[places[:, 0], places[:, 1]] = table[column]
    axes.set_facecolor("#E4E4E4")
    low, high = limits
    image = axes.imshow(values, vmin=low, vmax=max(high, low + 1e-9), cmap="viridis", interpolation="nearest")
    negative = places[table["negcon"].to_numpy(bool)]
    points = 72 * inches / shape[1]
    style = {"marker": "s", "facecolors": "none", "edgecolors": NEGATIVE, "linewidths": min(1.5, 0.25 * points)}
    axes.scatter(negative[:, 1], negative[:, 0], s=(0.8 * points) ** 2, **style)
    rows, columns = spread(range(shape[0]), 3), spread(range(shape[1]), 3)
    axes.set_yticks(rows, [chr(65 + r) if r < 26 else "A" + chr(39 + r) for r in rows])
    axes.set_xticks(columns, [str(c + 1) for c in columns])
    axes.tick_params(length=0, labelsize=7, pad=2)
    axes.spines[:].set_visible(False)
    return image
