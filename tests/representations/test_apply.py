import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from morphobench.datasets.splits import split
from morphobench.errors import DataError, NotApplicable, SpecError
from morphobench.profiles import check_profiles
from morphobench.representations.apply import represent

FOLDER = Path(__file__).resolve().parents[2] / "specs" / "methods"
ALL = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
ALL = {
    name: spec
    for name, spec in ALL.items()
    if spec.get("input", "profiles") == "profiles" and "extends" not in spec
}
SPECS = {name: spec for name, spec in ALL.items() if spec["kind"] in ("representation", "control")}
SPECS = {name: spec for name, spec in SPECS.items() if spec["class"].startswith("morphobench.representations")}


@pytest.mark.parametrize("name", sorted(ALL))
def test_spec_says_what_it_must(name):
    spec = ALL[name]
    assert spec["id"] == name
    assert spec["kind"] in ("representation", "correction", "control")
    needed = {"label", "summary", "class", "parameters", "deterministic", "reference", "resources", "datasets"}
    assert needed <= set(spec)
    for parameter in spec["parameters"].values():
        assert set(parameter) == {"value", "source", "note"}
        assert parameter["source"] in ("paper", "code", "guess", "library")


@pytest.mark.parametrize("name", sorted(SPECS))
def test_represented_profiles_are_sound(name, profiles):
    spec = SPECS[name]
    dataset = "toy" if spec["datasets"] == "all" else spec["datasets"][0]
    profiles = dataclasses.replace(profiles, provenance={"dataset": dataset})
    before = profiles.features.copy()
    result = represent(profiles, None, spec, seed=5)
    check_profiles(result, name)
    pd.testing.assert_frame_equal(result.metadata, profiles.metadata)
    np.testing.assert_array_equal(profiles.features, before)
    assert result.provenance["method"] == name
    assert result.provenance["seed"] == 5
    assert result.provenance["dataset"] == dataset
    json.dumps(result.provenance, allow_nan=False)
    again = represent(profiles, None, spec, seed=5)
    np.testing.assert_array_equal(again.features, result.features)
    other = represent(profiles, None, spec, seed=6)
    assert np.array_equal(other.features, result.features) == spec["deterministic"]


def test_other_data_set(profiles):
    with pytest.raises(NotApplicable, match="mcvae_all represents funk22_published only, not toy"):
        represent(profiles, None, SPECS["mcvae_all"])


def test_missing_value(profiles):
    profiles.features[3, 1] = np.nan
    with pytest.raises(DataError, match="feature salient_1 is nan in row 3"):
        represent(profiles, None, SPECS["shuffled"])


def test_correction_is_no_representation(profiles):
    with pytest.raises(SpecError, match="is not a Representation"):
        represent(profiles, None, ALL["combat"])


def test_wells_for_testing_are_chosen_as_the_spec_says(profiles):
    spec = {**SPECS["random"], "split": {"strategy": "random", "seed": 1, "fraction": 0.4}}
    metadata = profiles.metadata.assign(Metadata_Split="train")
    profiles = dataclasses.replace(profiles, metadata=metadata)
    result = represent(profiles, None, spec)
    expected = split(profiles.metadata, "random", 1, fraction=0.4)
    assert set(expected) == {"train", "test"}
    np.testing.assert_array_equal(result.column("Metadata_Split"), expected)
    assert result.provenance["split"] == spec["split"]
    assert (profiles.metadata["Metadata_Split"] == "train").all()
    np.testing.assert_array_equal(result.features, represent(profiles, None, SPECS["random"]).features)
    pd.testing.assert_frame_equal(
        result.metadata.drop(columns="Metadata_Split"), profiles.metadata.drop(columns="Metadata_Split")
    )
