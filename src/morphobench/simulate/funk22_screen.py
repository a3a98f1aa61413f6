"""A simulated optical pooled screen: microscope tiles, the cell table in parts, complexes and functional groups.

Genes of a complex share a direction of phenotype, complexes of a functional group share part of theirs. Half of
the groups also shift the cell cycle: a phenotype that untreated cells have too, more or less often. What hides all
this is what hides it in life: the cell cycle, guides that work badly, cells that a guide misses, stains and
density that differ between wells and over a well, a lamp that is brighter in the middle, and channels that do not
lie on each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile
from scipy.ndimage import gaussian_filter

from morphobench.datasets.funk22 import DEFAULTS, TILE_NAME
from morphobench.datasets.funk22_table import DATAFILE, STAGES
from morphobench.datasets.funk22_tiles import well_grid
from morphobench.errors import SpecError
from morphobench.files import atomic_path
from morphobench.simulate.cells import PHASES, draw_field, phenotype_names
from morphobench.simulate.funk22 import COMPLEXES, FUNCTIONS, GROUPS
from morphobench.simulate.funk22_features import measure
from morphobench.simulate.funk22_library import ROLES, Library, draw_library
from morphobench.simulate.microscope import Nuisance
from morphobench.simulate.raw import RawFolder, parquet_bytes, parse

LISTING = "https://dataverse.harvard.edu/api/datasets/:persistentId/?persistentId=doi:10.7910/DVN/VYKTI5"
PLATES = ("20200202_6W-LaC024A", "20200202_6W-LaC024D", "20200202_6W-LaC024E", "20200202_6W-LaC024F")
PLATES += ("20200206_6W-LaC025A", "20200206_6W-LaC025B")
WELLS = ("A1", "A2", "A3", "B1", "B2", "B3")
CELLS = "cells.parquet"
_PIXEL_UM = 0.6
_DENSITY = 17.0
_MARGIN = 16
_FIRST_ID = 7_000_001
_PHASE_ODDS = np.log([0.52, 0.27, 0.17, 0.04])


@dataclass(frozen=True)
class Parameters:
    """What can be set.

    Attributes
    ----------
    plates, wells
        How many of the six plates, and of the six wells of each.
    grid
        Tiles of the middle columns of a well; the outer columns have two fewer (see :func:`columns_of`).
    tile
        Side of a tile in pixels of 0.6 micrometres.
    planes
        Focal planes of each stack.
    genes, complex_size, guides, control_guides
        Genes in all, genes of a complex, guides of a gene, non-targeting guides.
    complexed
        Share of the genes that belong to a complex.
    control_share
        Share of the cells with a non-targeting guide.
    strength
        Strength of what genes do; at 0 nothing tells them apart.
    penetrance
        Share of the cells in which a guide works.
    cycle
        Strength of what genes do to the cell cycle, as a share of ``strength``.
    batch_strength, plate_strength, well_strength, tile_strength
        Strength of what wells, plates, places in the well and tiles add.
    field_strength
        How much darker the corners of a tile are.
    noise
        Strength of the camera's noise.
    faulty
        Share of the cells with a NaN or infinite feature.
    parts
        Parts of the table of interphase cells.
    lost_tiles
        Tiles, the last of the last well, one of whose files is missing.
    """

    plates: int = 3
    wells: int = 2
    grid: int = 3
    tile: int = 512
    planes: int = 2
    genes: int = 64
    complex_size: int = 4
    guides: int = 4
    control_guides: int = 20
    complexed: float = 0.8
    control_share: float = 0.25
    strength: float = 1.0
    penetrance: float = 0.9
    cycle: float = 1.0
    batch_strength: float = 1.0
    plate_strength: float = 0.5
    well_strength: float = 1.0
    tile_strength: float = 0.3
    field_strength: float = 0.35
    noise: float = 1.0
    faulty: float = 0.002
    parts: int = 4
    lost_tiles: int = 0


def units_of(parameters: Mapping[str, Any]) -> list[str]:
    """Return the names of the units that these parameters simulate."""
    p = parse(Parameters, {k: v for k, v in parameters.items() if k != "seed"}, "simulate")
    return [f"{plate}_{well}" for plate in PLATES[: p.plates] for well in WELLS[: p.wells]]


def columns_of(grid: int) -> list[int]:
    """Return the tiles of each column of a simulated well, the ``grid`` option of the reader."""
    return [grid - 2, *[grid] * (grid - 2), grid - 2]


def simulate(parameters: Mapping[str, Any], out_root: str | Path, seed: int) -> list[dict[str, Any]]:
    """Write a simulated screen as a mirror: ``<out_root>/<host>/<path>``, ``manifest.tsv`` and ``truth.tsv``.

    What is true of single cells is in ``cells.parquet`` at the top: place, phase, shift of the tile.

    Parameters
    ----------
    parameters
        Values of :class:`Parameters` that differ from its defaults.
    out_root
        Folder to write to.
    seed
        Same seed and parameters, same bytes.

    Returns
    -------
    list of dict
        The manifest's records.

    Raises
    ------
    SpecError
        If a parameter is unknown or impossible.
    """
    p = _checked(parameters)
    library = draw_library(np.random.default_rng([seed, 0]), p)
    out = RawFolder(out_root)
    tables = []
    places = well_grid(columns_of(p.grid))
    for i, plate in enumerate(PLATES[: p.plates]):
        rng = np.random.default_rng([seed, 1, i])
        of_plate = draw_nuisance(rng, p.plate_strength)
        shift = rng.integers(-8, 9, 2)
        for j, well in enumerate(WELLS[: p.wells]):
            of_well = of_plate + draw_nuisance(np.random.default_rng([seed, 2, i, j]), p.batch_strength)
            for tile, place in enumerate(places):
                rng = np.random.default_rng([seed, 3, i, j, tile])
                # A fresh look at the stage for each tile: a pixel more or less.
                moved = shift + rng.integers(-1, 2, 2)
                distance = np.hypot(*(place - (p.grid - 1) / 2)) / ((p.grid - 1) / 2)
                image, cells = draw_tile(rng, p, library, of_well, distance)
                left = (p.plates - 1 - i) * p.wells + p.wells - 1 - j
                lost = left * len(places) + len(places) - 1 - tile < p.lost_tiles
                _write_tile(out, image, (plate, well, tile), moved, p, lost)
                known = {"plate": plate, "well": well, "tile": tile, "shift_y": moved[0], "shift_x": moved[1]}
                tables.append(cells.assign(**known, rim=distance))
    cells = pd.concat(tables, ignore_index=True)
    table = measure(np.random.default_rng([seed, 4]), cells, library, p.faulty)
    _write_table(out, table, p)
    _write_sets(out, library.genes)
    with atomic_path(out.root / CELLS) as part:
        part.write_bytes(parquet_bytes(cells.drop(columns=["row"])))
    return out.finish(library.genes)


def _checked(parameters: Mapping[str, Any]) -> Parameters:
    p = parse(Parameters, parameters, "simulate")
    limits = {
        "plates": (1, len(PLATES)),
        "wells": (1, len(WELLS)),
        "grid": (3, 41),
        "tile": (128, 2960),
        "planes": (1, 8),
        "genes": (2, 9999),
        "complex_size": (2, p.genes),
        "guides": (1, 20),
        "control_guides": (1, 1000),
        "parts": (1, 9999),
    }
    limits |= dict.fromkeys(("complexed", "control_share", "penetrance", "field_strength", "faulty"), (0, 1))
    for key, (low, high) in limits.items():
        if not low <= getattr(p, key) <= high:
            raise SpecError(f"simulate: parameter {key} is {getattr(p, key)}, expected {low} to {high}")
    return p


def draw_nuisance(rng: np.random.Generator, strength: float) -> Nuisance:
    """Draw what a plate, well or tile adds."""
    n, width = len(ROLES), len(phenotype_names(ROLES))
    return Nuisance(
        gain=np.exp(0.2 * strength * rng.standard_normal(n)),
        background=0.012 * strength * rng.standard_normal(n),
        gradient=0.1 * strength * rng.standard_normal(2),
        blur=0.3 * strength * abs(rng.standard_normal()),
        noise=0.0,
        state=0.3 * strength * rng.standard_normal(width),
    )


def draw_tile(
    rng: np.random.Generator, p: Parameters, library: Library, of_well: Nuisance, distance: float
) -> tuple[np.ndarray, pd.DataFrame]:
    """Draw one tile with a margin around it.

    Returns
    -------
    ndarray
        (4, tile + margins, tile + margins) float32, 0 to 1, in the order of :data:`ROLES`.
    DataFrame
        The cells whose centres lie in the tile: ``y, x, nucleus_area, phase, row`` (of the guide), ``works``.
    """
    side = p.tile + 2 * _MARGIN
    # Cells crowd at the rim of a well, and are smaller there.
    crowding = np.exp(0.3 * p.well_strength * (distance - 0.5))
    count = max(1, rng.poisson(_DENSITY * crowding * (side * _PIXEL_UM / 100) ** 2))
    guides = library.guides
    control = (guides["gene"] == 0).to_numpy()
    share = np.where(control, p.control_share / control.sum(), (1 - p.control_share) / (~control).sum())
    row = rng.choice(len(guides), count, p=share)
    works = rng.random(count) < p.penetrance
    factor = guides["efficacy"].to_numpy()[row] * works
    gene = guides["gene"].to_numpy()[row]
    odds = _PHASE_ODDS + (factor * library.cycle[gene])[:, None] * np.array([0.0, 0.3, 1.0, 1.0])
    phase = np.argmax(odds + rng.gumbel(size=odds.shape), axis=1)
    nuisance = of_well + draw_nuisance(rng, p.tile_strength)
    nuisance.state[phenotype_names(ROLES).index("cell_area")] -= p.well_strength * (distance - 0.5)
    image, cells = draw_field(
        rng,
        factor[:, None] * library.effects[gene],
        Nuisance(**{**vars(nuisance), "noise": p.noise}),
        (side, side),
        ROLES,
        pixel_um=_PIXEL_UM,
        line="HeLa",
        phases=np.array(PHASES)[phase],
    )
    away = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / (p.tile / 2)
    image *= np.clip(1 - p.field_strength / 2 * (away[:, None] ** 2 + away**2), 0, None)
    cells = cells.assign(row=row, works=works)
    cells[["y", "x"]] -= _MARGIN
    return image, cells[cells[["y", "x"]].ge(0).all(axis=1) & cells[["y", "x"]].lt(p.tile).all(axis=1)]


def _write_tile(
    out: RawFolder, image: np.ndarray, name: tuple[str, str, int], shift: np.ndarray, p: Parameters, lost: bool
) -> None:
    """Write the three stacks of a tile; the channels of A594 and AF750 must be moved by ``shift`` to fit."""
    plate, well, tile = name
    focus = [0.8 * k for k in range(p.planes)]
    planes = np.stack([image if f == 0 else gaussian_filter(image, (0, f, f)) for f in reversed(focus)])
    counts = np.rint(200 + 16000 * np.clip(planes, 0, 1)).astype(np.uint16)
    still = counts[:, :, _MARGIN : _MARGIN + p.tile, _MARGIN : _MARGIN + p.tile]
    top, left = _MARGIN + shift
    moved = counts[:, :, top : top + p.tile, left : left + p.tile]
    for file, stack, axes in (
        ("DAPI-GFP", still[:, :2], "ZCYX"),
        ("A594", moved[:, 2], "ZYX"),
        ("AF750", moved[:, 3], "ZYX"),
    ):
        if lost and file == "AF750":
            continue
        path = TILE_NAME.format(screen=DEFAULTS["screen"], plate=plate, well=well, file=file, tile=tile)
        stream = BytesIO()
        tifffile.imwrite(stream, np.ascontiguousarray(stack), imagej=True, metadata={"axes": axes})
        out.write(f"{DEFAULTS['base']}/{path}", stream.getvalue())


def _write_table(out: RawFolder, table: pd.DataFrame, p: Parameters) -> None:
    """Write the parts, cells in the order of genes, and the Dataverse's listing of them."""
    entries, number = [], _FIRST_ID
    for folder, stage in STAGES.items():
        rows = table[table["stage"] == stage].sort_values(["gene_symbol_0", "sgRNA_0"], kind="stable")
        parts = p.parts if stage == "interphase" else 1
        for k, chunk in enumerate(np.array_split(np.arange(len(rows)), parts)):
            content = parquet_bytes(rows.iloc[chunk].drop(columns="stage").set_index("gene_symbol_0"), index=True)
            out.write(DATAFILE.format(id=number), content)
            file = {"id": number, "filename": f"part.{k}.parquet", "filesize": len(content)}
            file["checksum"] = {"type": "MD5", "value": hashlib.md5(content).hexdigest()}
            entries.append({"label": file["filename"], "directoryLabel": folder, "dataFile": file})
            number += 1
    readme = {"id": number, "filename": "readme.txt", "filesize": 1}
    entries.append({"label": "readme.txt", "dataFile": readme})
    out.write(LISTING, json.dumps({"status": "OK", "data": {"latestVersion": {"files": entries}}}).encode())


def _write_sets(out: RawFolder, genes: pd.DataFrame) -> None:
    complexes = genes[genes["complex"] != ""].groupby("complex")["gene"].apply(" ".join)
    lines = [f"{name}\t{members}\n" for name, members in complexes.items()]
    # The real lists also have genes that the screen lost.
    lines.append("Sim complex of lost genes\tSIMG-LOST1 SIMG-LOST2\n")
    out.write(COMPLEXES, "".join(lines).encode())
    grouped = genes[genes["group"] != ""]
    functions = dict(zip(grouped["gene"], grouped["group"], strict=True)) | {"SIMG-LOST1": GROUPS[0]}
    out.write(FUNCTIONS, json.dumps(functions).encode())
