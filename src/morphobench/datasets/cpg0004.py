"""cpg0004, batch 1: the LINCS pilot of Cell Painting (A549, 48 h); a unit is a plate, as is CDCL's domain.

Images of a plate are looked for as compressed 8-bit PNGs under two addresses, then as 16-bit TIFFs, from which
8-bit images are made (:mod:`morphobench.datasets.lincs_tiff`). Channels ch1 to ch5: DNA, ER, RNA, AGP, Mito, which
is CDCL's order too.

The choice ``cdcl`` is that of Haslum et al. 2023 (authors' code, build_data/CPG0004-build-combined.ipynb): 569
compounds at 10 micromolar, all fields, and 2,000 fields of DMSO. Theirs were drawn without a seed; here the draw
is by a hash of seed, plate, well and site over all plates, so it does not depend on which plates are prepared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.datasets.fields import Decode, Field, grey8, parse_options, read_fields
from morphobench.datasets.lincs_tables import DMSO, file_stem, read_treatments, read_wells
from morphobench.datasets.lincs_tiff import compress, mean_images
from morphobench.errors import DataError, SpecError
from morphobench.fetch.requests import RawFile, Variant
from morphobench.images.decode import check_pixels, decode_image
from morphobench.images.unit import Excluded, MissingImage, Sample, UnitFiles

BATCH = "2016_04_01_a549_48hr_batch1"
ROOT = "s3://cellpainting-gallery/cpg0004-lincs/broad"
# Two published spellings of the same folder; neither could be opened here.
PNG = {
    "png_a": f"{ROOT}/images/{BATCH}_compressed/images",
    "png_b": f"{ROOT}/{BATCH}_compressed/images",
}
TIFF = f"{ROOT}/images/{BATCH}/images"
CHANNELS = (1, 2, 3, 4, 5)
SITES = tuple(range(1, 10))
SELECTIONS = ("cdcl", "annotated", "all")
# The level of 10 micromolar, at which CDCL takes the compounds.
LEVEL = 6


@dataclass(frozen=True)
class Options:
    """``images.options`` of the spec.

    Attributes
    ----------
    selection
        ``cdcl``: the compounds of ``treatments`` at 10 micromolar; ``annotated``: all compounds with a mechanism
        at 10 micromolar; ``all``: every compound at every dose. Always with DMSO.
    treatments
        The list of treatments, by the name of a packaged list or a path; needed by ``cdcl``.
    size
        Height and width of the samples, in pixels.
    raw_size
        Height and width of the provider's PNGs, half those of its TIFFs; null for any.
    sites, wells
        Which to take of each plate, such as ``[1, 2]`` and ``[A01, C07]``; null for all (nine sites).
    dmso_images
        How many fields of DMSO to draw over all plates, from the sites and wells that are taken; null for all.
    dmso_seed
        Seed of that draw.
    """

    selection: str = "cdcl"
    treatments: str | None = None
    size: int = 256
    raw_size: int | None = 1080
    sites: tuple | None = None
    wells: tuple | None = None
    dmso_images: int | None = 2000
    dmso_seed: int = 0


def list_files(unit: str, files: Mapping[str, Path], options: Mapping[str, Any]) -> list[Variant]:
    """Return the images of a plate in three variants: ``png_a``, ``png_b`` and ``tiff``.

    Below a user's own copy PNGs are ``<barcode>/r01c01f01p01-ch1sk1fk1fl1.png``, TIFFs
    ``<barcode>__<time>-Measurement<k>/Images/r01c01f01p01-ch1sk1fk1fl1.tiff``.

    Parameters
    ----------
    unit
        The plate's barcode.
    files
        See :func:`morphobench.datasets.lincs_tables.read_wells`.
    options
        See :class:`Options`.

    Raises
    ------
    DataError
        If a table is not as expected, or the plate has nothing that the options want.
    """
    sites = select_sites(unit, files, _parse(options))
    png, tiff = ([name for row in sites.itertuples() for name in _names(row, kind)] for kind in ("png", "tiff"))
    variants = [
        Variant(name, tuple(RawFile(f"{base}/{path}", path) for path in png)) for name, base in PNG.items()
    ]
    return [*variants, Variant("tiff", tuple(RawFile(f"{TIFF}/{path}", path) for path in tiff))]


def read_unit(unit: UnitFiles) -> Iterator[Sample | Excluded]:
    """Yield the fields of a plate as (5, size, size) uint8 in the order DNA, ER, RNA, AGP, Mito.

    Perturbation is ``<broad_sample>@<micromolar>`` or ``DMSO``; Compound its name, so that two samples of one
    compound have the same; Batch and Plate are the barcode, as CDCL's domain; Replicate is the plate's.

    Raises
    ------
    DataError
        See :func:`list_files`.
    """
    chosen = _parse(unit.options)
    sites = select_sites(unit.unit, unit.files, chosen)
    variant = next((r.get("variant") for r in unit.records if r.get("variant")), None)
    kind = "tiff" if variant == "tiff" else "png"
    fields = [Field(_metadata(row), _names(row, kind)) for row in sites.itertuples()]
    decode = grey8(chosen.raw_size) if kind == "png" else _from_tiff(unit, fields, chosen.raw_size)
    yield from read_fields(unit, fields, decode, chosen.size)


def select_wells(files: Mapping[str, Path], chosen: Options) -> pd.DataFrame:
    """Return the wells of all plates that the options want, DMSO among them, before any draw of DMSO fields.

    Columns as of :func:`morphobench.datasets.lincs_tables.read_wells`.
    """
    wells = read_wells(files)
    solvent = wells["broad_sample"] == DMSO
    if chosen.selection == "cdcl":
        mechanisms = read_treatments(chosen.treatments)
        treated = wells["broad_sample"].isin(mechanisms) & (wells["level"] == LEVEL)
        _same_mechanisms(wells[treated], mechanisms, chosen.treatments)
    elif chosen.selection == "annotated":
        treated = wells["moa"].notna() & (wells["level"] == LEVEL)
    else:
        treated = ~solvent
    wanted = treated | solvent
    if chosen.wells is not None:
        wanted &= wells["well"].isin(chosen.wells)
    return wells[wanted]


def select_sites(plate: str | None, files: Mapping[str, Path], chosen: Options) -> pd.DataFrame:
    """Return the fields that the options want: columns of :func:`select_wells` and ``site``.

    Parameters
    ----------
    plate
        The plate, or None for all.
    files, chosen
        See :func:`list_files`.

    Raises
    ------
    DataError
        If the plate is not among those that have images, or nothing of it is wanted.
    """
    wells = select_wells(files, chosen)
    if plate is not None and plate not in set(read_wells(files)["plate"]):
        raise DataError(f"{files['plates']}: plate {plate} is not in it, so it has no images")
    numbers = SITES if chosen.sites is None else chosen.sites
    own = wells if plate is None else wells[wells["plate"] == plate]
    sites = own.loc[own.index.repeat(len(numbers))].reset_index(drop=True)
    sites["site"] = np.tile(np.array(numbers, dtype=int), len(own))
    if chosen.dmso_images is not None:
        drawn = draw_dmso(wells[wells["broad_sample"] == DMSO], numbers, chosen.dmso_images, chosen.dmso_seed)
        names = list(zip(sites["plate"], sites["well"], sites["site"], strict=True))
        keep = [sample != DMSO or name in drawn for sample, name in zip(sites["broad_sample"], names, strict=True)]
        sites = sites[keep].reset_index(drop=True)
    if sites.empty:
        which = "no plate has a" if plate is None else f"plate {plate} has no"
        raise DataError(f"{files['barcode_platemap']}: {which} field that images.options select")
    return sites


def draw_dmso(wells: pd.DataFrame, sites: tuple, count: int, seed: int) -> set[tuple[str, str, int]]:
    """Return ``count`` (plate, well, site) of DMSO wells, those with the smallest hash of seed and name."""
    names = [(p, w, s) for p, w in zip(wells["plate"], wells["well"], strict=True) for s in sites]
    names.sort(key=lambda name: hashlib.sha256(":".join(map(str, (seed, *name))).encode()).digest())
    return set(names[:count])


def _parse(options: Mapping[str, Any]) -> Options:
    chosen = parse_options(Options, options)
    if chosen.selection not in SELECTIONS:
        raise SpecError(
            f"images.options: selection is {chosen.selection!r}, expected one of {', '.join(SELECTIONS)}"
        )
    if chosen.selection == "cdcl" and chosen.treatments is None:
        raise SpecError("images.options: selection cdcl needs treatments, the name or path of a list")
    if not set(chosen.sites or ()) <= set(SITES):
        raise SpecError(f"images.options: sites is {list(chosen.sites)}, expected numbers from 1 to {SITES[-1]}")
    return chosen


def _same_mechanisms(wells: pd.DataFrame, mechanisms: Mapping[str, str], path: str) -> None:
    listed = wells["broad_sample"].map(mechanisms)
    bad = (listed != wells["moa"]).to_numpy()
    if bad.any():
        row = wells[bad].iloc[0]
        raise DataError(
            f"{path}: {row['broad_sample']} has mechanism {listed[bad].iloc[0]!r}, "
            f"the table of mechanisms says {row['moa']!r}"
        )


def _names(row: Any, kind: str) -> tuple[str, ...]:
    folder = row.plate if kind == "png" else f"{row.folder}/Images"
    return tuple(f"{folder}/{file_stem(row.well, row.site)}-ch{c}sk1fk1fl1.{kind}" for c in CHANNELS)


def _metadata(row: Any) -> dict[str, Any]:
    solvent = row.broad_sample == DMSO
    return {
        "Metadata_Batch": row.plate,
        "Metadata_Plate": row.plate,
        "Metadata_Well": row.well,
        "Metadata_Site": str(row.site),
        "Metadata_Perturbation": DMSO if solvent else f"{row.broad_sample}@{row.concentration:.4g}",
        "Metadata_Control": "negcon" if solvent else "trt",
        "Metadata_Split": "train",
        "Metadata_Compound": DMSO if solvent else row.compound,
        "Metadata_Concentration": float(row.concentration),
        "Metadata_DoseLevel": int(row.level),
        "Metadata_MoA": row.moa,
        "Metadata_CellLine": "A549",
        "Metadata_Replicate": int(row.replicate),
    }


def _from_tiff(unit: UnitFiles, fields: list[Field], raw_size: int | None) -> Decode:
    """Return a decoder that makes 8-bit images; reads all images of the plate once before."""
    shape = None if raw_size is None else (2 * raw_size, 2 * raw_size)
    means = mean_images(_contents(unit, fields), len(CHANNELS), shape)
    corrections = [means.illumination(channel) for channel in range(len(CHANNELS))]

    def decode(channel: int, content: bytes, name: str) -> np.ndarray:
        image = decode_image(content, name, dtype=np.uint16, shape=shape)
        if reason := check_pixels(image):
            raise DataError(f"{name}: {reason}")
        return compress(image, corrections[channel])

    return decode


def _contents(unit: UnitFiles, fields: list[Field]) -> Iterator[tuple[int, bytes, str]]:
    for field in fields:
        for channel, name in enumerate(field.names):
            try:
                yield channel, unit.read(name), name
            except MissingImage:
                # Listed when the samples are read.
                continue
