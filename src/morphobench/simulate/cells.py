"""One model of cells for all simulated image screens: what treatments do, and one drawn field.

A treatment's effect is a row of phenotype values in units where 0 is an untreated cell and 1 is a clear change;
:func:`draw_field` turns rows into fluorescence pictures. Nothing else of a treatment reaches a picture, so with
all effects 0 no method can tell treatments apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from morphobench.simulate.fluorescence import PHENOTYPES, Cells
from morphobench.simulate.microscope import Nuisance, expose, render
from morphobench.simulate.phenotypes import effects

# By phenotype: change of the logarithm for a value of 1, and variation of the value from cell to cell.
_SENSITIVITY = np.array([0.25, 0.22, 0.16, 0.22, 0.2, 0.5, 0.3, 0.4, 0.45, 0.35, 0.3])
_VARIATION = np.array([0.0, 0.35, 0.6, 0.6, 0.8, 0.4, 0.3, 0.4, 0.6, 0.3, 0.5])
_INTENSITY = 0.25
_INTENSITY_VARIATION = 0.5
# No effect, however strong, takes a phenotype further than this.
_LIMIT = 3.0
PHASES = ("G1", "S", "G2", "M")
_PHASE_SHARES = (0.54, 0.26, 0.17, 0.03)


@dataclass(frozen=True)
class CellLine:
    """Untreated cells of one kind; lengths in micrometres.

    Attributes
    ----------
    nucleus, body
        Mean radius of nucleus and cell.
    elongation
        Ratio of a cell's long to its short axis; the nucleus has about its square root.
    roughness
        How irregular outlines are.
    density
        Cells in a square of 100 micrometres.
    fibres
        Strength of stress fibres.
    """

    nucleus: float
    body: float
    elongation: float
    roughness: float
    density: float
    fibres: float


CELL_LINES = {
    "HUVEC": CellLine(nucleus=7.5, body=23.0, elongation=1.6, roughness=0.17, density=9.0, fibres=1.2),
    "A549": CellLine(nucleus=7.5, body=16.0, elongation=1.25, roughness=0.14, density=12.0, fibres=0.7),
    "HeLa": CellLine(nucleus=7.0, body=16.0, elongation=1.3, roughness=0.18, density=12.0, fibres=0.9),
}


def phenotype_names(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the phenotype parameters, ``<channel>_intensity`` of each channel last."""
    return (*PHENOTYPES, *(f"{channel}_intensity" for channel in channels))


@dataclass(frozen=True)
class Truth:
    """What was planted: the effect of each treatment (or gene) on the phenotype.

    Attributes
    ----------
    names
        Phenotype parameters, P of them.
    groups
        (n,) mechanism or complex of each treatment, whole numbers from 0.
    potency
        (n,) strength of each treatment; 0 for what has no effect.
    effects
        (n, P) float64, root mean square of a row about ``strength * potency``.
    """

    names: tuple[str, ...]
    groups: np.ndarray
    potency: np.ndarray
    effects: np.ndarray

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        groups: np.ndarray,
        potency: np.ndarray,
        channels: Sequence[str],
        strength: float = 1.0,
    ) -> Truth:
        """Draw effects in which treatments of one group share a direction.

        Parameters
        ----------
        rng
            Source of randomness.
        groups, potency
            (n,) see the class.
        channels
            Roles of the stains.
        strength
            Factor on everything; at 0 treatments change nothing.
        """
        names = phenotype_names(channels)
        found = strength * effects(rng, np.asarray(groups), np.asarray(potency, float), len(names))
        return cls(names, np.asarray(groups), np.asarray(potency, float), found)


def draw_field(
    rng: np.random.Generator,
    phenotype: Mapping[str, float] | np.ndarray,
    nuisance: Nuisance,
    shape: tuple[int, int],
    channels: Sequence[str],
    *,
    pixel_um: float = 1.2,
    line: str | CellLine = "HUVEC",
    n_cells: int | None = None,
    positions: np.ndarray | None = None,
    phases: Sequence[str] | None = None,
) -> tuple[np.ndarray, pd.DataFrame]:
    """Draw one field of view.

    Parameters
    ----------
    rng
        Source of randomness of this field; treatments must not share in it.
    phenotype
        Values by name (what is not named is 0), or (P,), or (n, P) where every cell has its own.
    nuisance
        What the laboratory adds.
    shape
        Height and width in pixels.
    channels
        Roles of the stains, keys of :data:`~morphobench.simulate.fluorescence.STAINS`.
    pixel_um
        Size of a pixel in micrometres.
    line
        A key of :data:`CELL_LINES`, or its own values.
    n_cells
        Exact number of cells, all centred within the field; None draws it from the density, cells at the border
        included.
    positions
        (n, 2) centres in pixels (y, x); None draws them.
    phases
        (n,) phase of each cell; None draws them.

    Returns
    -------
    image
        (C, H, W) float32, 0 to 1.
    table
        One row a cell: y, x (pixels; beyond the field for cells at the border), nucleus_area (square pixels),
        phase.

    Raises
    ------
    ValueError
        If the number of cells differs between phenotype, positions, phases and n_cells.
    """
    line = CELL_LINES[line] if isinstance(line, str) else line
    rows = _rows(phenotype, channels) + nuisance.state
    rows = _LIMIT * np.tanh(rows / _LIMIT)
    if positions is None:
        count = len(rows) if n_cells is None and len(rows) > 1 else n_cells
        positions = _place(rng, line, shape, pixel_um, rows[:, 0].mean(), count)
    positions = np.asarray(positions, float).reshape(-1, 2)
    n = len(positions)
    sizes = {len(rows)} - {1} | ({len(phases)} if phases is not None else set())
    sizes |= {n_cells} - {None}
    if sizes - {n}:
        raise ValueError(f"{n} cells have positions, but {sorted(sizes - {n})} phenotypes, phases or n_cells")
    phase = rng.choice(len(PHASES), n, p=_PHASE_SHARES)
    if phases is not None:
        phase = np.array([PHASES.index(name) for name in phases], int)
    cells = _grow(rng, line, np.broadcast_to(rows, (n, rows.shape[1])), positions, phase, len(channels))
    signal = render(cells, shape, channels, pixel_um)
    image = expose(rng, signal, nuisance)
    area = np.pi * cells.nucleus.prod(axis=1) / pixel_um**2
    names = np.array(PHASES, dtype=object)[phase]
    return image, pd.DataFrame({"y": cells.y, "x": cells.x, "nucleus_area": area, "phase": names})


def _rows(phenotype: Mapping[str, float] | np.ndarray, channels: Sequence[str]) -> np.ndarray:
    names = phenotype_names(channels)
    if isinstance(phenotype, Mapping):
        unknown = set(phenotype) - set(names)
        if unknown:
            raise ValueError(f"unknown phenotype {sorted(unknown)[0]!r}, expected one of {', '.join(names)}")
        return np.array([[phenotype.get(name, 0.0) for name in names]])
    rows = np.atleast_2d(np.asarray(phenotype, float))
    if rows.shape[1] != len(names):
        raise ValueError(f"phenotype has {rows.shape[1]} columns, expected {len(names)}: {', '.join(names)}")
    return rows


def _place(
    rng: np.random.Generator,
    line: CellLine,
    shape: tuple[int, int],
    pixel_um: float,
    crowding: float,
    count: int | None,
) -> np.ndarray:
    """Draw centres that keep some distance, (n, 2) in pixels."""
    border = line.body / pixel_um if count is None else 0.0
    extent = np.array(shape) + 2 * border
    if count is None:
        mean = line.density * extent.prod() * (pixel_um / 100) ** 2
        count = max(1, rng.poisson(mean * np.exp(_SENSITIVITY[0] * crowding)))
    found = rng.uniform(0, 1, (count, 2)) * extent
    # Cells shove their neighbours away: a few steps of repulsion between those too close.
    least = 1.9 * line.nucleus / pixel_um
    for _ in range(4):
        pairs = cKDTree(found).query_pairs(least, output_type="ndarray")
        if not len(pairs):
            break
        apart = found[pairs[:, 0]] - found[pairs[:, 1]]
        distance = np.sqrt((apart**2).sum(axis=1, keepdims=True)) + 1e-6
        step = 0.5 * (least - distance) * apart / distance
        np.add.at(found, pairs[:, 0], step)
        np.add.at(found, pairs[:, 1], -step)
        found = np.clip(found, 0, extent - 1e-3)
    return found - border


def _grow(
    rng: np.random.Generator,
    line: CellLine,
    rows: np.ndarray,
    positions: np.ndarray,
    phase: np.ndarray,
    channels: int,
) -> Cells:
    """Turn phenotype values into shapes and brightness, with the variation from cell to cell."""
    n = len(rows)
    own = rng.standard_normal((n, len(PHENOTYPES) + channels))
    values = rows + np.append(_VARIATION, np.full(channels, _INTENSITY_VARIATION)) * own
    change = np.exp(values * np.append(_SENSITIVITY, np.full(channels, _INTENSITY)))
    factor = dict(zip(PHENOTYPES, change.T, strict=False))
    progress = rng.uniform(0, 1, n)
    mitotic = np.where(phase == 3, 1 + (progress > 0.7), 0)
    content = np.select([phase == 0, phase == 1], [1.0, 1.0 + progress], 2.0)
    round_up = np.where(mitotic > 0, 0.75, 1.0)
    nucleus = line.nucleus * np.sqrt(factor["nucleus_area"]) * content**0.2
    stretch = np.sqrt(line.elongation**0.5 * factor["nucleus_elongation"])
    body = np.maximum(line.body * np.sqrt(factor["cell_area"]) * round_up, 1.25 * nucleus)
    long = np.where(
        mitotic > 0, 1.0, np.sqrt(line.elongation * factor["cell_elongation"] / factor["roundness"] ** 0.4)
    )
    return Cells(
        y=positions[:, 0],
        x=positions[:, 1],
        angle=rng.uniform(0, np.pi, n),
        nucleus=np.stack([nucleus * stretch, nucleus / stretch], axis=1),
        body=np.stack([body * long, body / long], axis=1),
        roughness=np.where(mitotic > 0, 0.02, line.roughness / factor["roundness"]),
        content=content,
        mitotic=mitotic,
        texture_scale=factor["texture_scale"],
        granularity=factor["granularity"],
        fibres=line.fibres * factor["fibres"],
        spread=factor["spread"],
        nucleoli=factor["nucleoli"],
        intensity=change[:, len(PHENOTYPES) :],
        seed=rng.integers(0, 256, (n, 3)),
    )
