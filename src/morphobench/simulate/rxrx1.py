"""A simulated RxRx1 screen: one zip of 8-bit PNGs and one of the metadata, at Recursion's addresses.

Experiments are batches; each has its own wells for the same treatments. As in life some sites were never taken
(neither picture nor row) and metadata.csv covers further cell types; unlike in life those have no pictures, some
members of the zip are missing although their row is there, and a plate has several untreated wells, not one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.errors import SpecError
from morphobench.simulate.cells import CELL_LINES, Truth, draw_field
from morphobench.simulate.microscope import Laboratory
from morphobench.simulate.raw import RawFolder, csv_bytes, parse, png_bytes

IMAGES = "https://storage.googleapis.com/rxrx/rxrx1/rxrx1-images.zip"
METADATA = "https://storage.googleapis.com/rxrx/rxrx1/rxrx1-metadata.zip"
MEMBER = "rxrx1/images/{experiment}/Plate{plate}/{well}_s{site}_w{channel}.png"
TABLE = "rxrx1/metadata.csv"
# w1 to w6: Hoechst, concanavalin A, phalloidin, SYTO 14, MitoTracker, wheat germ agglutinin.
CHANNELS = ("DNA", "ER", "Actin", "RNA", "Mito", "Golgi")
# The numbers that the real screen gives to the positive controls and to untreated wells.
FIRST_POSITIVE, EMPTY = 1108, 1138
_OTHERS = ("HEPG2-01", "RPE-01", "U2OS-01")
# The outer wells of the 384 are not used: 14 rows of 22.
_WELLS = tuple(f"{row}{column:02d}" for row in "BCDEFGHIJKLMNO" for column in range(2, 24))
_COLUMNS = ["site_id", "well_id", "cell_type", "dataset", "experiment", "plate", "well", "site", "well_type"]
_COLUMNS += ["sirna", "sirna_id"]


@dataclass(frozen=True)
class Parameters:
    """What can be set.

    Attributes
    ----------
    experiments, plates
        Experiments (HUVEC-01 and on; the last third is the data set's own test part) and plates of each.
    treatments, replicates
        siRNAs, and wells that each has in an experiment (1 in life).
    mechanisms
        Directions that the treatments share; treatments of one differ a little in direction, and in potency.
    positives, negatives
        Positive controls, each in one well of every plate, and untreated wells of every plate.
    sites
        Pictures of each well, 1 or 2.
    size, pixel_um
        Side of a picture in pixels, and of a pixel in micrometres.
    cells
        Cells in a square of 100 micrometres.
    strength
        Strength of the treatments; at 0 they do nothing.
    batch_strength, plate_strength, well_strength
        How far experiments, plates and positions on the plate differ; at 0 not at all.
    instrument_strength
        How far the microscope's set-up (vignetting, crosstalk, response, noise) differs between experiments: what
        normalising plates by mean and deviation does not take away. 0 for not at all.
    noise
        Strength of the camera's noise.
    missing_sites, missing_members
        Sites that do not exist, and pictures that lack in the zip only.
    """

    experiments: int = 6
    plates: int = 4
    treatments: int = 60
    replicates: int = 1
    mechanisms: int = 12
    positives: int = 8
    negatives: int = 3
    sites: int = 2
    size: int = 96
    pixel_um: float = 1.2
    cells: float = CELL_LINES["HUVEC"].density
    strength: float = 1.0
    batch_strength: float = 1.0
    plate_strength: float = 0.4
    well_strength: float = 0.2
    instrument_strength: float = 0.0
    noise: float = 1.0
    missing_sites: int = 2
    missing_members: int = 2


def units(parameters: Mapping[str, Any]) -> list[str]:
    """Return the names of the experiments that :func:`simulate` writes."""
    return [f"HUVEC-{i + 1:02d}" for i in range(_checked(parameters).experiments)]


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
    treatments = _treatments(p)
    rng = np.random.default_rng([seed, 0])
    potency = np.where(treatments["well_type"] == "treatment", rng.uniform(0.6, 1.4, len(treatments)), 1.5)
    potency[(treatments["well_type"] == "negative_control").to_numpy()] = 0.0
    truth = Truth.draw(rng, treatments["mechanism"].to_numpy(), potency.round(6), CHANNELS, p.strength)
    sites = _sites(p, treatments, seed)
    out = RawFolder(out_root)
    rng = np.random.default_rng([seed, 2])
    gone = set(rng.choice(len(sites), p.missing_sites, replace=False))
    damaged = rng.choice(sorted(set(range(len(sites))) - gone), p.missing_members, replace=False)
    holes = {(int(row), int(rng.integers(len(CHANNELS)))) for row in damaged}
    with out.zip(IMAGES) as add:
        for row, members in enumerate(_pictures(p, sites, truth, seed)):
            for channel, (member, content) in enumerate(members):
                if row not in gone and (row, channel) not in holes:
                    add(member, content)
    table = pd.concat([sites.drop(index=sorted(gone)), *_other_cell_types(p, treatments, seed)])
    with out.zip(METADATA) as add:
        add(TABLE, csv_bytes(table[_COLUMNS]))
    planted = pd.DataFrame(truth.effects.round(6) + 0.0, columns=list(truth.names))
    return out.finish(pd.concat([treatments.assign(potency=truth.potency), planted], axis=1))


def _checked(parameters: Mapping[str, Any]) -> Parameters:
    p = parse(Parameters, parameters, "simulate")
    wells = -(-p.treatments * p.replicates // max(1, p.plates)) + p.positives + p.negatives
    limits = {
        "experiments": (1, 24),
        "plates": (1, 4),
        "treatments": (1, FIRST_POSITIVE),
        "replicates": (1, len(_WELLS)),
        "mechanisms": (1, p.treatments),
        "positives": (0, EMPTY - FIRST_POSITIVE),
        "negatives": (1, len(_WELLS)),
        "sites": (1, 2),
        "size": (16, 2048),
        "pixel_um": (0.1, 10),
        "missing_sites": (0, p.experiments * p.plates * p.sites),
        "missing_members": (0, p.experiments * p.plates * p.sites),
    }
    for key, (low, high) in limits.items():
        if not low <= getattr(p, key) <= high:
            raise SpecError(f"simulate: parameter {key} is {getattr(p, key)}, expected {low} to {high}")
    if wells > len(_WELLS):
        raise SpecError(f"simulate: a plate would need {wells} wells, expected at most {len(_WELLS)}")
    return p


def _treatments(p: Parameters) -> pd.DataFrame:
    """Return one row a class, in the order of the truth, with its mechanism; a control has its own."""
    rows = [(f"s{20001 + i}", i, "treatment", i % p.mechanisms) for i in range(p.treatments)]
    first = FIRST_POSITIVE
    rows += [(f"s{501 + i}", first + i, "positive_control", p.mechanisms + i) for i in range(p.positives)]
    rows.append(("EMPTY", EMPTY, "negative_control", p.mechanisms + p.positives))
    return pd.DataFrame(rows, columns=["sirna", "sirna_id", "well_type", "mechanism"])


def _layout(p: Parameters, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of the treatments and positions for each plate of an experiment, drawn anew for each."""
    wells = rng.permutation(np.repeat(np.arange(p.treatments), p.replicates))
    controls = p.treatments + np.arange(p.positives)
    empty = np.full(p.negatives, p.treatments + p.positives)
    for treated in np.array_split(wells, p.plates):
        rows = np.concatenate([treated, controls, empty])
        yield rows, rng.permutation(len(_WELLS))[: len(rows)]


def _sites(p: Parameters, treatments: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return metadata of every site of the HUVEC experiments, with its indices into screen and truth."""
    tables = []
    for e in range(p.experiments):
        dataset = "test" if e >= p.experiments - p.experiments // 3 else "train"
        rng = np.random.default_rng([seed, 1, e])
        for k, (rows, wells) in enumerate(_layout(p, rng)):
            table = _plate(f"HUVEC-{e + 1:02d}", k + 1, dataset, treatments, rows, wells, p.sites)
            tables.append(table.assign(batch_index=e, plate_index=k))
    return pd.concat(tables, ignore_index=True)


def _plate(
    experiment: str,
    plate: int,
    dataset: str,
    treatments: pd.DataFrame,
    rows: np.ndarray,
    wells: np.ndarray,
    sites: int,
) -> pd.DataFrame:
    order = np.argsort(wells)
    rows, wells = np.repeat(rows[order], sites), np.repeat(wells[order], sites)
    table = treatments[["well_type", "sirna", "sirna_id"]].iloc[rows].reset_index(drop=True)
    table["well"] = np.array(_WELLS, dtype=object)[wells]
    table["site"] = np.tile(np.arange(1, sites + 1), len(order))
    table["well_id"] = f"{experiment}_{plate}_" + table["well"]
    table["site_id"] = table["well_id"] + "_" + table["site"].astype(str)
    cell_type = experiment.rsplit("-", 1)[0]
    table = table.assign(experiment=experiment, plate=plate, dataset=dataset, cell_type=cell_type)
    return table.assign(row_index=rows, well_index=wells)


def _pictures(p: Parameters, sites: pd.DataFrame, truth: Truth, seed: int) -> Iterator[list[tuple[str, bytes]]]:
    """Yield the members of each site, one a channel."""
    laboratory = Laboratory(
        seed, len(CHANNELS), p.batch_strength, p.plate_strength, p.well_strength, p.noise, p.instrument_strength
    )
    line = replace(CELL_LINES["HUVEC"], density=p.cells)
    for site in sites.itertuples(index=False):
        place = (site.batch_index, site.plate_index, site.well_index)
        image, _ = draw_field(
            # Depends on the place only: with strength 0 nothing of the treatment is left in the picture.
            np.random.default_rng([seed, 3, *place, site.site]),
            truth.effects[site.row_index],
            laboratory.nuisance(*place),
            (p.size, p.size),
            CHANNELS,
            pixel_um=p.pixel_um,
            line=line,
        )
        names = {"experiment": site.experiment, "plate": site.plate, "well": site.well, "site": site.site}
        pixels = np.rint(image * 255).astype(np.uint8)
        yield [(MEMBER.format(**names, channel=i + 1), png_bytes(plane)) for i, plane in enumerate(pixels)]


def _other_cell_types(p: Parameters, treatments: pd.DataFrame, seed: int) -> Iterator[pd.DataFrame]:
    for i, experiment in enumerate(_OTHERS):
        rng = np.random.default_rng([seed, 4, i])
        rows, wells = next(_layout(p, rng))
        yield _plate(experiment, 1, "train", treatments, rows, wells, p.sites)
