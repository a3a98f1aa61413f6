"""Features of simulated pooled cells, named as the screen's authors name theirs and scored against controls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from morphobench.simulate.cells import phenotype_names

if TYPE_CHECKING:
    from morphobench.simulate.funk22_library import Library

# Channels as the authors' pipeline names them, in the order of the simulator's roles.
_STAINS = ("dapi", "tubulin", "gh2ax", "phalloidin")
_MEASURES = ("mean", "std", "max", "median", "upper_quartile", "mass_displacement", "frac_at_d_0", "radial_cv_0")
_SHAPES = ("area", "perimeter", "eccentricity", "solidity", "form_factor", "major_axis")
_SPREAD = 9.0
_CONTENT = "nucleus_dapi_int"


def feature_names() -> list[str]:
    """Return the names of the simulated features, in the order of the table."""
    names = [f"{part}_{shape}" for part in ("cell", "nucleus") for shape in _SHAPES]
    names += [f"{part}_{s}_{m}" for part in ("cell", "nucleus") for s in _STAINS for m in _MEASURES]
    return [*names, _CONTENT]


def measure(rng: np.random.Generator, cells: pd.DataFrame, library: Library, faulty: float) -> pd.DataFrame:
    """Make the cell table from what is true of the cells.

    Features are mixtures of the phenotype planted in the cell, its DNA content and nucleus, where it lies in tile
    and well, and noise; then z-scores against the control cells of the same well.

    Parameters
    ----------
    rng
        Source of randomness.
    cells
        One row a cell: ``plate, well, tile, y, x, nucleus_area, phase, row, works, rim``.
    library
        The genes and guides.
    faulty
        Share of the cells that get a NaN or an infinite feature.

    Returns
    -------
    DataFrame
        The authors' columns, ``stage`` among them, and the features (float64).
    """
    guides = library.guides.iloc[cells["row"]].reset_index(drop=True)
    gene = guides["gene"].to_numpy()
    effect = library.effects[gene] * (guides["efficacy"].to_numpy() * cells["works"].to_numpy())[:, None]
    content = np.select([cells["phase"] == "G1", cells["phase"] == "S"], [1.0, 1.0 + rng.random(len(cells))], 2.0)
    place = cells[["y", "x"]].to_numpy()
    centre = np.abs(place - place.mean(axis=0)).max(axis=1) / np.ptp(place)
    area = np.log(cells["nucleus_area"].to_numpy())
    hidden = np.column_stack([effect, 2 * np.log(content), 2 * (area - area.mean()), 2 * centre, cells["rim"]])
    names = feature_names()
    width = len(phenotype_names(("",) * len(_STAINS))) + 4
    weights = rng.standard_normal((width, len(names))) / np.sqrt(width / 2)
    values = hidden @ weights + _SPREAD * rng.standard_normal((len(cells), len(names)))
    values[:, names.index(_CONTENT)] = content * np.exp(0.06 * rng.standard_normal(len(cells)))
    well = cells.groupby(["plate", "well"]).ngroup().to_numpy()
    for number in np.unique(well):
        here = np.flatnonzero(well == number)
        control = here[gene[here] == 0] if (gene[here] == 0).sum() > 1 else here
        values[here] -= values[control].mean(axis=0)
        values[here] /= values[control].std(axis=0) + 1e-9
    bad = rng.choice(len(cells), round(faulty * len(cells)), replace=False)
    values[bad, rng.integers(0, len(names), len(bad))] = rng.choice([np.nan, np.inf, -np.inf], len(bad))
    return _columns(rng, cells, guides, library, pd.DataFrame(values, columns=names))


def _columns(
    rng: np.random.Generator, cells: pd.DataFrame, guides: pd.DataFrame, library: Library, features: pd.DataFrame
) -> pd.DataFrame:
    reach = np.sqrt(cells["nucleus_area"].to_numpy() / np.pi)
    y, x = cells["y"].to_numpy(), cells["x"].to_numpy()
    mitotic = (cells["phase"] == "M").to_numpy()
    stage = np.where(mitotic, "mitotic", "interphase")
    table = pd.DataFrame(
        {
            "plate": cells["plate"].to_numpy(),
            "well": cells["well"].to_numpy(),
            "tile": cells["tile"].to_numpy(),
            "site": cells["tile"].to_numpy() // 4,
            "sgRNA_0": guides["guide"].to_numpy(),
            "gene_symbol_0": library.genes["gene"].to_numpy()[guides["gene"]],
            "cell_i": y,
            "cell_j": x,
            "cell_bounds_0": np.floor(y - 2 * reach),
            "cell_bounds_1": np.floor(x - 2 * reach),
            "cell_bounds_2": np.ceil(y + 2 * reach),
            "cell_bounds_3": np.ceil(x + 2 * reach),
            "nucleus_i": y + rng.normal(0, 0.5, len(y)),
            "nucleus_j": x + rng.normal(0, 0.5, len(y)),
            "i_0": y,
            "j_0": x,
            "class_predict_0": stage,
            "class_predict_1": stage,
            "stage": stage,
        }
    )
    return pd.concat([table, features], axis=1)
