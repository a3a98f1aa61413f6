"""A simulated LINCS pilot (cpg0004, batch 1): one image a channel in the Cell Painting Gallery, and its tables.

As in life all plates of a platemap have the same layout, so what a well's position does to its picture comes back
in every replicate of the compound: set ``well_strength`` to 0 where that is not wanted. Four plates are in the
table of barcodes and have no data; some compounds have no mechanism, or another batch in the table of mechanisms.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

from morphobench.errors import SpecError
from morphobench.simulate.cells import CELL_LINES, Truth, draw_field
from morphobench.simulate.microscope import Laboratory
from morphobench.simulate.raw import RawFolder, csv_bytes, parse, png_bytes

_METADATA = (
    "https://raw.githubusercontent.com/broadinstitute/lincs-cell-painting/"
    "061870127481dcd73c29df85ebcfddeac2ed0828/metadata"
)
_BATCH = "2016_04_01_a549_48hr_batch1"
BARCODES = f"{_METADATA}/platemaps/{_BATCH}/barcode_platemap.csv"
PLATEMAP = f"{_METADATA}/platemaps/{_BATCH}/platemap/{{platemap}}.txt"
PLATES = f"{_METADATA}/idr/lincs_plates_final_batch_1.txt"
MOA = f"{_METADATA}/moa/repurposing_info_external_moa_map_resolved.tsv"
_IMAGES = "s3://cellpainting-gallery/cpg0004-lincs/broad/images"
PNG = f"{_IMAGES}/{_BATCH}_compressed/images/{{plate}}/{{stem}}-ch{{channel}}sk1fk1fl1.png"
TIFF = f"{_IMAGES}/{_BATCH}/images/{{folder}}/Images/{{stem}}-ch{{channel}}sk1fk1fl1.tiff"
# ch1 to ch5.
CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
PLATEMAPS = tuple(f"C-7161-01-LM6-{i:03d}" for i in range(1, 29))
# Wells of DMSO on every plate.
_SOLVENT = [f"{row}{column:02d}" for row in "AB" for column in range(1, 7)]
_SOLVENT += [f"F{column:02d}" for column in range(7, 13)] + [f"J{column:02d}" for column in range(13, 19)]
_TREATED = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
_TREATED = [well for well in _TREATED if well not in _SOLVENT]
# As the tables spell them; the column is called mmoles_per_liter, but these are micromolar.
_DOSE, _LOWER = "9.99999999999999999", "1.11111111111538462"
# Share of a compound's effect that is left at the lower dose.
_LOWER_EFFECT = 0.5
_DATES = ("2016-03-22", "2016-04-05", "2016-04-26", "2016-05-17", "2016-05-30")
_PHANTOMS = ("SQ00015225", "SQ00015226", "SQ00015227", "SQ00015228")
_FIRST_BARCODE = 14812
# The compressed set is clipped at these percentiles of each image.
_CLIP = (0.05, 99.95)
# Counts of the 16-bit camera: where there is nothing, and the range.
_DARK, _RANGE = 150, 24000


@dataclass(frozen=True)
class Parameters:
    """What can be set.

    Attributes
    ----------
    platemaps, replicates
        Platemaps with plates, and plates of each (5 in life), one in each round of the experiment.
    compounds, mechanisms
        Compounds with a mechanism on each platemap, and mechanisms in all, each on all platemaps.
    unannotated, lower_doses
        Compounds of a platemap without a mechanism; wells with a compound at a lower dose.
    dmso
        Solvent wells of each plate, up to 24 (in life).
    sites
        Pictures of each well (9 in life).
    size, pixel_um
        Side of a PNG in pixels, and of its pixels in micrometres; TIFFs have twice the pixels, half as large.
    cells
        Cells in a square of 100 micrometres.
    strength
        Strength of the compounds; at 0 they do nothing.
    batch_strength, plate_strength, well_strength
        How far rounds, plates of a round and positions on the plate differ; at 0 not at all.
    noise
        Strength of the camera's noise.
    missing
        Pictures of one channel that are not there.
    format
        ``png``, the compressed 8-bit images, or ``tiff``, the raw 16-bit ones.
    """

    platemaps: int = 2
    replicates: int = 5
    compounds: int = 36
    mechanisms: int = 12
    unannotated: int = 1
    lower_doses: int = 2
    dmso: int = 8
    sites: int = 3
    size: int = 96
    pixel_um: float = 1.2
    cells: float = CELL_LINES["A549"].density
    strength: float = 1.0
    batch_strength: float = 0.8
    plate_strength: float = 0.5
    well_strength: float = 0.2
    noise: float = 1.0
    missing: int = 1
    format: str = "png"


def units(parameters: Mapping[str, Any]) -> list[str]:
    """Return the barcodes of the plates that :func:`simulate` writes images of."""
    return list(_plates(_checked(parameters))["plate"])


def simulate(parameters: Mapping[str, Any], out_root: str | Path, seed: int) -> list[dict[str, Any]]:
    """Write a simulated screen as a mirror: ``<out_root>/<host>/<path>``, ``manifest.tsv`` and ``truth.tsv``.

    Parameters
    ----------
    parameters
        Values of :class:`Parameters` that differ from its defaults.
    out_root
        Folder to write to.
    seed
        Same seed and parameters, same bytes, with the same versions of the libraries.

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
    rng = np.random.default_rng([seed, 0])
    compounds = _compounds(p, rng)
    truth = Truth.draw(
        rng, compounds["mechanism"].to_numpy(), compounds["potency"].to_numpy(), CHANNELS, p.strength
    )
    plates = _plates(p)
    wells = _layouts(p, compounds, seed)
    out = RawFolder(out_root)
    _write_tables(out, plates, wells, compounds)
    sites = plates.merge(wells, on="platemap")
    sites = sites.loc[sites.index.repeat(p.sites)].reset_index(drop=True)
    sites["site"] = np.arange(len(sites)) % p.sites + 1
    rng = np.random.default_rng([seed, 2])
    # Taken from treated wells, so that a small screen keeps its controls.
    able = np.flatnonzero(sites["compound"] > 0)
    missing = {(int(row), int(rng.integers(len(CHANNELS)))) for row in rng.choice(able, p.missing, replace=False)}
    for row, images in enumerate(_pictures(p, sites, truth, seed)):
        for channel, (url, content) in enumerate(images):
            if (row, channel) not in missing:
                out.write(url, content)
    planted = pd.DataFrame(truth.effects.round(6) + 0.0, columns=list(truth.names))
    return out.finish(pd.concat([compounds.drop(columns="platemap_index"), planted], axis=1))


def _checked(parameters: Mapping[str, Any]) -> Parameters:
    p = parse(Parameters, parameters, "simulate")
    limits = {
        "platemaps": (1, 11),
        "replicates": (1, len(_DATES)),
        "compounds": (1, len(_TREATED)),
        "mechanisms": (1, p.compounds * p.platemaps),
        "lower_doses": (0, p.compounds),
        "dmso": (1, len(_SOLVENT)),
        "sites": (1, 9),
        "size": (16, 1080),
        "pixel_um": (0.1, 10),
        "missing": (0, p.compounds * p.sites),
    }
    for key, (low, high) in limits.items():
        if not low <= getattr(p, key) <= high:
            raise SpecError(f"simulate: parameter {key} is {getattr(p, key)}, expected {low} to {high}")
    wells = p.compounds + p.unannotated + p.lower_doses
    if wells > len(_TREATED):
        raise SpecError(f"simulate: a plate would need {wells} treated wells, expected at most {len(_TREATED)}")
    if p.format not in ("png", "tiff"):
        raise SpecError(f"simulate: parameter format is {p.format!r}, expected png or tiff")
    return p


def _plates(p: Parameters) -> pd.DataFrame:
    rows = []
    for m in range(p.platemaps):
        for k in range(p.replicates):
            plate = f"SQ{_FIRST_BARCODE + len(_DATES) * m + k:08d}"
            folder = f"{plate}__2016-05-{23 + k}T{20 - m:02d}_44_31-Measurement1"
            rows.append((plate, folder, PLATEMAPS[m], k, m))
    return pd.DataFrame(rows, columns=["plate", "folder", "platemap", "batch_index", "plate_index"])


def _compounds(p: Parameters, rng: np.random.Generator) -> pd.DataFrame:
    """Return solvent (row 0) and the compounds, with mechanism, potency and platemap."""
    annotated, n = p.platemaps * p.compounds, p.platemaps * (p.compounds + p.unannotated)
    i = np.arange(n)
    known = i < annotated
    # Those of no known mechanism have a direction each of their own, as has solvent.
    group = np.where(known, i % p.mechanisms, p.mechanisms + 1 + i)
    table = pd.DataFrame({"broad_sample": [f"BRD-K{k + 1:08d}-001-01-1" for k in i]})
    table["name"] = [f"compound {k + 1:03d}" for k in i]
    table["moa"] = [f"mechanism {g + 1:02d}" if k else "" for g, k in zip(group, known, strict=True)]
    table["mechanism"] = group
    table["potency"] = rng.uniform(0.6, 1.4, n).round(6)
    # Dealt out in turns of all mechanisms, so that each platemap has its share of every mechanism.
    turns = np.arange(annotated) // p.mechanisms + np.arange(annotated) % p.mechanisms
    order = np.argsort(turns % p.platemaps, kind="stable")
    platemap = np.empty(annotated, int)
    platemap[order] = np.arange(annotated) // p.compounds
    table["platemap_index"] = np.concatenate([platemap, np.arange(n - annotated) % p.platemaps])
    solvent = pd.DataFrame([("DMSO", "DMSO", "", p.mechanisms, 0.0, -1)], columns=table.columns)
    return pd.concat([solvent, table], ignore_index=True)


def _layouts(p: Parameters, compounds: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the wells of each platemap: position, row of the compounds, dose, share of the effect."""
    tables = []
    for m in range(p.platemaps):
        rng = np.random.default_rng([seed, 1, m])
        own = np.flatnonzero(compounds["platemap_index"] == m)
        lower = own[: p.lower_doses]
        places = rng.permutation(len(_TREATED))[: len(own) + len(lower)]
        solvent = [_SOLVENT[i * len(_SOLVENT) // p.dmso] for i in range(p.dmso)]
        table = pd.DataFrame({"well": [*solvent, *(_TREATED[i] for i in places)]})
        table["compound"] = np.concatenate([np.zeros(p.dmso, int), own, lower])
        table["dose"] = ["" for _ in solvent] + [_DOSE for _ in own] + [_LOWER for _ in lower]
        table["share"] = np.where(table["dose"] == _LOWER, _LOWER_EFFECT, 1.0)
        table["platemap"] = PLATEMAPS[m]
        tables.append(table.sort_values("well"))
    return pd.concat(tables, ignore_index=True)


def _pictures(p: Parameters, sites: pd.DataFrame, truth: Truth, seed: int) -> Iterator[list[tuple[str, bytes]]]:
    """Yield address and content of each channel, site by site."""
    laboratory = Laboratory(seed, len(CHANNELS), p.batch_strength, p.plate_strength, p.well_strength, p.noise)
    line = replace(CELL_LINES["A549"], density=p.cells)
    tiff = p.format == "tiff"
    size, pixel_um = (2 * p.size, p.pixel_um / 2) if tiff else (p.size, p.pixel_um)
    pattern, encode = (TIFF, _tiff_bytes) if tiff else (PNG, _compressed)
    for site in sites.itertuples(index=False):
        row, column = ord(site.well[0]) - ord("A"), int(site.well[1:])
        place = (site.batch_index, site.plate_index, 24 * row + column)
        image, _ = draw_field(
            # Depends on the place only: with strength 0 nothing of the compound is left in the picture.
            np.random.default_rng([seed, 3, *place, site.site]),
            site.share * truth.effects[site.compound],
            laboratory.nuisance(*place),
            (size, size),
            CHANNELS,
            pixel_um=pixel_um,
            line=line,
        )
        names = {
            "plate": site.plate,
            "folder": site.folder,
            "stem": f"r{row + 1:02d}c{column:02d}f{site.site:02d}p01",
        }
        yield [(pattern.format(**names, channel=i + 1), encode(plane)) for i, plane in enumerate(image)]


def _compressed(plane: np.ndarray) -> bytes:
    low, high = np.percentile(plane, _CLIP)
    return png_bytes(np.rint(np.clip((plane - low) / (high - low), 0, 1) * 255).astype(np.uint8))


def _tiff_bytes(plane: np.ndarray) -> bytes:
    stream = io.BytesIO()
    counts = np.rint(_DARK + _RANGE * plane).astype(np.uint16)
    tifffile.imwrite(stream, counts, photometric="minisblack", metadata=None, software=False)
    return stream.getvalue()


def _write_tables(out: RawFolder, plates: pd.DataFrame, wells: pd.DataFrame, compounds: pd.DataFrame) -> None:
    barcodes = pd.DataFrame({"Assay_Plate_Barcode": plates["plate"], "Plate_Map_Name": plates["platemap"]})
    barcodes["Batch_Number"] = plates["batch_index"] + 1
    phantoms = pd.DataFrame({"Assay_Plate_Barcode": _PHANTOMS, "Plate_Map_Name": PLATEMAPS[12], "Batch_Number": 3})
    barcodes = pd.concat([barcodes, phantoms])
    barcodes["Batch_Date"] = [_DATES[k - 1] for k in barcodes["Batch_Number"]]
    out.write(BARCODES, csv_bytes(barcodes))
    out.write(PLATES, "".join(f"{folder}\n" for folder in plates["folder"]).encode())
    for name in PLATEMAPS:
        own = wells[wells["platemap"] == name]
        if own.empty:
            # Platemaps without plates have their solvent wells only.
            own = pd.DataFrame({"well": _SOLVENT, "compound": 0, "dose": ""})
        table = pd.DataFrame({"plate_map_name": name, "well_position": own["well"]})
        samples = compounds["broad_sample"].to_numpy()[own["compound"]]
        table["broad_sample"] = np.where(own["compound"] == 0, "", samples)
        table["mg_per_ml"] = np.where(own["dose"] == "", "", "2.79122999999999990")
        table["mmoles_per_liter"] = own["dose"]
        table["solvent"] = "DMSO"
        out.write(PLATEMAP.format(platemap=name), csv_bytes(table, sep="\t"))
    out.write(MOA, csv_bytes(_mechanisms(compounds), sep="\t"))


def _mechanisms(compounds: pd.DataFrame) -> pd.DataFrame:
    known = compounds[compounds["moa"] != ""]
    table = pd.DataFrame({"broad_sample": known["broad_sample"]}).reset_index(drop=True)
    # Some were bought again since: only the first 13 characters agree with the platemap.
    again = table.index % 20 == 7
    table.loc[again, "broad_sample"] = table["broad_sample"][again].str.replace("-001-01-1", "-001-02-9")
    table["broad_id"] = table["broad_sample"].str[:13]
    table["pert_iname"] = known["name"].to_numpy()
    table["InChIKey14"] = [f"SIMULATED{i:05d}" for i in range(len(table))]
    table["moa"] = known["moa"].to_numpy()
    blank = {"target": "", "broad_date": "broad_id_20170327", "clinical_phase": "Simulated"}
    return table.assign(**blank, alternative_moa="", alternative_target="")
