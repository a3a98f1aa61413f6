"""A simulated drug screen under phase contrast, in the folders and with the names that the authors' code reads.

The real images are not public, so there is no provider's address. Files are written below a name of the top level
``.invalid``, which never is an address (RFC 2606):

    incucyte.invalid/data/batch_1/ACHN_CL3_P1/ACHN_CL3_P1_A7_1_2019y08m28d_22h23m.jpg
    incucyte.invalid/data/metadata/ACHN_CL3_P1.csv
    incucyte.invalid/data/listing.tsv
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from morphobench.errors import SpecError
from morphobench.simulate.incucyte_model import (
    DRUGS,
    Culture,
    Parameters,
    Treatment,
    draw_nuisance,
    effect_of,
    line_of,
    optics_of,
)
from morphobench.simulate.phase_contrast import draw_frame
from morphobench.simulate.raw import RawFolder, csv_bytes, parse

BASE = "https://incucyte.invalid/data"
# Cell lines by batch, as the authors' code has them; the place in the row is the CL number of folder names.
BATCHES = (
    ("HT29", "M14", "ACHN"),
    ("IGROV1", "SF539", "MDAMB231"),
    ("HS578T", "SKMEL2", "SW620"),
    ("EKVX", "UACC257", "OVCAR4"),
    ("MALME3M", "BT549", "LOXIMVI"),
    ("A498", "COLO205", "HOP62"),
    ("HCT15", "OVCAR5", "T47D"),
)
# The wells whose DMSO images the authors take for controls.
DMSO_WELLS = ("P21", "N19", "M8", "L14", "H9", "E2")
_WELLS = [f"{row}{column}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
_START = datetime(2019, 8, 28, 20, 23)
_QUALITY = 90


def units(parameters: Mapping[str, Any]) -> list[str]:
    """Return the names of the units, batches of three lines, that a simulated screen has."""
    return [f"batch_{b + 1}" for b in range(_checked(parameters).batches)]


def simulate(parameters: Mapping[str, Any], out_root: str | Path, seed: int) -> list[dict[str, Any]]:
    """Write a simulated screen as a mirror: ``<out_root>/incucyte.invalid/data/...``, manifest and truth.

    Each batch has what a real tree has: a file that is no image of a well, a well without a plate map row, one
    without images and one without a drug.

    Parameters
    ----------
    parameters
        Values of :class:`~morphobench.simulate.incucyte_model.Parameters` that differ from its defaults.
    out_root
        Folder to write to.
    seed
        Same seed and parameters, same bytes (with the same versions of numpy, scipy and pillow).

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
    out = _Tree(out_root)
    truth = []
    for b in range(p.batches):
        of_batch = draw_nuisance(np.random.default_rng([seed, 1, b]), p.batch_effect)
        for n, name in enumerate(BATCHES[b][: p.lines_per_batch]):
            line, sensitivity = line_of(name, np.random.default_rng([seed, 2, b, n]))
            truth += [{"line": name, "mechanism": m, "sensitivity": round(s, 6)} for m, s in sensitivity.items()]
            for k in range(p.plates_per_line):
                rng = np.random.default_rng([seed, 3, b, n, k])
                plate = _Plate(p, f"batch_{b + 1}", f"{name}_CL{n + 1}_P{k + 1}", b >= p.batches - p.raw_batches)
                plate.optics = [of_batch, draw_nuisance(rng, p.plate_effect)]
                plate.start = _START + timedelta(days=14 * b + 4 * k, minutes=7 * n)
                layout = _layout(p, rng, odd=n == 0 and k == 0)
                for w, row in enumerate(layout.itertuples(index=False)):
                    if row.kind != "unseen":
                        treatment = _treatment(row, p.strength, sensitivity)
                        own = np.random.default_rng([seed, 4, b, n, k, w])
                        _write_well(out, plate, row.Well, line, treatment, own)
                _write_map(out, plate, layout)
                if n == 0 and k == 0:
                    out.write(f"{plate.folder}/Thumbs.db", b"not an image")
    out.write("listing.tsv", _listing(out.written))
    return out.raw.finish(pd.DataFrame(truth))


class _Tree:
    """The folder that a user would have, and a list of what is in it."""

    def __init__(self, root: str | Path) -> None:
        self.raw, self.written = RawFolder(root), []

    def write(self, path: str, content: bytes) -> None:
        self.raw.write(f"{BASE}/{quote(path)}", content)
        self.written.append((path, len(content)))


class _Plate:
    """One plate: its name, its nuisance, when it was first seen, and how its images are stored."""

    optics: list[np.ndarray]
    start: datetime

    def __init__(self, parameters: Parameters, batch: str, name: str, raw: bool) -> None:
        self.parameters, self.batch, self.name, self.raw = parameters, batch, name, raw
        self.folder = f"{batch}/{name}"


def _checked(parameters: Mapping[str, Any]) -> Parameters:
    p = parse(Parameters, parameters, "simulate")
    wells = p.drugs * p.doses * p.replicates + p.dmso + p.pbs
    limits = {
        "batches": (1, len(BATCHES)),
        "lines_per_batch": (1, 3),
        "plates_per_line": (1, 9),
        "drugs": (1, len(DRUGS)),
        "doses": (1, 5),
        "replicates": (1, 9),
        "dmso": (1, 200),
        "frames": (1, 999),
        "hours": (1, 24),
        "size": (16, 2048),
        "raw_batches": (0, p.batches),
    }
    for key, (low, high) in limits.items():
        if not low <= getattr(p, key) <= high:
            raise SpecError(f"simulate: parameter {key} is {getattr(p, key)}, expected {low} to {high}")
    if wells + 3 > len(_WELLS):
        raise SpecError(f"simulate: {wells} wells are asked for, but a plate has {len(_WELLS)}, three of them odd")
    return p


def _layout(p: Parameters, rng: np.random.Generator, odd: bool) -> pd.DataFrame:
    """Return well, drug and dose; treated wells lie at random, control wells include those the authors use."""
    treated = [
        (drug, highest / 10**dose)
        for drug, (_, highest) in list(DRUGS.items())[: p.drugs]
        for dose in range(p.doses)
        for _ in range(p.replicates)
    ]
    rows = [("DMSO", 0.0)] * p.dmso + treated + [("PBS", 0.0)] * p.pbs
    if odd:
        rows += [(None, None), ("", None), ("DMSO", 0.0)]
    free = [well for well in _WELLS if well not in DMSO_WELLS]
    wells = [*DMSO_WELLS[: p.dmso], *(free[i] for i in rng.permutation(len(free)))][: len(rows)]
    table = pd.DataFrame(rows, columns=["Drug", "Final_conc_uM"]).assign(Well=wells)
    # Of the three odd wells one is not in the plate map, one has no drug there, one has no images.
    table["kind"] = [*["well"] * (len(rows) - 3 * odd), *["unlisted", "empty", "unseen"][: 3 * odd]]
    return table


def _treatment(row: Any, strength: float, sensitivity: Mapping[str, float]) -> Treatment:
    if row.Drug not in DRUGS:
        return Treatment("none", 0.0)
    mechanism, highest = DRUGS[row.Drug]
    return Treatment(mechanism, effect_of(strength, sensitivity[mechanism], row.Final_conc_uM / highest))


def _write_map(out: _Tree, plate: _Plate, layout: pd.DataFrame) -> None:
    listed = layout[layout["kind"] != "unlisted"].copy()
    place = {well: i for i, well in enumerate(_WELLS)}
    listed = listed.sort_values("Well", key=lambda column: column.map(place))
    out.write(f"metadata/{plate.name}.csv", csv_bytes(listed[["Well", "Drug", "Final_conc_uM"]]))


def _write_well(
    out: _Tree, plate: _Plate, well: str, line: Any, treatment: Treatment, rng: np.random.Generator
) -> None:
    p = plate.parameters
    hours = np.arange(p.frames) * float(p.hours)
    raw_size = p.size + p.margin
    culture = Culture(rng, line, treatment, raw_size, hours, p.growth)
    optics = optics_of([*plate.optics, draw_nuisance(rng, p.well_effect)], p.noise)
    for i, hour in enumerate(hours):
        stamp = (plate.start + timedelta(hours=hour)).strftime("%Yy%mm%dd_%Hh%Mm")
        frame = draw_frame(rng, culture.cells(rng, i), optics, raw_size)
        name = f"{plate.folder}/{plate.name}_{well}_1_{stamp}"
        out.write(f"{name}.{'tif' if plate.raw else 'jpg'}", _encoded(frame, p.size, plate.raw))


def _encoded(frame: np.ndarray, size: int, raw: bool) -> bytes:
    """Return a raw TIFF, or the JPG that the authors' preparation makes of it: centre crop, sharpened."""
    from PIL import Image, ImageFilter

    stream = io.BytesIO()
    if raw:
        Image.fromarray(frame).save(stream, "TIFF")
    else:
        first = (frame.shape[0] - size) // 2
        image = Image.fromarray(frame[first : first + size, first : first + size])
        image.filter(ImageFilter.SHARPEN).save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _listing(written: list[tuple[str, int]]) -> bytes:
    lines = ["path\tsize", *(f"{path}\t{size}" for path, size in sorted(written))]
    return ("\n".join(lines) + "\n").encode()
