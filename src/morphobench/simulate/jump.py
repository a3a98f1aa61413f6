"""A simulated JUMP (cpg0016) screen: the consortium's tables and one parquet file a plate, at their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.errors import SpecError
from morphobench.simulate.cellprofiler_names import Feature, catalogue, choose_features
from morphobench.simulate.jump_model import COLUMNS, ROWS, Model, Parameters
from morphobench.simulate.raw import RawFolder, csv_bytes, gzip_bytes, parquet_bytes, parse

METADATA = "https://raw.githubusercontent.com/jump-cellpainting/datasets/016e865fa0691244e0860943e41c7d6a88ed2580/metadata"
FEATURES = (
    "https://raw.githubusercontent.com/broadinstitute/jump-profiling-recipe/"
    "d2512d978ca17aafead0e99de66386337e6312e4/inputs/metadata/cpg0016_mandatory_feature_columns.txt"
)
MOA = (
    "https://raw.githubusercontent.com/jump-cellpainting/JUMP-MOA/0cba3b04bc40ace55c1d8e2e6203036816b4d864/"
    "JUMP-MOA_compound_metadata.tsv"
)
PLATE = "https://cellpainting-gallery.s3.amazonaws.com/cpg0016-jump/{source}/workspace/profiles/{batch}/{plate}/{plate}.parquet"
DMSO = "JCP2022_033924"
UNTREATED = "JCP2022_999999"
POSITIVES = {
    "JCP2022_085227": "aloxistatin",
    "JCP2022_037716": "AMG900",
    "JCP2022_025848": "dexamethasone",
    "JCP2022_046054": "FK-866",
    "JCP2022_035095": "LY2109761",
    "JCP2022_064022": "NVS-PAK1-1",
    "JCP2022_050797": "quinidine",
    "JCP2022_012818": "TC-S-7004",
}
# Three with different microscopes first, so that a small screen has them.
_SOURCES = (2, 3, 8, 6, 10, 5, 7, 11, 1, 9, 13, 15)
_MICROSCOPES = {1: "Opera Phenix", 2: "CV8000", 3: "Opera Phenix", 5: "CV8000", 6: "CV8000", 7: "CV7000"}
_MICROSCOPES |= {8: "ImageXpress Micro Confocal", 9: "Opera Phenix", 10: "CV8000", 11: "Operetta", 13: "CV7000"}
_MICROSCOPES |= {15: "Opera Phenix"}
_CELLPROFILER = {2: "4.0.7", 3: "4.2.1", 7: "4.2.1", 13: "4.2.1"}
_MOA_COLUMNS = ["broad_sample", "InChIKey", "pert_iname", "pubchem_cid", "moa"]
_MOA_COLUMNS += ["pert_type", "control_type", "smiles", "InChI"]
# The positive controls that JUMP-MOA has too.
_CONTROL_MOAS = {"AMG900": "Aurora kinase inhibitor", "NVS-PAK1-1": "p21 activated kinase inhibitor"}
# A column that only some plates have, as where a laboratory also took brightfield planes.
_EXTRA = "Cells_Intensity_MeanIntensity_BFHighZ"


def simulate(parameters: Mapping[str, Any], out_root: str | Path, seed: int) -> list[dict[str, Any]]:
    """Write a simulated screen as a mirror: ``<out_root>/<host>/<path>``, ``manifest.tsv`` and ``truth.tsv``.

    Parameters
    ----------
    parameters
        Values of :class:`~morphobench.simulate.jump_model.Parameters` that differ from its defaults.
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
    out = RawFolder(out_root)
    features = choose_features(p.features)
    treatments = _treatments(p, seed)
    potency, mechanism = treatments["potency"].to_numpy(), treatments["mechanism"].to_numpy()
    model = Model(p, features, potency, mechanism, seed)
    plates, wells = [], []
    names = [feature.name for feature in features]
    for s, number in enumerate(_SOURCES[: p.sources]):
        source = f"source_{number}"
        of_source = model.nuisance(np.random.default_rng([seed, 2, s]), p.source_effect)
        for b in range(p.batches_per_source):
            batch = f"SimBatch{b + 1}_source{number}"
            of_batch = model.nuisance(np.random.default_rng([seed, 3, s, b]), p.batch_effect)
            for k in range(p.plates_per_batch):
                plate = f"SIM{number:02d}{b + 1:02d}{k + 1:03d}"
                rng = np.random.default_rng([seed, 4, s, b, k])
                of_plate = model.nuisance(rng, p.plate_effect)
                chosen, positions = _layout(p, treatments, rng)
                values = model.plate(rng, chosen, positions, [of_source, of_batch, of_plate])
                _punch_holes(values, p.missing, rng)
                frame = _plate_frame(values, names, treatments, chosen, positions, (source, plate), rng, k == 0)
                out.write(PLATE.format(source=source, batch=batch, plate=plate), parquet_bytes(frame))
                plates.append((source, batch, plate, "TARGET2"))
                wells.append(_plate_wells(source, plate, treatments, chosen, positions))
    _write_tables(out, p, plates, pd.concat(wells), treatments, features)
    return out.finish(treatments)


def _checked(parameters: Mapping[str, Any]) -> Parameters:
    p = parse(Parameters, parameters, "simulate")
    limits = {
        "sources": (1, len(_SOURCES)),
        "batches_per_source": (1, 99),
        "plates_per_batch": (1, 999),
        "wells": (24, ROWS * COLUMNS),
        "compounds": (1, 99_999),
        "mechanisms": (1, max(1, p.compounds)),
        "features": (20, len(catalogue())),
    }
    for key, (low, high) in limits.items():
        if not low <= getattr(p, key) <= high:
            raise SpecError(f"simulate: parameter {key} is {getattr(p, key)}, expected {low} to {high}")
    if p.missing > 1:
        raise SpecError(f"simulate: parameter missing is {p.missing}, expected 0 to 1 (a share of the features)")
    return p


def _treatments(p: Parameters, seed: int) -> pd.DataFrame:
    """Return DMSO, the positive controls and the compounds with potency, mechanism and invented identifiers."""
    rng = np.random.default_rng([seed, 0])
    ids = [DMSO, *POSITIVES, *(f"JCP2022_{700001 + i}" for i in range(p.compounds))]
    kinds = ["negcon", *["poscon"] * len(POSITIVES), *["trt"] * p.compounds]
    # Positive controls have mechanisms of their own and act strongly; the compounds share p.mechanisms.
    own = p.mechanisms + np.arange(1 + len(POSITIVES))
    mechanism = np.concatenate([own, np.arange(p.compounds) % p.mechanisms])
    potency = np.concatenate([[0.0], np.full(len(POSITIVES), 1.5), rng.uniform(0.5, 1.5, p.compounds)])
    keys = ["IAZDPXIOMUYVGZ-UHFFFAOYSA-N", *(_inchikey(i) for i in range(len(ids) - 1))]
    return pd.DataFrame(
        {"jcp2022": ids, "perturbation": keys, "kind": kinds, "mechanism": mechanism, "potency": potency.round(6)}
    )


def _inchikey(number: int) -> str:
    """Return an invented InChIKey that nobody takes for a real one."""
    letters = ""
    for _ in range(5):
        number, digit = divmod(number, 26)
        letters = chr(ord("A") + digit) + letters
    return f"SIMULATED{letters}-UHFFFAOYSA-N"


def _layout(p: Parameters, treatments: pd.DataFrame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return treatment and position of each well; places are drawn anew for each plate and so tell nothing."""
    kinds = treatments["kind"].to_numpy()
    negatives = np.full(max(8, p.wells // 6), 0)
    positives = np.flatnonzero(kinds == "poscon")
    compounds = np.flatnonzero(kinds == "trt")
    left = p.wells - len(negatives) - len(positives)
    rounds = -(-left // len(compounds))
    filled = np.concatenate([rng.permutation(compounds) for _ in range(rounds)])[:left]
    chosen = np.concatenate([negatives, positives, filled])
    return chosen, rng.permutation(ROWS * COLUMNS)[: p.wells]


def _punch_holes(values: np.ndarray, share: float, rng: np.random.Generator) -> None:
    count = round(share * values.shape[1])
    for column in rng.permutation(values.shape[1])[:count]:
        values[rng.random(len(values)) < 0.05, column] = np.nan
    if count > 2:
        # Where no cell of a plate has a measurable correlation, the whole column is empty.
        values[:, rng.integers(values.shape[1])] = np.nan


def _well_name(position: int) -> str:
    return f"{chr(ord('A') + position // COLUMNS)}{position % COLUMNS + 1:02d}"


def _plate_frame(values, names, treatments, chosen, positions, place, rng, extra) -> pd.DataFrame:
    source, plate = place
    order = np.argsort(positions)
    frame = pd.DataFrame(values[order], columns=names)[[names[i] for i in rng.permutation(len(names))]]
    if extra:
        frame[_EXTRA] = rng.normal(1000, 50, len(frame))
    key = pd.DataFrame(
        {
            "Metadata_Source": source,
            "Metadata_Plate": plate,
            "Metadata_Well": [_well_name(int(i)) for i in positions[order]],
        }
    )
    return pd.concat([key, frame], axis=1)


def _plate_wells(source, plate, treatments, chosen, positions) -> pd.DataFrame:
    """Return the well table of one plate, with the gaps of real ones.

    One profiled well has no label, one is called untreated, one is not listed, and one is listed but not profiled.
    """
    ids = treatments["jcp2022"].to_numpy(dtype=object)[chosen]
    ids[-1], ids[-2] = None, UNTREATED
    unused = np.setdiff1d(np.arange(ROWS * COLUMNS), positions)[:1]
    listed = np.concatenate([np.delete(positions, -3), unused])
    ids = np.concatenate([np.delete(ids, -3), np.full(len(unused), DMSO, dtype=object)])
    order = np.argsort(listed)
    return pd.DataFrame(
        {
            "Metadata_Source": source,
            "Metadata_Plate": plate,
            "Metadata_Well": [_well_name(int(i)) for i in listed[order]],
            "Metadata_JCP2022": ids[order],
        }
    )


def _write_tables(out: RawFolder, p: Parameters, plates, wells, treatments: pd.DataFrame, features: list[Feature]):
    columns = ["Metadata_Source", "Metadata_Batch", "Metadata_Plate", "Metadata_PlateType"]
    out.write(f"{METADATA}/plate.csv.gz", gzip_bytes(csv_bytes(pd.DataFrame(plates, columns=columns))))
    out.write(f"{METADATA}/well.csv.gz", gzip_bytes(csv_bytes(wells)))
    compounds = pd.DataFrame(
        {
            "Metadata_JCP2022": treatments["jcp2022"],
            "Metadata_InChIKey": treatments["perturbation"],
            "Metadata_InChI": None,
            "Metadata_SMILES": None,
        }
    )
    out.write(f"{METADATA}/compound.csv.gz", gzip_bytes(csv_bytes(compounds)))
    controls = [(UNTREATED, "empty", "Empty", "any"), (DMSO, "negcon", "DMSO", "compound")]
    controls += [(jcp, "poscon", name, "compound") for jcp, name in POSITIVES.items()]
    columns = ["Metadata_JCP2022", "Metadata_pert_type", "Metadata_Name", "Metadata_modality"]
    out.write(f"{METADATA}/perturbation_control.csv", csv_bytes(pd.DataFrame(controls, columns=columns)))
    out.write(f"{METADATA}/microscope_config.csv", csv_bytes(_microscopes(p), newline="\r\n"))
    out.write(f"{METADATA}/cellprofiler_version.csv", csv_bytes(_versions(p), newline="\r\n"))
    out.write(MOA, csv_bytes(_annotations(p, treatments), sep="\t"))
    out.write(FEATURES, "".join(f"{feature.name}\n" for feature in features).encode())


def _microscopes(p: Parameters) -> pd.DataFrame:
    used = _SOURCES[: p.sources]
    return pd.DataFrame(
        {
            "Metadata_Source": [f"source_{n}" for n in used],
            "Metadata_Microscope_Name": [_MICROSCOPES[n] for n in used],
            "Metadata_Widefield_vs_Confocal": "Confocal",
            "Metadata_Excitation_Type": "Laser",
            "Metadata_Objective_NA": 1.0,
            "Metadata_N_Brightfield_Planes_Min": 0,
            "Metadata_N_Brightfield_Planes_Max": 3,
            "Metadata_Distance_Between_Z_Microns": None,
            "Metadata_Sites_Per_Well": 9,
            "Metadata_Filter_Configuration": "A",
            "Metadata_Pixel_Size_Microns": 0.65,
        }
    )


def _versions(p: Parameters) -> pd.DataFrame:
    sources = [f"source_{n}" for n in _SOURCES[: p.sources]]
    versions = [_CELLPROFILER.get(n, "4.1.3") for n in _SOURCES[: p.sources]]
    return pd.DataFrame({"Metadata_Source": sources, "Metadata_CellProfiler_Version": versions})


def _annotations(p: Parameters, treatments: pd.DataFrame) -> pd.DataFrame:
    """Return a table as JUMP-MOA's: two compounds of every mechanism, two controls, DMSO and one without a key."""
    kept = treatments[treatments["kind"] == "trt"].groupby("mechanism").head(2)
    rows = [(r.perturbation, r.jcp2022, f"simulated mechanism {r.mechanism + 1}") for r in kept.itertuples()]
    keys = treatments.set_index("jcp2022")["perturbation"]
    rows += [(keys[j], name, _CONTROL_MOAS[name]) for j, name in POSITIVES.items() if name in _CONTROL_MOAS]
    rows += [(keys[DMSO], "DMSO", "NA"), ("NA", "Compound1", "simulated mechanism 1")]
    table = pd.DataFrame(rows, columns=["InChIKey", "pert_iname", "moa"])
    control = table["pert_iname"] == "DMSO"
    return table.assign(
        broad_sample=[f"SIM-{i:05d}" for i in range(len(table))],
        pubchem_cid="NA",
        pert_type=np.where(control, "control", "trt"),
        control_type=np.where(control, "negcon", "NA"),
        smiles="NA",
        InChI="NA",
    )[_MOA_COLUMNS]
