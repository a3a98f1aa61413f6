"""A simulated BBBC021: small well profiles, image and mechanism tables in the layout of the published files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.errors import SpecError
from morphobench.simulate.phenotypes import effects, loadings, robustise
from morphobench.simulate.raw import RawFolder, csv_bytes, parse

BASE = "https://raw.githubusercontent.com/broadinstitute/BBBC021_Morpheus_Exercise/a7f514772bbe6ee5aae6c02d96551c19ae5b28e6"
PROFILES = f"{BASE}/csvs/BBBC021_feature_selected_mad_robustize.csv"
IMAGES = f"{BASE}/input_data/BBBC021_v1_image.csv"
MOA = f"{BASE}/input_data/BBBC021_v1_moa.csv"
MECHANISMS = (
    "Actin disruptors",
    "Aurora kinase inhibitors",
    "Cholesterol-lowering",
    "DNA damage",
    "DNA replication",
    "Eg5 inhibitors",
    "Epithelial",
    "Kinase inhibitors",
    "Microtubule destabilizers",
    "Microtubule stabilizers",
    "Protein degradation",
    "Protein synthesis",
)
REPLICATES = 3
FIELDS = 4
_CHANNELS = ("DAPI", "Tubulin", "Actin")
_PHENOTYPES, _NOISE_DIMENSIONS, _SPREAD = 10, 6, 0.5
_ROWS, _COLUMNS = "BCDEFG", range(2, 12)


@dataclass(frozen=True)
class Parameters:
    """What can be set; strengths are in units of the well noise.

    Attributes
    ----------
    weeks, compounds_per_mechanism, doses, weeks_per_compound, controls_per_plate, features
        The screen's shape. Real compounds were each screened in one week; here they may be in several.
    unannotated
        Compounds of unknown mechanism, imaged but without profiles.
    treatment_effect, batch_effect, plate_effect, noise
        Strengths; at treatment_effect 0 nothing tells treatments from DMSO.
    """

    weeks: int = 4
    compounds_per_mechanism: int = 3
    doses: int = 2
    weeks_per_compound: int = 2
    controls_per_plate: int = 6
    features: int = 120
    unannotated: int = 2
    treatment_effect: float = 1.2
    batch_effect: float = 0.35
    plate_effect: float = 0.2
    noise: float = 1.0


def simulate(parameters: Mapping[str, Any], out_root: str | Path, seed: int) -> list[dict[str, Any]]:
    """Write a simulated BBBC021 as a mirror: ``<out_root>/<host>/<path>``, ``manifest.tsv`` and ``truth.tsv``.

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
    rng = np.random.default_rng([seed, 0])
    treatments = _treatments(p, rng)
    names, stems = _feature_names(p.features)
    direction = effects(rng, treatments["group"].to_numpy(), treatments["potency"].to_numpy(), _PHENOTYPES)
    phenotypes = loadings(rng, stems, _PHENOTYPES, _SPREAD)
    noise = loadings(rng, stems, _NOISE_DIMENSIONS, _SPREAD)
    profiles, images = [], []
    for week in range(p.weeks):
        of_week = _nuisance(np.random.default_rng([seed, 1, week]), p.batch_effect, stems)
        here = np.flatnonzero(_in_week(treatments, week, p))
        for replicate in range(REPLICATES):
            rng = np.random.default_rng([seed, 2, week, replicate])
            of_plate = _nuisance(rng, p.plate_effect, stems)
            rows = np.concatenate([np.zeros(p.controls_per_plate, dtype=int), here])
            response = np.eye(_PHENOTYPES) + of_week["response"] + of_plate["response"]
            z = p.treatment_effect * direction[rows] @ response @ phenotypes
            z += 0.8 * p.noise * rng.standard_normal((len(rows), _NOISE_DIMENSIONS)) @ noise
            z += 0.6 * p.noise * rng.standard_normal((len(rows), len(names)))
            z += (rng.exponential(1.0, len(rows)) - 1.0)[:, None] * (of_week["density"] + of_plate["density"])
            wells = rng.permutation(len(_ROWS) * len(_COLUMNS))[: len(rows)]
            plate = f"Week{week + 1}_9{week:02d}{replicate + 1:02d}"
            table = _wells(treatments.iloc[rows], plate, wells)
            z = z * np.exp(of_week["log_scale"] + of_plate["log_scale"]) + of_week["shift"] + of_plate["shift"]
            annotated = (table["Metadata_moa"] != "").to_numpy()
            profiles.append(pd.concat([table, pd.DataFrame(z, columns=names)], axis=1)[annotated])
            images.append(_images(table, week, replicate, rng))
    out = RawFolder(out_root)
    table = pd.concat(profiles).sort_values(["Metadata_Plate", "Metadata_Well"])
    table[names] = robustise(table[names].to_numpy())
    out.write(PROFILES, csv_bytes(table))
    out.write(IMAGES, csv_bytes(_numbered(pd.concat(images))))
    out.write(MOA, _moa_bytes(treatments))
    return out.finish(treatments)


def _checked(parameters: Mapping[str, Any]) -> Parameters:
    p = parse(Parameters, parameters, "simulate")
    low = {"weeks": 1, "compounds_per_mechanism": 1, "doses": 1, "weeks_per_compound": 1, "controls_per_plate": 3}
    for key, least in {**low, "features": 10}.items():
        if getattr(p, key) < least:
            raise SpecError(f"simulate: parameter {key} is {getattr(p, key)}, expected {least} or more")
    if p.weeks_per_compound > p.weeks:
        raise SpecError(
            f"simulate: weeks_per_compound is {p.weeks_per_compound}, expected at most weeks = {p.weeks}"
        )
    compounds = len(MECHANISMS) * p.compounds_per_mechanism + p.unannotated
    most = -(-compounds // p.weeks) * p.weeks_per_compound * p.doses + p.controls_per_plate
    if most > len(_ROWS) * len(_COLUMNS):
        raise SpecError(
            f"simulate: a plate would need {most} wells, expected at most {len(_ROWS) * len(_COLUMNS)}"
        )
    return p


def _treatments(p: Parameters, rng: np.random.Generator) -> pd.DataFrame:
    """Return DMSO and every compound at every dose, with mechanism, potency and first week."""
    rows = [("DMSO", 0.0, "DMSO", 0, 0.0, 0)]
    annotated = len(MECHANISMS) * p.compounds_per_mechanism
    for i in range(annotated + p.unannotated):
        moa = MECHANISMS[i % len(MECHANISMS)] if i < annotated else ""
        # A compound of unknown mechanism has a direction of its own; group 0 is DMSO's.
        group = 1 + i % len(MECHANISMS) if moa else 1 + len(MECHANISMS) + i
        potency = rng.uniform(0.8, 1.6)
        # Dealt out so that each week has compounds of most mechanisms, and no mechanism is of one week.
        first = (i + i // len(MECHANISMS)) % p.weeks
        for dose in range(p.doses):
            strength = potency * 0.8 ** (p.doses - 1 - dose)
            rows.append((f"sim-compound-{i + 1:02d}", 0.3 * 10.0**dose, moa, group, round(strength, 6), first))
    columns = ["compound", "concentration", "moa", "group", "potency", "first_week"]
    return pd.DataFrame(rows, columns=columns)


def _in_week(treatments: pd.DataFrame, week: int, p: Parameters) -> np.ndarray:
    later = (week - treatments["first_week"].to_numpy()) % p.weeks
    return (later < p.weeks_per_compound) & (treatments["compound"] != "DMSO").to_numpy()


def _feature_names(count: int) -> tuple[list[str], np.ndarray]:
    """Return names in the header's style and the family each belongs to; the real file has them sorted too."""
    names: list[tuple[str, str]] = []
    for part in ("Cells", "Cytoplasm", "Nuclei"):
        shapes = [f"Zernike_{n}_{m}" for n in range(10) for m in range(n % 2, n + 1, 2)]
        names += [(f"{part}_AreaShape_{shape}", f"{part}_AreaShape_{i // 3}") for i, shape in enumerate(shapes)]
        for stain in ("CorrActin", "CorrDAPI", "CorrTub"):
            for measure in (
                "AngularSecondMoment",
                "Correlation",
                "Entropy",
                "InfoMeas1",
                "InfoMeas2",
                "SumAverage",
            ):
                family = f"{part}_Texture_{measure}_{stain}"
                names += [(f"{family}_{scale}_0", family) for scale in (10, 3)]
            family = f"{part}_Intensity_{stain}"
            names += [
                (f"{part}_Intensity_{m}_{stain}", family) for m in ("IntegratedIntensity", "MassDisplacement")
            ]
    if count > len(names):
        raise SpecError(f"simulate: parameter features is {count}, expected 10 to {len(names)}")
    step = len(names) / count
    chosen = sorted(names[int(i * step)] for i in range(count))
    return [name for name, _ in chosen], pd.factorize(pd.Series([family for _, family in chosen]))[0]


def _nuisance(rng: np.random.Generator, strength: float, stems: np.ndarray) -> dict[str, np.ndarray]:
    # The published file is scaled over all wells at once, so shifts and scales between weeks are still in it.
    size = len(stems)
    return {
        "shift": strength * (loadings(rng, stems, 1, _SPREAD)[0] + 0.5 * rng.standard_normal(size)),
        "log_scale": 0.2 * strength * rng.standard_normal(size),
        "density": 0.5 * strength * loadings(rng, stems, 1, _SPREAD)[0],
        "response": 0.3 * strength * rng.standard_normal((_PHENOTYPES, _PHENOTYPES)) / np.sqrt(_PHENOTYPES),
    }


def _wells(treatments: pd.DataFrame, plate: str, wells: np.ndarray) -> pd.DataFrame:
    rows, columns = np.divmod(wells, len(_COLUMNS))
    return pd.DataFrame(
        {
            "Metadata_Plate": plate,
            "Metadata_Well": [f"{_ROWS[r]}{_COLUMNS[c]:02d}" for r, c in zip(rows, columns, strict=True)],
            "Metadata_Compound": treatments["compound"].to_numpy(),
            "Metadata_Concentration": treatments["concentration"].to_numpy(),
            "Metadata_moa": treatments["moa"].to_numpy(),
        }
    )


def _images(wells: pd.DataFrame, week: int, replicate: int, rng: np.random.Generator) -> pd.DataFrame:
    wells = wells.loc[wells.index.repeat(FIELDS)].reset_index(drop=True)
    sites = np.arange(len(wells)) % FIELDS + 1
    table: dict[str, Any] = {"TableNumber": week + 1, "ImageNumber": 0}
    plate = wells["Metadata_Plate"]
    for stain, channel in zip(_CHANNELS, (1, 2, 4), strict=True):
        tags = [rng.bytes(8).hex().upper() for _ in sites]
        table[f"Image_FileName_{stain}"] = [
            f"{well}_s{site}_w{channel}SIM-{tag}.tif"
            for well, site, tag in zip(wells["Metadata_Well"], sites, tags, strict=True)
        ]
        table[f"Image_PathName_{stain}"] = f"Week{week + 1}/" + plate
    table |= {
        "Image_Metadata_Plate_DAPI": plate,
        "Image_Metadata_Well_DAPI": wells["Metadata_Well"],
        "Replicate": replicate + 1,
        "Image_Metadata_Compound": wells["Metadata_Compound"],
        "Image_Metadata_Concentration": wells["Metadata_Concentration"],
    }
    return pd.DataFrame(table)


def _numbered(images: pd.DataFrame) -> pd.DataFrame:
    return images.assign(ImageNumber=np.arange(1, len(images) + 1))


def _moa_bytes(treatments: pd.DataFrame) -> bytes:
    # The published table quotes text and writes six decimals, unlike the image table.
    known = treatments[treatments["moa"] != ""]
    lines = ['"compound",concentration,"moa"']
    lines += [f'"{r.compound}",{r.concentration:.6f},"{r.moa}"' for r in known.itertuples(index=False)]
    return ("\n".join(lines) + "\n").encode()
