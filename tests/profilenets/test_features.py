import csv
import json

import numpy as np
import pytest

from morphobench.errors import DataError
from morphobench.profilenets.features import COMPARTMENTS, FeatureSpace, group_of
from morphobench.simulate.cellprofiler_names import catalogue

from .plates import names


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Cells_Texture_Contrast_DNA_3_00_256", "Cells DNA"),
        ("Nuclei_Correlation_RWC_Mito_AGP", "Nuclei Mito"),
        ("Cytoplasm_RadialDistribution_MeanFrac_ER_2of4", "Cytoplasm ER"),
        ("Cells_Texture_Entropy_CorrActin_10_0", "Cells Actin"),
        ("Nuclei_Intensity_IntegratedIntensity_CorrDAPI", "Nuclei DAPI"),
        ("Nuclei_Texture_Correlation_CorrTub_3_0", "Nuclei Tub"),
        ("Image_ImageQuality_FocusScore_OrigRNA", "Image RNA"),
        ("Nuclei_AreaShape_Zernike_0_0", "Nuclei no dye"),
        ("Cells_Parent_Nuclei", "Cells no dye"),
        ("salient_07", "salient"),
        ("feature0012", "feature"),
        ("17", "17"),
    ],
)
def test_group_of_a_name(name, group):
    assert group_of(name) == group


def test_jump_has_fifteen_groups():
    dyes = ("DNA", "ER", "Mito", "RNA", "AGP")
    wanted = [
        f.name for f in catalogue() if f.name.split("_")[0] in COMPARTMENTS and set(f.name.split("_")) & set(dyes)
    ]
    space = FeatureSpace.from_names(wanted, dyes=dyes, compartments=COMPARTMENTS)
    assert set(space.group_names) == {f"{part} {dye}" for part in COMPARTMENTS for dye in dyes}
    for name, code in zip(space.names, space.groups, strict=True):
        part, dye = space.group_names[code].split()
        assert name.startswith(part)
        assert f"_{dye}" in name
    assert space.groups.dtype == np.int64


@pytest.mark.mirror
def test_real_names_of_bbbc021(mirror):
    path = next(mirror.rglob("BBBC021_feature_selected_mad_robustize.csv"))
    with path.open(encoding="utf-8") as stream:
        header = [name for name in next(csv.reader(stream)) if not name.startswith("Metadata_")]
    space = FeatureSpace.from_names(header)
    assert len(space) == 189
    stains = {f"{part} {stain}" for part in COMPARTMENTS for stain in ("Actin", "Tub", "no dye")} | {"Nuclei DAPI"}
    assert set(space.group_names) == stains
    dye = np.array([not space.group_names[code].endswith("no dye") for code in space.groups])
    np.testing.assert_array_equal(dye, ["_Corr" in name for name in header])


def test_features_are_found_by_name_and_absent_ones_are_known():
    space = FeatureSpace.from_names(names(15))
    other = [*reversed(space.names[2:]), "Cells_Texture_New_DNA"]
    values = np.random.default_rng(0).normal(size=(4, len(other))).astype(np.float32)
    with pytest.raises(
        DataError, match="^toy: 1 of 14 features are unknown to the model, the first is Cells_Texture"
    ):
        space.align(other, "toy")
    found = space.align(other, "toy", unknown="leave_out")
    assert found.absent == space.names[:2]
    assert found.unknown == ("Cells_Texture_New_DNA",)
    np.testing.assert_array_equal(found.present, [False] * 2 + [True] * 13)
    taken = found.take(values)
    assert taken.dtype == np.float32
    assert (taken[:, :2] == 0).all()
    for place, name in list(enumerate(space.names))[2:]:
        np.testing.assert_array_equal(taken[:, place], values[:, other.index(name)])
    same = values[:, :1].repeat(15, axis=1)
    np.testing.assert_array_equal(space.align(space.names, "toy").take(same), same)


def test_a_space_survives_json():
    space = FeatureSpace.from_names(names(20))
    again = FeatureSpace.from_facts(json.loads(json.dumps(space.facts())))
    assert (again.names, again.group_names) == (space.names, space.group_names)
    np.testing.assert_array_equal(again.groups, space.groups)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "a feature space needs at least one feature name; found none"),
        (["a_1", "b_1", "a_1"], "feature a_1 occurs twice; a feature space has each name once"),
        (["Cells_AreaShape_Area"], r"feature Cells_AreaShape_Area does not name a compartment \(.*\) and a dye"),
        (["Image_Intensity_Mean_DNA"], "feature Image_Intensity_Mean_DNA does not name a compartment"),
        (["Cells_Intensity_Mean_GFP"], "feature Cells_Intensity_Mean_GFP does not name a compartment"),
    ],
)
def test_bad_names(wrong, message):
    with pytest.raises(DataError, match=f"^{message}"):
        FeatureSpace.from_names(wrong, compartments=COMPARTMENTS)


def test_nothing_in_common():
    space = FeatureSpace.from_names(names(5))
    with pytest.raises(
        DataError, match=r"^toy: none of its 2 features \(such as a\) is among the 5 that the model"
    ):
        space.align(["a", "b"], "toy", unknown="leave_out")


def test_a_table_with_a_feature_twice_is_refused():
    space = FeatureSpace.from_names(["Cells_DNA_a", "Cells_DNA_b"])
    with pytest.raises(DataError, match="^file.parquet: feature Cells_DNA_b occurs twice; expected each once"):
        space.align(["Cells_DNA_b", "Cells_DNA_a", "Cells_DNA_b"], "file.parquet")
