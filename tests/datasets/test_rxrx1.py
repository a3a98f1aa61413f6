import zipfile

import numpy as np
import pandas as pd
import pytest

from morphobench.datasets.reading import local_path
from morphobench.datasets.rxrx1 import COLUMNS, list_files, read_unit
from morphobench.errors import DataError, SpecError
from morphobench.fetch.unit import fetch_unit
from morphobench.images.finish import finish_store
from morphobench.images.store import ImageStore
from morphobench.images.unit import Excluded, Sample, UnitFiles
from morphobench.images.write import write_unit
from morphobench.simulate import rxrx1 as simulated

from .conftest import load_spec
from .handmade import picture, png, unit_of

ARCHIVE = "https://storage.googleapis.com/rxrx/rxrx1/rxrx1-images.zip"
OPTIONS = {"archive": ARCHIVE, "size": 8, "raw_size": 16}
# experiment, plate, well, well_type, sirna, sirna_id
WELLS = [
    ("HUVEC-05", 1, "B02", "negative_control", "EMPTY", 1138),
    ("HUVEC-05", 1, "B03", "treatment", "s21721", 7),
    ("HUVEC-05", 2, "C07", "positive_control", "s15652", 1108),
    ("HUVEC-05", 2, "C08", "negative_control", "EMPTY", 1138),
    ("HUVEC-06", 1, "B02", "treatment", "s21721", 7),
]


def table():
    rows = [
        (f"{e}_{p}_{w}_{s}", f"{e}_{p}_{w}", "HUVEC", "train", e, p, w, s, t, n, i)
        for e, p, w, t, n, i in WELLS
        for s in (2, 1)
    ]
    columns = ["site_id", "well_id", "cell_type", "dataset", "experiment", "plate", "well", "site", "well_type"]
    return pd.DataFrame(rows, columns=[*columns, "sirna", "sirna_id"])


def write_table(folder, frame):
    path = folder / "rxrx1-metadata.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rxrx1/metadata.csv", frame.to_csv(index=False))
    return {"metadata": path}


@pytest.fixture
def files(tmp_path):
    return write_table(tmp_path, table())


def contents(files, unit="HUVEC-05", options=OPTIONS):
    (variant,) = list_files(unit, files, options)
    return {f.local: png(picture(i)) for i, f in enumerate(variant.files)}


def rows(tmp_path, files, images, unit="HUVEC-05", options=OPTIONS):
    read = list(read_unit(unit_of(tmp_path, unit, files, images, options, "zip")))
    return [r for r in read if isinstance(r, Sample)], [r for r in read if isinstance(r, Excluded)]


def test_lists_the_members_of_one_experiment_in_order(files):
    (variant,) = list_files("HUVEC-05", files, OPTIONS)
    assert len(variant.files) == 4 * 2 * 6
    assert {f.url for f in variant.files} == {ARCHIVE}
    assert variant.files[0].member == "rxrx1/images/HUVEC-05/Plate1/B02_s1_w1.png"
    assert variant.files[6].member == "rxrx1/images/HUVEC-05/Plate1/B02_s2_w1.png"
    assert variant.files[-1].local == "rxrx1/images/HUVEC-05/Plate2/C08_s2_w6.png"


@pytest.mark.parametrize(
    ("more", "count"),
    [({"sites": [1]}, 24), ({"plates": [2]}, 24), ({"wells": ["B02"]}, 12), ({"wells": None}, 48)],
)
def test_a_part_can_be_had(files, more, count):
    (variant,) = list_files("HUVEC-05", files, {**OPTIONS, **more})
    assert len(variant.files) == count


def test_samples_carry_pixels_and_metadata(tmp_path, files):
    images = contents(files)
    samples, excluded = rows(tmp_path, files, images)
    assert not excluded
    assert len(samples) == 8
    # 16 to 8 pixels: means of blocks of 2 x 2, rounded half up; six channels of the second site of the first well.
    blocks = np.stack([picture(i) for i in range(6, 12)]).reshape(6, 8, 2, 8, 2).astype(int).sum(axis=(2, 4))
    np.testing.assert_array_equal(samples[1].pixels, ((blocks + 2) // 4).astype(np.uint8))
    assert samples[1].metadata == {
        "Metadata_Batch": "HUVEC-05",
        "Metadata_Plate": "HUVEC-05_Plate1",
        "Metadata_Well": "B02",
        "Metadata_Site": "2",
        "Metadata_Perturbation": "EMPTY",
        "Metadata_Control": "negcon",
        "Metadata_Split": "train",
        "Metadata_CellLine": "HUVEC",
        "Metadata_Class": 1138,
        "Metadata_Domain": 4,
    }
    controls = [s.metadata["Metadata_Control"] for s in samples[::2]]
    assert controls == ["negcon", "trt", "poscon", "negcon"]


def test_bad_images_are_listed_and_the_rest_stays(tmp_path, files):
    images = contents(files)
    names = list(images)
    images[names[3]] = None
    images[names[14]] = images[names[14]][:-40]
    images[names[20]] = png(picture(1, dtype=np.uint16))
    images[names[27]] = png(np.full((16, 16), 9, np.uint8))
    images[names[33]] = png(picture(1, size=15))
    images["rxrx1/images/HUVEC-05/Plate1/D09_s1_w1.png"] = png(picture(2))
    samples, excluded = rows(tmp_path, files, images)
    assert len(samples) == 3
    assert [(e.what, e.id) for e in excluded] == [
        *(("image", names[i]) for i in (3, 14, 20, 27, 33)),
        ("image", "rxrx1/images/HUVEC-05/Plate1/D09_s1_w1.png"),
    ]
    words = [
        "missing (404)",
        "PNG is",
        "16-bit, expected 8-bit",
        "constant",
        "15 x 15, expected 16 x 16",
        "no row in",
    ]
    for row, word in zip(excluded, words, strict=True):
        assert word in row.reason
    assert "site 1 of well B02 of plate HUVEC-05_Plate1 is left out" in excluded[0].reason


def test_a_well_without_images_is_one_row(tmp_path, files):
    images = {n: None if "/B03_" in n else c for n, c in contents(files).items()}
    samples, excluded = rows(tmp_path, files, images)
    assert len(samples) == 6
    assert [(e.what, e.id) for e in excluded] == [("well", "HUVEC-05_Plate1/B03")]
    assert "none of its 12 images" in excluded[0].reason


def test_a_plate_without_controls_is_kept_and_listed(tmp_path, files):
    unit = unit_of(tmp_path, "HUVEC-06", files, contents(files, "HUVEC-06"), OPTIONS, "zip")
    write_unit(read_unit, unit, tmp_path / "store", channels=list("abcdef"))
    finish_store(tmp_path / "store", ["HUVEC-06"], list("abcdef"), None)
    excluded = pd.read_csv(tmp_path / "store" / "excluded.csv")
    assert excluded[["what", "id"]].values.tolist() == [["plate", "HUVEC-06_Plate1"]]


def _set(row, column, value):
    def change(frame):
        frame = frame.copy()
        frame.loc[row, column] = value
        return frame

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: pd.concat([t, t.iloc[[2]]]), "site HUVEC-05 / 1 / B03 / 2 occurs again in data row"),
        (_set(2, "sirna", "s9"), "contradicting row of well HUVEC-05 / 1 / B03"),
        (_set(2, "well_type", "control"), "well_type is 'control' in data row 3"),
        (_set(2, "well", "B3"), "well is 'B3' in data row 3"),
        (_set(2, "sirna", None), "column sirna is empty in data row 3"),
        *((lambda t, c=c: t.drop(columns=c), f"column {c} is missing") for c in COLUMNS),
    ],
)
def test_bad_metadata_are_one_sentence(tmp_path, change, words):
    files = write_table(tmp_path, change(table().astype(object)))
    with pytest.raises(DataError, match=words) as error:
        list_files("HUVEC-05", files, OPTIONS)
    assert "rxrx1-metadata.zip" in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_zips_and_options(tmp_path, files):
    with pytest.raises(DataError, match="no rows of experiment HUVEC-09"):
        list_files("HUVEC-09", files, OPTIONS)
    with pytest.raises(DataError, match="no site that images.options select"):
        list_files("HUVEC-05", files, {**OPTIONS, "wells": ["P24"]})
    with pytest.raises(SpecError, match="unknown key 'well'"):
        list_files("HUVEC-05", files, {**OPTIONS, "well": ["B02"]})
    with pytest.raises(SpecError, match="wells is 'B02', expected a list"):
        list_files("HUVEC-05", files, {**OPTIONS, "wells": "B02"})
    with pytest.raises(SpecError, match="size is 'big', expected a whole number"):
        list_files("HUVEC-05", files, {**OPTIONS, "size": "big"})
    with pytest.raises(SpecError, match="lacks key 'archive'"):
        list_files("HUVEC-05", files, {"size": 8})
    path = files["metadata"]
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="not readable"):
        list_files("HUVEC-05", files, OPTIONS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other.csv", "a\n1\n")
    with pytest.raises(DataError, match=r"has no member rxrx1/metadata\.csv"):
        list_files("HUVEC-05", files, OPTIONS)


@pytest.mark.parametrize("scale", ["demo", "tiny"])
def test_the_spec_names_the_units_that_are_simulated(root, scale):
    overlay = load_spec(root, "rxrx1_huvec")["scales"][scale]
    parameters = {k: v for k, v in overlay["simulate"].items() if k != "seed"}
    assert overlay["images"]["units"] == simulated.units(parameters)
    assert overlay["images"]["options"]["raw_size"] == simulated.Parameters(**parameters).size


def test_the_spec_has_the_24_experiments_and_six_folds(root):
    spec = load_spec(root, "rxrx1_huvec")
    assert spec["images"]["units"] == [f"HUVEC-{i:02d}" for i in range(1, 25)]
    assert spec["folds"] == {
        "kind": "rotate_groups",
        "by": "Metadata_Batch",
        "train": 16,
        "val": 4,
        "test": 4,
        "step": 4,
    }


def test_simulated_raw_files_become_a_store(root, tmp_path):
    spec = load_spec(root, "rxrx1_huvec")
    overlay = spec["scales"]["tiny"]
    images = {**spec["images"], **overlay["images"], "options": {**spec["images"]["options"]}}
    images["options"].update(overlay["images"]["options"])
    parameters = {k: v for k, v in overlay["simulate"].items() if k != "seed"}
    simulated.simulate(parameters, tmp_path / "raw", overlay["simulate"]["seed"])
    files = {e["name"]: local_path(e["url"], tmp_path / "raw") for e in spec["files"]}
    total = 0
    for unit in images["units"]:
        records = fetch_unit({**spec, "images": images}, unit, files, tmp_path / "got", tmp_path / "raw")
        unit_files = UnitFiles(unit, files, tuple(records), images["options"])
        total += len(list_files(unit, files, images["options"])[0].files)
        write_unit(read_unit, unit_files, tmp_path / "store", channels=images["channels"])
    finish_store(tmp_path / "store", images["units"], images["channels"], overlay["folds"])
    store = ImageStore(tmp_path / "store")
    p = simulated.Parameters(**parameters)
    with zipfile.ZipFile(local_path(ARCHIVE, tmp_path / "raw")) as archive:
        assert total == len([n for n in archive.namelist() if "/HUVEC-" in n]) + p.missing_members
    assert len(store) == total // 6 - p.missing_members
    assert store[0].shape == (6, 32, 32)
    assert set(store.samples["Metadata_Domain"]) == {0, 1, 2, 3}
    excluded = pd.read_csv(tmp_path / "store" / "excluded.csv")
    assert excluded["what"].tolist() == ["image"] * p.missing_members
