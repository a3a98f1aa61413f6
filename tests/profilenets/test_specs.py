"""The specs of CellPainTR: what they say is what its recipe, its preprocessing and its splits understand."""

import numpy as np
import pandas as pd
import pytest

from morphobench.datasets.splits import split
from morphobench.profilenets.profile_method import build_recipe
from morphobench.profilenets.recipe import HELD_OUT, SHARED
from morphobench.profilenets.scaling import model_steps
from morphobench.specs import load_house
from morphobench.specs.lines import load_yaml

SCALES = ("tiny", "demo", "full")
FINAL = [
    "cellpaintr",
    "cellpaintr_coded",
    "cellpaintr_described",
    "cellpaintr_plates",
    "cellpaintr_wells",
    "cellpaintr_source",
]


@pytest.fixture(scope="module")
def houses(root):
    config = load_yaml(root / "config.yaml").value
    return {scale: load_house(root, {**config, "scale": scale}) for scale in SCALES}


def networks(house):
    return [m for m, spec in house.methods.items() if spec["input"] == "model_profiles"]


def values(house, method, dataset="cpg0016"):
    return {k: v["value"] for k, v in house.method_on(method, dataset)["parameters"].items()}


@pytest.mark.parametrize("scale", SCALES)
def test_every_network_can_be_built_on_each_of_its_data_sets(houses, scale):
    house = houses[scale]
    assert len(networks(house)) == 19
    for method in networks(house):
        for dataset in house.methods[method]["datasets"]:
            recipe = build_recipe(house.method_on(method, dataset), seed=3)
            assert (recipe.stage == 1) == (house.methods[method]["starts_from"] is None)
            assert recipe.seed == 3


@pytest.mark.parametrize("scale", SCALES)
def test_a_stage_shares_network_and_held_out_wells_with_the_one_before(houses, scale):
    house = houses[scale]
    for method in networks(house):
        for dataset in house.methods[method]["datasets"]:
            start = house.methods[method]["starts_from"]
            if start:
                own, before = values(house, method, dataset), values(house, start, dataset)
                assert {k: own[k] for k in SHARED + HELD_OUT} == {k: before[k] for k in SHARED + HELD_OUT}, method


@pytest.mark.parametrize("method", FINAL)
def test_a_final_model_has_three_stages(houses, method):
    house, stages = houses["full"], []
    while method:
        stages.append(values(house, method)["stage"])
        method = house.methods[method]["starts_from"]
    assert stages in ([3, 2, 1], ["tokens", 3, 2, 1])


def test_stages_are_the_papers(houses):
    """Rates and batch sizes of section A, epochs of stage 1 and of the published checkpoints."""
    house = houses["full"]
    found = [values(house, method) for method in ("cellpaintr_1", "cellpaintr_2", "cellpaintr")]

    def column(key):
        return [value[key] for value in found]

    assert column("learning_rate") == [1e-4, 1e-5, 1e-5]
    assert column("batch_size") == [16, 32, 64]
    assert column("epochs") == [3, 8, 6]
    assert column("source_epochs") == [0, 1, 0]
    assert column("contrast") == [0.0, 1.0, 1.0]
    assert column("composition") == ["plate", "source", "mixed"]
    assert column("wells") == ["all", "curated", "curated"]
    for value in found:
        assert (value["width"], value["blocks"], value["order"]) == (256, 4, 2)
        assert (value["mask_low"], value["mask_high"], value["temperature"]) == (0.05, 0.4, 0.07)
        assert (value["grouped"], value["window"], value["split"]) == (True, "two_sided", "none")
    for method in ("cellpaintr_coded_1", "cellpaintr_coded_2", "cellpaintr_coded"):
        value = values(house, method)
        assert (value["grouped"], value["window"], value["order"]) == (False, "one_sided", 2)
    described = values(house, "cellpaintr_described")
    assert (described["adapter"], described["order"], described["reduction"]) == ("own", 3, "sum")


def test_the_models_profiles_are_prepared_as_the_network_expects(houses):
    assert houses["full"].datasets["cpg0016"]["preprocessing_model"] == model_steps()


def test_what_stands_beside_a_network_has_the_same_wells_for_testing(houses):
    rng = np.random.default_rng(0)
    plates = [f"plate{i}" for i in range(24)]
    rows = [(f"source_{int(p[5:]) % 4}", f"run{int(p[5:]) % 8}", p, f"A{w:02d}") for p in plates for w in range(9)]
    columns = ["Metadata_Source", "Metadata_Batch", "Metadata_Plate", "Metadata_Well"]
    metadata = pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=rng.integers(99), ignore_index=True)
    for scale in SCALES:
        house = houses[scale]
        for what in ("source", "wells"):
            recipe = build_recipe(house.method_on(f"cellpaintr_{what}", "cpg0016"), seed=0)
            network = split(metadata, **recipe._split(), source=recipe.source)
            assert {"train", "test"} == set(network)
            for method in ("cellprofiler", "random", "perfect"):
                beside = split(metadata, **house.methods[f"{method}_hidden_{what}"]["split"])
                assert (beside == network).all()
        assert values(house, "cellpaintr_plates")["split"] == "prepared"
        assert "split" not in house.methods["cellprofiler"]
