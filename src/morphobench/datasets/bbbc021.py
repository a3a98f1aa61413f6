"""BBBC021: the published CellProfiler well profiles of Caie et al. 2010, joined with the image table.

Batch is the week, replicate 3 is the test split. Its makers selected the features and scaled each by median and
MAD over all wells at once, not by plate: differences between plates and weeks are still in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from morphobench.datasets.collection import (
    PlateCollection,
    PlateSource,
    excluded_table,
    need_file,
    read_table,
    refuse_duplicates,
    refuse_unknown_options,
)
from morphobench.errors import DataError
from morphobench.profiles import PREFIX, Profiles

PLATE, WELL = "Image_Metadata_Plate_DAPI", "Image_Metadata_Well_DAPI"
_PROFILE_COLUMNS = (
    "Metadata_Plate",
    "Metadata_Well",
    "Metadata_Compound",
    "Metadata_Concentration",
    "Metadata_moa",
)
_IMAGE_COLUMNS = (PLATE, WELL, "Replicate", "Image_Metadata_Compound", "Image_Metadata_Concentration")


def read(files: Mapping[str, Path], plates_root: Path | None, options: Mapping[str, Any]) -> PlateCollection:
    """Read BBBC021 from ``profiles``, ``images`` and ``moa``.

    Parameters
    ----------
    files
        ``profiles`` (well profiles), ``images`` (BBBC021_v1_image.csv), ``moa`` (BBBC021_v1_moa.csv).
    plates_root
        Not used: the wells of all plates are in one file.
    options
        ``test_replicates``: list of replicate numbers of the test split, [3] unless told.

    Returns
    -------
    PlateCollection
        Perturbation is ``compound@dose`` or ``DMSO``; MoA is None for DMSO. Wells of the image table without a
        profile are counted in ``excluded``, by reason.

    Raises
    ------
    DataError
        If a file is not as expected, a well occurs twice, a well has no images, or the tables disagree about a
        compound, a concentration or a mechanism.
    """
    refuse_unknown_options(options, ("test_replicates",))
    paths = {name: need_file(files, name) for name in ("profiles", "images", "moa")}
    profiles = read_table(paths["profiles"], _PROFILE_COLUMNS)
    refuse_duplicates(paths["profiles"], profiles, ["Metadata_Plate", "Metadata_Well"], "well")
    images = _wells_of_images(paths["images"])
    wells = profiles[list(_PROFILE_COLUMNS)].merge(
        images, how="left", left_on=["Metadata_Plate", "Metadata_Well"], right_on=[PLATE, WELL]
    )
    _check_images(paths, wells)
    _check_moa(paths, wells)
    metadata = _metadata(wells, set(options.get("test_replicates", [3])))
    names = tuple(sorted(c for c in profiles.columns if not c.startswith(PREFIX)))
    features = _features(paths["profiles"], profiles, names)
    sources = tuple(
        PlateSource(plate, plate.split("_")[0], _reader(metadata, features, names, plate))
        for plate in sorted(metadata["Metadata_Plate"].unique())
    )
    return PlateCollection(sources, names, excluded=_left_out(images, wells, paths["moa"]))


def _reader(metadata, features, names, plate):
    def read_plate() -> Profiles:
        rows = np.flatnonzero((metadata["Metadata_Plate"] == plate).to_numpy())
        return Profiles(metadata.iloc[rows].reset_index(drop=True), features[rows], names)

    return read_plate


def _features(path: Path, profiles: pd.DataFrame, names: tuple[str, ...]) -> np.ndarray:
    if not names:
        raise DataError(f"{path}: no feature columns; expected numeric columns beside {PREFIX}*")
    for name in names:
        if not pd.api.types.is_numeric_dtype(profiles[name]):
            raise DataError(f"{path}: feature {name} has values that are no numbers")
    return np.ascontiguousarray(profiles[list(names)].to_numpy(dtype=np.float32))


def _wells_of_images(path: Path) -> pd.DataFrame:
    images = read_table(path, _IMAGE_COLUMNS, usecols=lambda c: c in _IMAGE_COLUMNS)
    wells = images.drop_duplicates().reset_index(drop=True)
    # One row a field: after dropping repeats, two rows for a well mean that its fields contradict each other.
    refuse_duplicates(path, wells, [PLATE, WELL], "contradicting metadata of well")
    if not pd.api.types.is_numeric_dtype(wells["Image_Metadata_Concentration"]):
        raise DataError(f"{path}: column Image_Metadata_Concentration has values that are no numbers")
    return wells


def _check_images(paths: Mapping[str, Path], wells: pd.DataFrame) -> None:
    for here, there in (
        ("Metadata_Plate", PLATE),
        ("Metadata_Compound", "Image_Metadata_Compound"),
        ("Metadata_Concentration", "Image_Metadata_Concentration"),
    ):
        if here == "Metadata_Concentration":
            bad = ~np.isclose(wells[here].astype(float), wells[there].astype(float), rtol=1e-6, atol=0)
        else:
            bad = (wells[here] != wells[there]).to_numpy()
        if bad.any():
            row = wells.iloc[int(bad.argmax())]
            well = f"well {row['Metadata_Well']} of plate {row['Metadata_Plate']}"
            if here == "Metadata_Plate":
                raise DataError(f"{paths['images']}: has no images of {well}, which {paths['profiles']} profiles")
            raise DataError(
                f"{paths['profiles']}: {here} of {well} is {row[here]!r}, "
                f"but {paths['images']} says {row[there]!r}"
            )


def _check_moa(paths: Mapping[str, Path], wells: pd.DataFrame) -> None:
    table = read_table(paths["moa"], ("compound", "concentration", "moa"))
    # Doses are spelt 0.300000 in one file and 0.3 in another: as numbers they are the same.
    known = {
        (c, float(d)): m for c, d, m in zip(table["compound"], table["concentration"], table["moa"], strict=True)
    }
    seen = wells[["Metadata_Compound", "Metadata_Concentration", "Metadata_moa"]].drop_duplicates()
    for compound, dose, moa in seen.itertuples(index=False):
        near = [
            m for (c, d), m in known.items() if c == compound and np.isclose(d, float(dose), rtol=1e-6, atol=0)
        ]
        if not near:
            raise DataError(
                f"{paths['moa']}: has no row for {compound} at {dose:g}, which {paths['profiles']} profiles"
            )
        if near[0] != moa:
            raise DataError(
                f"{paths['profiles']}: mechanism of {compound} at {dose:g} is {moa!r}, "
                f"but {paths['moa']} says {near[0]!r}"
            )


def _metadata(wells: pd.DataFrame, test_replicates: set[int]) -> pd.DataFrame:
    compound, dose = wells["Metadata_Compound"], wells["Metadata_Concentration"].astype(float)
    control = (compound == "DMSO").to_numpy()
    replicate = wells["Replicate"].astype(int)
    treatment = [f"{c}@{d:g}" for c, d in zip(compound, dose, strict=True)]
    return pd.DataFrame(
        {
            "Metadata_Batch": wells["Metadata_Plate"].str.split("_").str[0],
            "Metadata_Plate": wells["Metadata_Plate"],
            "Metadata_Well": wells["Metadata_Well"],
            "Metadata_Perturbation": np.where(control, "DMSO", treatment),
            "Metadata_Control": np.where(control, "negcon", "trt"),
            "Metadata_Split": np.where(replicate.isin(test_replicates), "test", "train"),
            "Metadata_Compound": compound,
            "Metadata_Concentration": dose,
            "Metadata_MoA": wells["Metadata_moa"].where(~control, None).astype(object),
            "Metadata_Replicate": replicate,
        }
    )


def _left_out(images: pd.DataFrame, wells: pd.DataFrame, moa: Path) -> pd.DataFrame:
    profiled = set(zip(wells["Metadata_Plate"], wells["Metadata_Well"], strict=True))
    treatments = read_table(moa, ("compound", "concentration"))
    annotated = set(zip(treatments["compound"], treatments["concentration"].astype(float).round(6), strict=True))
    rows = []
    for row in images.itertuples(index=False):
        plate, well = getattr(row, PLATE), getattr(row, WELL)
        if (plate, well) not in profiled:
            dose = round(float(row.Image_Metadata_Concentration), 6)
            known = (row.Image_Metadata_Compound, dose) in annotated
            reason = "imaged, mechanism known, no profile" if known else "imaged, mechanism unknown, no profile"
            rows.append(("well", f"{plate}/{well}", reason))
    return excluded_table(rows)
