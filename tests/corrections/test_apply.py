import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from morphobench.corrections.apply import correct
from morphobench.errors import DataError, SpecError
from morphobench.profiles import Profiles, check_profiles, read_profiles, write_profiles

from .conftest import correction_specs, make_covariates, make_features

SPECS = {spec["id"]: spec for spec in correction_specs()}


def make_profiles() -> Profiles:
    covariates = make_covariates()
    metadata = pd.DataFrame(
        {f"Metadata_{k.title()}": getattr(covariates, k) for k in ("batch", "plate", "well", "control", "split")}
    )
    metadata["Metadata_Perturbation"] = np.where(covariates.negcon, "DMSO", "compound@1")
    names = tuple(f"Cells_{i}" for i in range(8))
    return Profiles(metadata, make_features(covariates), names, {"dataset": "toy"})


@pytest.mark.parametrize("name", sorted(SPECS))
def test_corrected_profiles_are_sound(name, tmp_path):
    profiles = make_profiles()
    result = correct(profiles, SPECS[name], seed=2)
    check_profiles(result, name)
    pd.testing.assert_frame_equal(result.metadata, profiles.metadata)
    assert result.provenance["dataset"] == "toy"
    assert result.provenance["correction"] == name
    assert result.provenance["correction_seed"] == 2
    json.dumps(result.provenance, allow_nan=False)
    write_profiles(result, tmp_path / "out.parquet")
    assert read_profiles(tmp_path / "out.parquet").provenance == result.provenance


@pytest.mark.parametrize(("name", "first"), [("znorm", "Cells_0"), ("harmony", "harmony_000"), ("tvn", "tvn_000")])
def test_columns_are_named_for_what_they_are(name, first):
    assert correct(make_profiles(), SPECS[name]).names[0] == first


def test_missing_value_is_named_by_feature():
    profiles = make_profiles()
    profiles.features[4, 2] = np.nan
    with pytest.raises(DataError, match="feature Cells_2 is nan in row 4"):
        correct(profiles, SPECS["znorm"])


def test_missing_column():
    profiles = make_profiles()
    without = dataclasses.replace(profiles, metadata=profiles.metadata.drop(columns="Metadata_Batch"))
    with pytest.raises(DataError, match="Metadata_Batch"):
        correct(without, SPECS["znorm"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "morphobench.corrections.nowhere:X"}, "cannot be imported"),
        ({"class": "morphobench.corrections.simple:Nothing"}, "cannot be imported"),
        ({"class": "morphobench.profiles:Profiles"}, "is not a Correction"),
        ({"parameters": {"kay": {"value": 1}}}, "parameters do not fit"),
    ],
)
def test_bad_spec(change, message):
    with pytest.raises(SpecError, match=message):
        correct(make_profiles(), {**SPECS["combat"], **change})
