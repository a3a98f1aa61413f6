"""Two-dimensional views of profiles: PCA, t-SNE and UMAP panels, as Figures 4 to 7 of CellPainTR."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from morphobench.profiles import Profiles, read_profiles
from morphobench.report.figures_rows import Shown
from morphobench.report.figures_style import COLOURS, GREY, MARKERS, NEGATIVE, pyplot, save, status_panel
from morphobench.report.figures_zoom import WINDOW_WORDS, draw_window, frame_window, zoom_legend, zoom_window

MAX_POINTS = 5000
MAX_COMPONENTS = 50
FEWEST = 5
# Eight colours by three markers.
MAX_LEGEND = len(COLOURS) * len(MARKERS)
AXES = {"pca": ("PC1", "PC2"), "tsne": ("t-SNE 1", "t-SNE 2"), "umap": ("UMAP 1", "UMAP 2")}


class Item(NamedTuple):
    """The profiles of a method under a correction, or why there are none."""

    profiles: str | Path | None
    status: str
    reason: str


@dataclass(frozen=True)
class View:
    """Sampled profiles and their projections."""

    profiles: Profiles
    total: int
    points: dict[str, np.ndarray]


def sample(profiles: Profiles, seed: int, most: int = MAX_POINTS) -> Profiles:
    """Return at most ``most`` rows, drawn without replacement by ``seed``, in their order."""
    if len(profiles) <= most:
        return profiles
    chosen = np.random.default_rng(seed).choice(len(profiles), size=most, replace=False)
    return profiles.rows(np.sort(chosen))


def project(features: np.ndarray, projections: Sequence[str], seed: int) -> dict[str, np.ndarray]:
    """Return (N, 2) coordinates for each of ``pca``, ``tsne``, ``umap``.

    All see the features as they are, neither scaled nor whitened; t-SNE and UMAP see the first 50 principal
    components where there are more features. Apart from the seed the settings are the libraries' defaults
    (scikit-learn, umap-learn), as in CellPainTR.

    Parameters
    ----------
    features
        (N, D) finite features, N at least 5.
    projections
        Which ones.
    seed
        Seed of every random choice.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = min(MAX_COMPONENTS, *features.shape)
    components = PCA(count, random_state=seed).fit_transform(features.astype(np.float64))
    space = components if features.shape[1] > MAX_COMPONENTS else features
    points = {}
    for name in projections:
        if name == "pca":
            flat = np.zeros((len(features), 2))
            flat[:, : min(2, count)] = components[:, :2]
            points[name] = flat
        elif name == "tsne":
            perplexity = min(30.0, (len(space) - 1) / 3)
            points[name] = TSNE(2, random_state=seed, perplexity=perplexity).fit_transform(space)
        else:
            from umap import UMAP

            neighbours = min(15, len(space) - 1)
            points[name] = UMAP(n_neighbors=neighbours, random_state=seed, n_jobs=1).fit_transform(space)
    return points


def draw_embeddings(
    items: Mapping[tuple[str, str], Item],
    panels: Mapping[str, Mapping[str, Any]],
    shown: Mapping[str, Sequence[Shown]],
    outputs: Mapping[str, str | Path],
    spec: Mapping[str, Any],
    footer: str = "",
) -> None:
    """Draw every projection of a dataset in one go.

    Parameters
    ----------
    items
        By method and correction, the profiles or the status and reason of their absence.
    panels
        By name: ``projection`` and optionally ``title`` and ``colour_by`` (metadata columns; default all).
    shown
        By the same names, what the panels show; what is no item gets a status panel.
    outputs
        By the same names, the PNG files.
    spec
        ``seed`` of the sample and of every projection; ``colour_by``, the colourings, one row of panels each
        (``column`` and ``title``; a column that no profiles have is left out); optionally ``split``, the only rows
        of profiles to show, and ``zoom`` (``column`` and ``title``), which adds a row of panels that show a dense
        window of the first row's, see :func:`morphobench.report.figures_zoom.zoom_window`.
    footer
        A line under the figure, such as scale and source of the data.
    """
    views: dict[tuple[str, str], View] = {}
    problems = {key: (item.status, item.reason) for key, item in items.items()}
    for key, item in items.items():
        wanted = [
            panels[name]["projection"]
            for name, each in shown.items()
            if key in {(s.method, s.correction) for s in each}
        ]
        if item.profiles is None or not wanted:
            continue
        view = _view(read_profiles(item.profiles), wanted, spec)
        if isinstance(view, View):
            views[key] = view
        else:
            problems[key] = view
    for name, panel in panels.items():
        columns = panel.get("colour_by", [c["column"] for c in spec["colour_by"]])
        present = [
            c
            for c in spec["colour_by"]
            if c["column"] in columns
            and (not views or any(c["column"] in v.profiles.metadata for v in views.values()))
        ]
        figure = Panels(name, panel, tuple(shown[name]), views, problems, present, spec)
        figure.draw(outputs[name], footer)


def _view(profiles: Profiles, projections: Sequence[str], spec: Mapping[str, Any]) -> View | tuple[str, str]:
    """Return what is to be seen of profiles, or status and reason why there is nothing."""
    if "split" in spec:
        profiles = profiles.rows(profiles.metadata["Metadata_Split"].to_numpy() == spec["split"])
    if len(profiles) < FEWEST:
        where = f" in the {spec['split']} split" if "split" in spec else ""
        return "not_applicable", f"{len(profiles)} profiles{where}, too few for a picture"
    chosen = sample(profiles, spec["seed"])
    if np.ptp(chosen.features, axis=0).max() == 0:
        return "collapsed", "all profiles are the same point"
    return View(chosen, len(profiles), project(chosen.features, list(dict.fromkeys(projections)), spec["seed"]))


@dataclass(frozen=True)
class Panels:
    """One picture: columns of methods, and in each band (correction) rows of colourings and of windows."""

    name: str
    panel: Mapping[str, Any]
    shown: tuple[Shown, ...]
    views: Mapping[tuple[str, str], View]
    problems: Mapping[tuple[str, str], tuple[str, str]]
    colour_by: Sequence[Mapping[str, str]]
    spec: Mapping[str, Any]

    def draw(self, output: str | Path, footer: str) -> None:
        """Draw and write the picture."""
        labels = list(dict.fromkeys(s.label for s in self.shown))
        bands = list(dict.fromkeys(s.band for s in self.shown))
        cells = {(s.label, s.band): s for s in self.shown}
        seen = {s.label for s in self.shown if self._view(s)}
        widths = [1.0 if label in seen else 0.6 for label in labels]
        lines = [*self.colour_by, *([self.spec["zoom"]] if "zoom" in self.spec else [])]
        with pyplot() as plt:
            figure, grid = plt.subplots(
                len(bands) * len(lines),
                len(labels),
                figsize=(2.3 * sum(widths) + 1.5, 2.4 * len(bands) * len(lines) + 0.5),
                squeeze=False,
                gridspec_kw={"width_ratios": widths, "wspace": 0.12, "hspace": 0.12},
            )
            for i, (band, line) in enumerate((b, line) for b in bands for line in lines):
                windowed = "zoom" in self.spec and i % len(lines) == len(lines) - 1
                scheme = Colours.of([v.profiles for v in self.views.values()], line["column"])
                for axes, label in zip(grid[i], labels, strict=True):
                    cell = cells[label, band]
                    if i == 0:
                        axes.set_title(label, fontsize=10 if label in seen else 8)
                    self._cell(axes, cell, line["column"], scheme, windowed, first=i % len(lines) == 0)
                    if i == len(grid) - 1 and label in seen:
                        axes.set_xlabel(AXES[self.panel["projection"]][0])
                head = "\n".join(t for t in (band, line["title"], AXES[self.panel["projection"]][1]) if t)
                grid[i, 0].set_ylabel(head)
                (zoom_legend if windowed else _legend)(grid[i, -1], scheme)
            self._words(figure, grid, footer)
            save(figure, output)

    def _view(self, cell: Shown) -> View | None:
        return self.views.get((cell.method, cell.correction))

    def _cell(self, axes: Any, cell: Shown, column: str, scheme: Colours, windowed: bool, first: bool) -> None:
        view, projection = self._view(cell), self.panel["projection"]
        if view is None:
            unknown = ("not_run", "no method for this row yet")
            status_panel(axes, *self.problems.get((cell.method, cell.correction), unknown))
            return
        if windowed or (first and "zoom" in self.spec):
            zoom_column = self.spec["zoom"]["column"]
            if zoom_column in view.profiles.metadata:
                values = categories(view.profiles, zoom_column)
                window = zoom_window(view.points[projection], values)
                if windowed:
                    draw_window(axes, view.points[projection], values, window)
                    return
                frame_window(axes, window)
        _scatter(axes, view, projection, column, scheme)

    def _words(self, figure: Any, grid: np.ndarray, footer: str) -> None:
        inch = 1 / figure.get_figheight()
        top, bottom = grid[0, 0].get_position().y1, grid[-1, 0].get_position().y0
        title = self.panel.get("title", self.name)
        figure.text(0.5, top + 0.35 * inch, title, ha="center", va="bottom", fontsize=11, weight="bold")
        facts = textwrap.wrap(self._facts(footer), max(60, int(17 * figure.get_figwidth())))
        figure.text(0.5, bottom - 0.35 * inch, "\n".join(facts), ha="center", va="top", fontsize=8)

    def _facts(self, footer: str) -> str:
        shown = [view for view in map(self._view, self.shown) if view]
        if not shown:
            return footer
        counts = dict.fromkeys(f"{len(v.profiles):,} of {v.total:,}" for v in shown)
        text = f"{' or '.join(counts)} profiles a panel, seed {self.spec['seed']}"
        if self.panel["projection"] != "pca" and any(len(v.profiles.names) > MAX_COMPONENTS for v in shown):
            text += f", on {MAX_COMPONENTS} principal components where there are more features"
        if "zoom" in self.spec:
            text += f"; framed and enlarged below: {WINDOW_WORDS}"
        return f"{text}. {footer}"


@dataclass(frozen=True)
class Colours:
    """Colour and marker of each category; the same in every panel of a row."""

    column: str
    marks: dict[str, tuple[Any, str]]
    many: bool

    @classmethod
    def of(cls, profiles: Sequence[Profiles], column: str) -> Colours:
        """Give every category a colour: eight by three markers up to 24, else a cycling ramp without red."""
        import matplotlib as mpl

        found: set[str] = set()
        for each in profiles:
            if column in each.metadata:
                found |= set(categories(each, column)) - {""}
        names = sorted(found, key=_natural)
        if len(names) <= MAX_LEGEND:
            pairs = [(c, m) for m in MARKERS for c in COLOURS]
            return cls(column, dict(zip(names, pairs, strict=False)), many=False)
        # Neighbours in the alphabet are often related (doses of a compound), so they are spread over the ramp.
        ramp = mpl.colormaps["viridis"](np.modf(np.arange(len(names)) * 0.618034)[0])
        return cls(column, {n: (c, "o") for n, c in zip(names, ramp, strict=True)}, many=True)


def _natural(name: str) -> list[tuple[int, int, str]]:
    # Week 10 after week 9.
    return [(0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.split(r"(\d+)", name)]


def categories(profiles: Profiles, column: str) -> np.ndarray:
    """Return a column as text; negative controls are empty where the column tells of biology."""
    values = profiles.metadata[column].astype("object")
    values = values.where(values.notna(), "unknown").astype(str).to_numpy()
    if column in ("Metadata_Batch", "Metadata_Source", "Metadata_Plate", "Metadata_Microscope"):
        return values
    return np.where(profiles.metadata["Metadata_Control"].to_numpy() == "negcon", "", values)


def _scatter(axes: Any, view: View, projection: str, column: str, scheme: Colours) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if column not in view.profiles.metadata:
        status_panel(axes, "not_applicable", f"no {column}")
        return
    # In the order of the file the last batch would hide the others where they mix.
    order = np.random.default_rng(0).permutation(len(view.profiles))
    xy, values = view.points[projection][order], categories(view.profiles, column)[order]
    size = float(np.clip(6000 / len(xy), 2, 12))
    negative = values == ""
    axes.scatter(*xy[negative].T, s=size * 0.8, c=NEGATIVE, alpha=0.6, linewidths=0, rasterized=True)
    for marker in MARKERS:
        mask = np.array([scheme.marks.get(v, (GREY, ""))[1] == marker for v in values])
        if mask.any():
            colours = [scheme.marks[v][0] for v in values[mask]]
            axes.scatter(*xy[mask].T, s=size, c=colours, marker=marker, alpha=0.8, linewidths=0, rasterized=True)


def _legend(axes: Any, scheme: Colours) -> None:
    from matplotlib.lines import Line2D

    def handle(colour: Any, marker: str, label: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, markersize=5, label=label)

    handles = []
    if scheme.column not in ("Metadata_Batch", "Metadata_Source", "Metadata_Plate", "Metadata_Microscope"):
        handles.append(handle(NEGATIVE, "o", "negative control"))
    if scheme.many:
        handles.append(handle("#3B528B", "o", f"{len(scheme.marks)} others,\neach its own shade"))
    else:
        handles += [handle(c, m, name) for name, (c, m) in scheme.marks.items()]
    columns = 1 if len(handles) <= 12 else 2
    place = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5), "frameon": False, "ncols": columns}
    axes.legend(handles=handles, labelspacing=0.3, handletextpad=0.2, fontsize=7.5, **place)
