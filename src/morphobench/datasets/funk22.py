"""The Funk et al. 2022 optical pooled screen as images: one plate-well a unit, one cell a sample.

Cells are cut out of microscope tiles at the positions of the screen's cell table, as mcVAE (Wang et al. 2023, A.1)
does: channels registered by phase cross-correlation, 0.1 % of the pixels clipped at both ends, squares of 100
pixels, no segmentation, no cell within 50 pixels of the edge.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.datasets.collection import need_file
from morphobench.datasets.funk22_table import CONTROL, STAGES, cells_of_well, choose_parts
from morphobench.datasets.funk22_tiles import (
    FILES,
    clip_tails,
    corners,
    cut,
    inside,
    project,
    register,
    well_grid,
)
from morphobench.errors import DataError, SpecError
from morphobench.fetch.requests import RawFile, Variant
from morphobench.images.decode import check_pixels, decode_image
from morphobench.images.unit import Excluded, MissingImage, Sample, UnitFiles

TILE_NAME = (
    "{screen}/{plate}/phenotype/images/input/DAPI-GFP-A594-AF750/"
    "20X_DAPI-GFP-A594-AF750_{well}_{file}_Site-{tile}.tif"
)
# Tiles of each column of the stage's path over a well of a six-well plate: 1,281 in all.
WELL = (7, 13, 17, 21, 25, 27, 29, 31, 33, 33, 35, 35, 37, 37, 39, 39, 39, *[41] * 7)
WELL += (39, 39, 39, 37, 37, 35, 35, 33, 33, 31, 29, 27, 25, 21, 17, 13, 7)
DEFAULTS: dict[str, Any] = {
    "base": "https://ftp.ebi.ac.uk/biostudies/fire/S-BIAD/394/S-BIAD394/Files",
    "screen": "screenA",
    "tables": None,
    "parts": None,
    "grid": None,
    "tiles": None,
    "max_tiles": None,
    "tile_px": 2960,
    "crop": 100,
    "clip": 0.001,
    "align": [{"reference": "DAPI-GFP_0", "source": "A594", "riders": ["AF750"]}],
    "upsample": 1,
    "normalization": None,
    "window": 2,
    "max_shift": 40,
    "genes": None,
    "cells_per_gene": None,
    "control_cells": None,
    "seed": 0,
}


def list_files(unit: str, files: Mapping[str, Path], options: Mapping[str, Any]) -> list[Variant]:
    """List the raw files of one plate-well: all parts of the cell table, and the tiles' three files each.

    Parameters
    ----------
    unit
        Plate and well, such as ``20200202_6W-LaC024A_A1``.
    files
        ``listing``: the Dataverse's listing of the cell table.
    options
        Those of :data:`DEFAULTS` that differ: ``base`` (address of the archive's files), ``screen``, ``tables``
        and ``parts`` (see :func:`~morphobench.datasets.funk22_table.choose_parts`), ``grid`` (tiles of each column
        of the well, by default :data:`WELL`), ``tiles`` (numbers of the tiles wanted), ``max_tiles`` (so many of
        them, evenly spread).

    Returns
    -------
    list of Variant
        One, ``tiff``.
    """
    chosen = _options(options)
    plate, well = split_unit(unit)
    parts = choose_parts(need_file(files, "listing"), chosen["tables"], chosen["parts"])
    raw = [part.raw for part in parts]
    for tile in chosen_tiles(chosen):
        for file in FILES:
            name = TILE_NAME.format(screen=chosen["screen"], plate=plate, well=well, file=file, tile=tile)
            raw.append(RawFile(f"{chosen['base'].rstrip('/')}/{name}", name))
    return [Variant("tiff", tuple(raw))]


def split_unit(unit: str) -> tuple[str, str]:
    """Return plate and well of a unit's name."""
    plate, _, well = unit.rpartition("_")
    if not plate or not well:
        raise SpecError(f"unit {unit!r} is not PLATE_WELL, such as 20200202_6W-LaC024A_A1")
    return plate, well


def chosen_tiles(options: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the tiles that the options (with defaults filled in) ask for, rising."""
    count = sum(options["grid"] or WELL)
    tiles = sorted(set(range(count) if options["tiles"] is None else options["tiles"]))
    if not tiles or tiles[0] < 0 or tiles[-1] >= count:
        raise SpecError(f"images.options.tiles must be numbers from 0 to {count - 1}, at least one")
    most = options["max_tiles"]
    if most is not None and most < len(tiles):
        # The middle of equal stretches: the first tiles lie at the rim of the well.
        tiles = [tiles[int((i + 0.5) * len(tiles) / most)] for i in range(most)]
    return tiles


def read_unit(unit: UnitFiles) -> Iterator[Sample | Excluded]:
    """Cut the cells of one plate-well out of its tiles; memory holds one tile and the positions of all cells.

    Parameters
    ----------
    unit
        Its files as :func:`list_files` names them. Options beside those of the lister: ``tile_px`` (side of a
        tile), ``crop`` (side of a crop; cells nearer than half of it to an edge are left out), ``clip`` (share of
        pixels clipped at each end), ``align``, ``upsample``, ``normalization``, ``window`` and ``max_shift`` (see
        :func:`~morphobench.datasets.funk22_tiles.register`), ``genes`` (those wanted, beside controls),
        ``cells_per_gene`` and ``control_cells`` (at most so many of a gene, and of all controls, in this unit,
        drawn by ``seed``).

    Yields
    ------
    Sample
        (4, crop, crop) uint16, raw counts, channels as :data:`~morphobench.datasets.funk22_tiles.CHANNELS`, by
        tile and position. ``Metadata_Site`` names the cell (tile and number); ``Metadata_Y, Metadata_X`` are its
        position in the tile, ``Metadata_ShiftY_<channel>, Metadata_ShiftX_<channel>`` how far the channel was
        moved.
    Excluded
        Tiles that are missing, damaged, not registered or without cells, and cells left out.
    """
    options = _options(unit.options)
    plate, well = split_unit(unit.unit)
    parts = []
    for part in choose_parts(need_file(unit.files, "listing"), options["tables"], options["parts"]):
        reason = unit.reason(part.name)
        if reason:
            yield Excluded("file", part.name, f"cells of this part of the table are not known: {reason}")
        else:
            parts.append((Path(unit.by_name[part.name]["path"]), STAGES.get(part.table, part.table)))
    cells = cells_of_well(parts, plate, well)
    if cells.empty:
        yield Excluded("well", f"{plate}/{well}", "the cell table has no cell of it")
        return
    cells, left_out = _usable(cells, plate, well, sum(options["grid"] or WELL))
    yield from left_out
    grid = well_grid(options["grid"] or WELL)
    wanted = chosen_tiles(options)
    by_tile = dict(tuple(cells[cells["tile"].isin(wanted)].groupby("tile")))
    chosen = _draw(by_tile, options, unit.unit)
    for tile in wanted:
        name = f"{plate}/{well}/{tile}"
        table = by_tile.get(tile)
        if table is None:
            yield Excluded("tile", name, "no cell of the table lies in it")
            continue
        beyond = int((~table["inside"]).sum())
        if beyond:
            yield Excluded("cell", name, f"{beyond} cells within {options['crop'] // 2} px of the edge")
        rows = table[table.index.isin(chosen)]
        if rows.empty:
            continue
        try:
            image, shifts = read_tile(unit, plate, well, tile, options)
        except (MissingImage, DataError) as error:
            yield Excluded("tile", name, f"{len(rows)} cells lost: {error}")
            continue
        shared = {"Metadata_TileRow": int(grid[tile][0]), "Metadata_TileColumn": int(grid[tile][1])}
        for source, (down, right) in shifts.items():
            shared |= {f"Metadata_ShiftY_{source}": down, f"Metadata_ShiftX_{source}": right}
        corner = corners(rows[["cell_i", "cell_j"]].to_numpy(), options["crop"])
        for row, place in zip(rows.itertuples(index=False), corner, strict=True):
            metadata = _metadata(row, plate, well, tile) | shared
            yield Sample(metadata, cut(image, place, options["crop"]))


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    for key in options:
        if key not in DEFAULTS:
            raise SpecError(f"images.options has unknown key {key!r}; known keys are {', '.join(DEFAULTS)}")
    return DEFAULTS | dict(options)


def _usable(cells: pd.DataFrame, plate: str, well: str, tiles: int) -> tuple[pd.DataFrame, list[Excluded]]:
    """Drop cells that cannot be placed or named, each listed or, where there can be very many, counted."""
    left_out = []
    place = cells[["cell_i", "cell_j"]].to_numpy()
    lost = ~np.isfinite(place).all(axis=1)
    for row in cells[lost].itertuples(index=False):
        tile = "?" if np.isnan(row.tile) else int(row.tile)
        found = f"position is ({row.cell_i:g}, {row.cell_j:g}), expected numbers"
        left_out.append(Excluded("cell", f"{plate}/{well}/{tile}", f"guide {row.sgRNA_0}: {found}"))
    known = cells["tile"].between(0, tiles - 1)
    named = cells["sgRNA_0"].notna() & cells["gene_symbol_0"].notna()
    twice = cells.duplicated(["tile", "cell_i", "cell_j"])
    rest = ~lost
    for good, reason in (
        (known, f"in no tile from 0 to {tiles - 1}"),
        (named, "without a guide or a gene"),
        (~twice, "at the place of another cell of the table"),
    ):
        count = int((rest & ~good).sum())
        if count:
            left_out.append(Excluded("cell", f"{plate}/{well}", f"{count} cells {reason}"))
        rest &= good
    cells = cells[rest].reset_index(drop=True)
    cells["tile"] = cells["tile"].astype(np.int64)
    cells["number"] = cells.groupby("tile").cumcount()
    return cells, left_out


def _draw(by_tile: Mapping[int, pd.DataFrame], options: Mapping[str, Any], unit: str) -> pd.Index:
    """Return the index of the cells to cut out; adds a column ``inside`` to the tables of tiles."""
    for table in by_tile.values():
        places = table[["cell_i", "cell_j"]].to_numpy()
        table["inside"] = inside(places, options["crop"], options["tile_px"])
    if not by_tile:
        return pd.Index([], dtype=np.int64)
    cells = pd.concat(by_tile.values())
    cells = cells[cells["inside"]]
    control = cells["gene_symbol_0"] == CONTROL
    if options["genes"] is not None:
        cells = cells[control | cells["gene_symbol_0"].isin(options["genes"])]
        control = cells["gene_symbol_0"] == CONTROL
    if options["cells_per_gene"] is None and options["control_cells"] is None:
        return cells.index
    rng = np.random.default_rng([options["seed"], zlib.crc32(unit.encode())])
    place = pd.Series(rng.random(len(cells)), index=cells.index)
    rank = place.groupby(cells["gene_symbol_0"]).rank()
    most = [np.inf if options[k] is None else options[k] for k in ("cells_per_gene", "control_cells")]
    return cells.index[rank <= np.where(control, most[1], most[0])]


def read_tile(
    unit: UnitFiles, plate: str, well: str, tile: int, options: Mapping[str, Any]
) -> tuple[np.ndarray, dict[str, tuple[float, float]]]:
    """Read one tile: projected, clipped, registered.

    Returns
    -------
    ndarray
        (4, H, W) uint16, channels as :data:`~morphobench.datasets.funk22_tiles.CHANNELS`.
    dict
        The shift of each registered channel.

    Raises
    ------
    MissingImage, DataError
        If one of its files is missing or damaged, or the tile cannot be registered.
    """
    side = options["tile_px"]
    planes = {}
    for file in FILES:
        name = TILE_NAME.format(screen=options["screen"], plate=plate, well=well, file=file, tile=tile)
        pages = decode_image(unit.read(name), name, dtype=np.uint16, stack=True)
        planes[file] = project(pages, 2 if file == "DAPI-GFP" else 1, name)
        if planes[file].shape[1:] != (side, side):
            height, width = planes[file].shape[1:]
            raise DataError(f"{name}: tile is {height} x {width}, expected {side} x {side}")
        if reason := check_pixels(planes[file]):
            raise DataError(f"{name}: {reason}")
    image = np.concatenate([planes["A594"], planes["AF750"], planes["DAPI-GFP"]])
    # Clipped first: a speck of dirt would outweigh all cells when channels are compared.
    image = np.stack([clip_tails(channel, options["clip"]) for channel in image])
    how = {key: options[key] for key in ("upsample", "normalization", "window")}
    return register(image, options["align"], options["max_shift"], f"{plate}/{well}/{tile}", **how)


def _metadata(row: Any, plate: str, well: str, tile: int) -> dict[str, Any]:
    return {
        "Metadata_Batch": f"{plate}_{well}",
        "Metadata_Plate": plate,
        "Metadata_Well": well,
        "Metadata_Site": f"{tile}-{row.number}",
        "Metadata_Perturbation": row.gene_symbol_0,
        "Metadata_Control": "negcon" if row.gene_symbol_0 == CONTROL else "trt",
        "Metadata_Split": "train",
        "Metadata_Gene": row.gene_symbol_0,
        "Metadata_Guide": row.sgRNA_0,
        "Metadata_Stage": row.stage,
        "Metadata_Tile": tile,
        "Metadata_Y": float(row.cell_i),
        "Metadata_X": float(row.cell_j),
    }


def load_transform(batch: np.ndarray, size: int = 64, centre: float = 7.0, scale: float = 7.0) -> np.ndarray:
    """Turn stored counts into what networks see: resized by area, inverse hyperbolic sine, shifted and scaled.

    Parameters
    ----------
    batch
        (..., H, W) counts of any numeric type.
    size
        Side of the result, at most that of the crops.
    centre, scale
        (arcsinh(x) - centre) / scale; 7 and 7 in the authors' code, which fit counts from about 100 to 65,535.

    Returns
    -------
    ndarray
        (..., size, size) float32.
    """
    *lead, height, width = batch.shape
    if size > min(height, width):
        raise DataError(f"crops of {height} x {width} cannot be enlarged to {size} x {size}")
    values = np.asarray(batch, np.float32).reshape(-1, height, width)
    if (height, width) != (size, size):
        values = area_weights(size, height) @ values @ area_weights(size, width).T
    out = np.arcsinh(values)
    out -= np.float32(centre)
    out *= np.float32(1 / scale)
    return out.reshape(*lead, size, size)


def area_weights(new: int, old: int) -> np.ndarray:
    """Return (new, old) float32 weights by which pixels are the mean of the old area they cover; rows sum to 1."""
    edges: Sequence[float] = np.arange(new + 1) * old / new
    start, end = np.arange(old)[None, :], np.arange(1, old + 1)[None, :]
    overlap = np.minimum(end, edges[1:, None]) - np.maximum(start, edges[:-1, None])
    return (np.clip(overlap, 0, None) * new / old).astype(np.float32)
