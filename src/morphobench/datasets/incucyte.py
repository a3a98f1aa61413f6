"""The drug screen of Dmitrenko et al. 2022 (21 cell lines, 31 drugs, phase contrast): tiles of two classes.

The authors train on two classes: wells at a drug's highest dose at the last time points, and control wells at all
times. Controls at early hours look sparse like wells whose growth a drug has stopped, and the class goes with the
hour: that is part of their data set, and kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from morphobench.datasets.incucyte_layout import (
    ImageName,
    compiled,
    parse_name,
    read_map,
    well_key,
)
from morphobench.errors import DataError, SpecError
from morphobench.images.decode import check_pixels, decode_image
from morphobench.images.unit import Excluded, MissingImage, Sample, UnitFiles


@dataclass(frozen=True)
class Options:
    """How images become tiles.

    Attributes
    ----------
    pattern
        Regular expression of image names with groups ``line clone plate well site time ending``.
    size, fit
        Height and width of what is used of an image, by ``crop`` from its middle or ``resize`` of the whole.
    raw, sharpen
        Endings of files that are still raw, and how often these are sharpened; others come from the authors'
        preparation, which has sharpened them.
    tile
        Height and width of a tile.
    last_times
        Images of a treated well that are used, from the last.
    control_every
        Of the images of a control well every so manieth is used, from the first.
    drugs, controls
        Names of the drugs and of the controls in the plate maps.
    lines
        Cell lines to read, None for all.
    balance
        Whether the more frequent class of each cell line is thinned to the other's number of tiles.
    seed
        Seed of the thinning.
    """

    pattern: str
    size: int
    fit: str
    raw: Sequence[str]
    sharpen: int
    tile: int
    last_times: int
    control_every: int
    drugs: Sequence[str]
    controls: Sequence[str]
    lines: Sequence[str] | None
    balance: bool
    seed: int

    @classmethod
    def from_spec(cls, options: Mapping[str, Any]) -> Options:
        """Return the options of a spec; SpecError if one is missing or impossible."""
        names = [f.name for f in fields(cls)]
        for key in [*(n for n in names if n not in options), *(k for k in options if k not in names)]:
            if key != "local_root":
                problem = "unknown" if key in options else "missing"
                raise SpecError(f"images.options: {key} is {problem}; the options are {', '.join(names)}")
        result = cls(**{name: options[name] for name in names})
        for key in ("size", "tile", "last_times", "control_every"):
            if not isinstance(options[key], int) or options[key] < 1:
                raise SpecError(f"images.options.{key} is {options[key]!r}, expected a whole number, 1 or more")
        if result.size % result.tile:
            raise SpecError(f"images.options: tiles of {result.tile} do not fill images of {result.size}")
        if result.fit not in ("crop", "resize"):
            raise SpecError(f"images.options.fit is {result.fit!r}, expected crop or resize")
        return result

    @property
    def tiles(self) -> int:
        """Number of tiles of an image."""
        return (self.size // self.tile) ** 2


@dataclass(frozen=True)
class _Frame:
    """One image that is used: what it shows, and hours since the first image of its plate."""

    image: ImageName
    drug: str
    dose: float
    control: bool
    hours: float


def read_unit(unit: UnitFiles) -> Iterator[Sample | Excluded]:
    """Read one batch: tiles of its treated and control wells, by line, plate, well, time and place.

    Parameters
    ----------
    unit
        Images and plate maps; the options are those of :class:`Options`.

    Yields
    ------
    Sample
        ``pixels`` (1, tile, tile) uint8. ``Metadata_Time`` is in hours since the plate's first image,
        ``Metadata_Tile`` counts from 1 by row as in the authors' file names, ``Metadata_Site`` is the end of such
        a name (site, time, tile) and unique within the well.
    Excluded
        Files whose names do not fit, wells without images, drug or plate map row, doses and times that are not
        used, tiles that balancing leaves out, images and tiles that cannot be used.

    Raises
    ------
    DataError
        If a plate map is not as expected, or no plate of the batch has one.
    SpecError
        If the options are wrong.
    """
    options = Options.from_spec(unit.options)
    images, odd = _images(unit, options)
    yield from odd
    chosen: dict[str, list[_Frame]] = {}
    mapped = 0
    for plate in sorted(images):
        try:
            content = unit.read(f"metadata/{plate}.csv")
        except MissingImage as error:
            yield Excluded("plate", plate, f"no plate map, {len(images[plate])} images are not used: {error}")
            continue
        mapped += 1
        table = read_map(content, f"metadata/{plate}.csv", options.drugs, options.controls)
        frames, left_out = _choose(plate, images[plate], table, options)
        chosen.setdefault(images[plate][0].line, []).extend(frames)
        yield from left_out
    if not mapped:
        raise DataError(f"unit {unit.unit}: none of its {len(images)} plates has a plate map metadata/PLATE.csv")
    for line, frames in chosen.items():
        keep, left_out = _balance(unit.unit, line, frames, options)
        yield from left_out
        for frame, tiles in zip(frames, keep, strict=True):
            if len(tiles):
                yield from _tiles(unit, frame, tiles, options)


def _images(unit: UnitFiles, options: Options) -> tuple[dict[str, list[ImageName]], list[Excluded]]:
    """Return the images by plate, and what is none; of two endings of one name the prepared one is taken."""
    pattern = compiled(options.pattern)
    odd: list[Excluded] = []
    best: dict[str, ImageName] = {}
    for name in sorted(n for n in unit.names() if not n.startswith("metadata/")):
        image = parse_name(name, pattern)
        if isinstance(image, str):
            odd.append(Excluded("file", name, image))
            continue
        if options.lines is not None and image.line not in options.lines:
            continue
        stem = name.rpartition(".")[0]
        other = best.get(stem)
        if other is not None:
            image, spare = (other, image) if image.ending in options.raw else (image, other)
            odd.append(Excluded("file", spare.name, f"the same image as {image.name}"))
        best[stem] = image
    plates: dict[str, list[ImageName]] = {}
    for image in best.values():
        plates.setdefault(image.folder, []).append(image)
    return plates, odd


def _choose(
    plate: str, images: list[ImageName], table: pd.DataFrame, options: Options
) -> tuple[list[_Frame], list[Excluded]]:
    """Return the images of a plate that are used, and what is not."""
    first = min(image.time for image in images)
    wells: dict[str, list[ImageName]] = {}
    for image in images:
        wells.setdefault(image.well, []).append(image)
    treated = table[table["Drug"].notna() & ~table["Drug"].isin(options.controls)]
    highest = treated.groupby("Drug")["Final_conc_uM"].max()
    frames: list[_Frame] = []
    left_out = [
        Excluded("well", f"{plate}/{well}", "in the plate map, but without images")
        for well in sorted(set(table.index) - set(wells), key=well_key)
    ]
    unused = {"treated": 0, "control": 0}
    for well in sorted(wells, key=well_key):
        shown = sorted(wells[well], key=lambda image: (image.time, image.site))
        reason = _no_use(well, table, highest)
        if reason:
            left_out.append(Excluded("well", f"{plate}/{well}", f"{reason}: {len(shown)} images are not used"))
            continue
        drug, dose = table.loc[well, "Drug"], float(table.loc[well, "Final_conc_uM"])
        control = drug in options.controls
        used = shown[:: options.control_every] if control else shown[-options.last_times :]
        unused["control" if control else "treated"] += len(shown) - len(used)
        for image in used:
            frames.append(_Frame(image, drug, dose, control, (image.time - first).total_seconds() / 3600))
    reasons = {
        "treated": f"images of treated wells are not among the last {options.last_times}",
        "control": f"images of control wells are not every {options.control_every}. one",
    }
    left_out += [Excluded("image", plate, f"{n} {reasons[kind]}") for kind, n in unused.items() if n]
    return frames, left_out


def _no_use(well: str, table: pd.DataFrame, highest: pd.Series) -> str:
    if well not in table.index:
        return "not in the plate map"
    drug, dose = table.loc[well, "Drug"], table.loc[well, "Final_conc_uM"]
    if drug is None or pd.isna(drug):
        return "no drug in the plate map"
    if drug in highest.index and dose < highest[drug]:
        return f"{drug} at {dose:g} uM, below the plate's highest dose of {highest[drug]:g} uM"
    return ""


def _balance(
    unit: str, line: str, frames: list[_Frame], options: Options
) -> tuple[list[np.ndarray], list[Excluded]]:
    """Return the tiles, counted from 0, that are kept of each image, so that both classes have as many."""
    every = [np.arange(options.tiles) for _ in frames]
    if not options.balance:
        return every, []
    control = np.repeat([frame.control for frame in frames], options.tiles).astype(bool)
    few = int(min(control.sum(), (~control).sum()))
    keep = np.zeros(len(control), dtype=bool)
    left_out = []
    for kind, mask in (("treated", ~control), ("control", control)):
        members = np.flatnonzero(mask)
        # The draw depends on line and class alone, not on which other lines are read.
        rng = np.random.default_rng([options.seed, zlib.crc32(f"{unit}/{line}/{kind}".encode())])
        keep[rng.permutation(members)[:few]] = True
        if len(members) > few:
            reason = f"{len(members) - few} of {len(members)} {kind} tiles, so that both classes have {few}"
            left_out.append(Excluded("tile", f"{unit}/{line}", reason))
    rows = keep.reshape(len(frames), options.tiles)
    return [np.flatnonzero(row) for row in rows], left_out


def _tiles(unit: UnitFiles, frame: _Frame, tiles: np.ndarray, options: Options) -> Iterator[Sample | Excluded]:
    name = frame.image.name
    try:
        pixels = _prepared(decode_image(unit.read(name), name, dtype=np.uint8), frame.image, options)
    except (DataError, MissingImage) as error:
        yield Excluded("image", name, f"{error}; {len(tiles)} tiles are lost")
        return
    across = options.size // options.tile
    for tile in tiles:
        y, x = (options.tile * int(i) for i in divmod(int(tile), across))
        part = np.ascontiguousarray(pixels[y : y + options.tile, x : x + options.tile])
        reason = check_pixels(part)
        if reason:
            yield Excluded("tile", f"{name} tile {tile + 1}", reason)
        else:
            yield Sample(_metadata(unit.unit, frame, int(tile) + 1), part[None])


def _prepared(pixels: np.ndarray, image: ImageName, options: Options) -> np.ndarray:
    """Return the part of an image that is used, sharpened if it was raw; the authors' preparation."""
    from PIL import Image, ImageFilter

    height, width = pixels.shape
    if min(height, width) < options.size:
        raise DataError(f"{image.name}: image is {height} x {width}, smaller than {options.size} x {options.size}")
    if options.fit == "crop":
        top, left = height // 2 - options.size // 2, width // 2 - options.size // 2
        pixels = pixels[top : top + options.size, left : left + options.size]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    if options.fit == "resize":
        picture = picture.resize((options.size, options.size))
    for _ in range(options.sharpen if image.ending in options.raw else 0):
        picture = picture.filter(ImageFilter.SHARPEN)
    return np.asarray(picture)


def _metadata(unit: str, frame: _Frame, tile: int) -> dict[str, Any]:
    image = frame.image
    return {
        "Metadata_Batch": unit,
        "Metadata_Plate": image.folder,
        "Metadata_Well": image.well,
        "Metadata_Site": f"{image.site}_{image.stamp}_{tile}",
        "Metadata_Perturbation": frame.drug,
        "Metadata_Control": "negcon" if frame.control else "trt",
        # Folds decide.
        "Metadata_Split": "train",
        "Metadata_Compound": frame.drug,
        "Metadata_Concentration": frame.dose,
        "Metadata_CellLine": image.line,
        "Metadata_Replicate": image.replicate,
        "Metadata_Time": frame.hours,
        "Metadata_Tile": tile,
    }
