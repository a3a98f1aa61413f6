import re

import pytest

from morphobench.datasets.jump_features import chosen_features
from morphobench.fetch import fetch_dataset
from morphobench.preprocessing.steps import build_steps

from .conftest import load_spec

DATASETS = ["bbbc021", "funk22_published", "cpg0016"]


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_file_is_pinned_by_commit_and_checksum(root, dataset):
    for entry in load_spec(root, dataset)["files"]:
        assert re.search(r"/[0-9a-f]{40}/", entry["url"])
        assert entry["licence"]
        if entry["sha256"] is None:
            assert entry["unverified"]
            assert re.fullmatch("[0-9a-f]{40}", entry["git_sha1"])
        else:
            assert entry["size"] > 0


@pytest.mark.parametrize("dataset", DATASETS)
def test_preprocessing_steps_exist(root, dataset):
    spec = load_spec(root, dataset)
    assert len(build_steps(spec["preprocessing"])) == len(spec["preprocessing"])


@pytest.mark.mirror
@pytest.mark.parametrize("dataset", ["bbbc021", "funk22_published"])
def test_the_mirror_holds_the_pinned_files(root, mirror, tmp_path, dataset):
    records = fetch_dataset(load_spec(root, dataset), tmp_path, mirror)
    assert {r["status"] for r in records} == {"mirrored"}


@pytest.mark.mirror
def test_the_mirrored_jump_tables_are_the_pinned_ones(root, mirror, tmp_path):
    spec = load_spec(root, "cpg0016")
    here = [e for e in spec["files"] if e["name"] in ("plate", "perturbation_control", "microscope_config")]
    assert len(fetch_dataset({**spec, "files": here, "plates": None}, tmp_path, mirror)) == 3


def test_choice_of_features_is_by_dye_and_compartment(root):
    choice = load_spec(root, "cpg0016")["reader_options"]["features"]
    names = [
        "Cells_Texture_Contrast_DNA_3_00_256",
        "Nuclei_Correlation_K_ER_Mito",
        "Cells_AreaShape_Area",
        "Image_Intensity_MeanIntensity_DNA",
        "Cells_Intensity_MeanIntensity_BFHighZ",
        "Nuclei_Location_Center_X",
    ]
    assert chosen_features(names, choice) == names[:2]
    assert chosen_features(names, None) == sorted(names)
