"""Two-dimensional views of profiles: PCA, t-SNE and UMAP panels, as Figures 4 to 7 of CellPainTR."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from morphobench.profiles import Profiles, read_profiles
from morphobench.report.figures_style import COLOURS, GREY, MARKERS, NEGATIVE, pyplot, save, status_panel

MAX_POINTS = 5000
MAX_COMPONENTS = 50
MAX_LEGEND = 20
AXES = {"pca": ("PC1", "PC2"), "tsne": ("t-SNE 1", "t-SNE 2"), "umap": ("UMAP 1", "UMAP 2")}


class Item(NamedTuple):
    """One column of panels: a row of a table and its profiles, or why there are none."""

    label: str
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
    items: Sequence[Item],
    panels: Mapping[str, Mapping[str, Any]],
    outputs: Mapping[str, str | Path],
    seed: int,
    colour_by: Sequence[Mapping[str, str]],
    footer: str = "",
) -> None:
    """Draw every projection of a dataset in one go.

    Parameters
    ----------
    items
        The table rows that have panels, each with profiles or with the status and reason of their absence.
    panels
        By name: ``projection`` and optionally ``title``, ``rows`` (labels; default all items in their order) and
        ``colour_by`` (metadata columns; default all). A row that is no item gets a status panel.
    outputs
        By the same names, the PNG files.
    seed
        Seed of the sample and of every projection.
    colour_by
        The colourings, one row of panels each: ``column`` and ``title``. A column that no profiles have is
        left out.
    footer
        A line under the figure, such as scale and source of the data.
    """
    views: dict[str, View] = {}
    problems = {item.label: (item.status, item.reason) for item in items}
    for item in items:
        if item.profiles is None:
            continue
        shown = panels.values()
        wanted = [p["projection"] for p in shown if item.label in p.get("rows", [item.label])]
        profiles = read_profiles(item.profiles)
        chosen = sample(profiles, seed)
        if np.ptp(chosen.features, axis=0).max() == 0 or len(chosen) < 5:
            problems[item.label] = ("collapsed", "all profiles are the same point")
            continue
        points = project(chosen.features, list(dict.fromkeys(wanted)), seed)
        views[item.label] = View(chosen, len(profiles), points)
    for name, panel in panels.items():
        labels = panel.get("rows", [item.label for item in items])
        columns = panel.get("colour_by", [c["column"] for c in colour_by])
        present = [
            c
            for c in colour_by
            if c["column"] in columns
            and (not views or any(c["column"] in v.profiles.metadata for v in views.values()))
        ]
        _draw(name, panel, labels, views, problems, present, outputs[name], seed, footer)


def _draw(
    name: str,
    panel: Mapping[str, Any],
    labels: Sequence[str],
    views: Mapping[str, View],
    problems: Mapping[str, tuple[str, str]],
    colour_by: Sequence[Mapping[str, str]],
    output: str | Path,
    seed: int,
    footer: str,
) -> None:
    projection = panel["projection"]
    widths = [1.0 if label in views else 0.6 for label in labels]
    with pyplot() as plt:
        figure, grid = plt.subplots(
            len(colour_by),
            len(labels),
            figsize=(2.3 * sum(widths) + 1.5, 2.4 * len(colour_by) + 0.5),
            squeeze=False,
            gridspec_kw={"width_ratios": widths, "wspace": 0.12, "hspace": 0.12},
        )
        for i, colouring in enumerate(colour_by):
            scheme = Colours.of([v.profiles for v in views.values()], colouring["column"])
            for axes, label in zip(grid[i], labels, strict=True):
                if i == 0:
                    axes.set_title(label, fontsize=10 if label in views else 8)
                if label not in views:
                    status_panel(axes, *problems.get(label, ("not_run", "no method for this row yet")))
                    continue
                _scatter(axes, views[label], projection, colouring["column"], scheme)
                if i == len(colour_by) - 1:
                    axes.set_xlabel(AXES[projection][0])
            grid[i, 0].set_ylabel(f"{colouring['title']}\n{AXES[projection][1]}")
            _legend(grid[i, -1], scheme)
        inch = 1 / figure.get_figheight()
        top, bottom = grid[0, 0].get_position().y1, grid[-1, 0].get_position().y0
        title = panel.get("title", name)
        figure.text(0.5, top + 0.35 * inch, title, ha="center", va="bottom", fontsize=11, weight="bold")
        facts = _facts(views, labels, projection, seed, footer)
        figure.text(0.5, bottom - 0.35 * inch, facts, ha="center", va="top", fontsize=8)
        save(figure, output)


def _facts(views: Mapping[str, View], labels: Sequence[str], projection: str, seed: int, footer: str) -> str:
    shown = [views[label] for label in labels if label in views]
    if not shown:
        return footer
    counts = dict.fromkeys(f"{len(v.profiles):,} of {v.total:,}" for v in shown)
    text = f"{' or '.join(counts)} profiles a panel, seed {seed}"
    if projection != "pca" and any(len(v.profiles.names) > MAX_COMPONENTS for v in shown):
        text += f", on {MAX_COMPONENTS} principal components where there are more features"
    return f"{text}. {footer}"


@dataclass(frozen=True)
class Colours:
    """Colour and marker of each category; the same in every panel of a row."""

    column: str
    marks: dict[str, tuple[Any, str]]
    many: bool

    @classmethod
    def of(cls, profiles: Sequence[Profiles], column: str) -> Colours:
        """Give every category a colour: eight by three markers up to 20, else a cycling ramp without red."""
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
    xy, values = view.points[projection], categories(view.profiles, column)
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
    columns = 1 if len(handles) <= 14 else 2
    place = {"loc": "center left", "bbox_to_anchor": (1.02, 0.5), "frameon": False, "ncols": columns}
    axes.legend(handles=handles, labelspacing=0.3, handletextpad=0.2, fontsize=7.5, **place)
