import io
import shutil
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image, ImageFilter

from morphobench.datasets.incucyte import read_unit
from morphobench.datasets.incucyte_layout import ImageName, compiled, list_files, parse_name, read_map
from morphobench.errors import DataError, SpecError
from morphobench.fetch.dataset import fetch_dataset
from morphobench.fetch.manifest import read_manifest
from morphobench.fetch.unit import fetch_unit
from morphobench.images.folds import assign_folds
from morphobench.images.unit import Excluded, Sample, UnitFiles
from morphobench.profiles import COLUMNS
from morphobench.simulate.incucyte import DMSO_WELLS
from tests.incucyte_screen import at, options, read, small, spec, unit_files

PATTERN = compiled(spec()["images"]["options"]["pattern"])
PLATE = "batch_1/HT29_CL1_P1"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return small(tmp_path_factory.mktemp("incucyte"))


@pytest.fixture
def screen(simulated, tmp_path):
    return shutil.copytree(simulated, tmp_path / "screen")


def image_of(root, index=0):
    """An image of a DMSO well at the first hour."""
    return at(root, f"{PLATE}/HT29_CL1_P1_{DMSO_WELLS[index]}_1_2019y08m28d_20h23m.jpg")


def reasons(excluded, what):
    return {e.id: e.reason for e in excluded if e.what == what}


def test_samples_and_their_metadata_against_the_files(simulated):
    samples, excluded = read(simulated)
    metadata = pd.DataFrame([s.metadata for s in samples])
    for name, column in COLUMNS.items():
        assert not column.required or name in metadata
        if name in metadata and column.values:
            assert set(metadata[name]) <= set(column.values)
    assert not metadata.duplicated(["Metadata_Plate", "Metadata_Well", "Metadata_Site"]).any()
    assert set(metadata["Metadata_Batch"]) == {"batch_1"}
    assert set(metadata["Metadata_CellLine"]) == {"HT29", "M14"}
    # Two lines, three drugs, one well at the highest dose, the last two images, four tiles; as many of controls.
    assert metadata["Metadata_Control"].value_counts().to_dict() == {"trt": 48, "negcon": 48}
    for sample in samples:
        assert sample.pixels.shape == (1, 32, 32)
        assert sample.pixels.dtype == np.uint8
        row = sample.metadata
        site, day, hour, tile = row["Metadata_Site"].split("_")
        plate, well = row["Metadata_Plate"], row["Metadata_Well"]
        path = at(simulated, f"batch_1/{plate}/{plate}_{well}_{site}_{day}_{hour}.jpg")
        y, x = divmod(int(tile) - 1, 2)
        expected = np.asarray(Image.open(path))[32 * y : 32 * y + 32, 32 * x : 32 * x + 32]
        np.testing.assert_array_equal(sample.pixels[0], expected)
        table = pd.read_csv(at(simulated, f"metadata/{plate}.csv")).set_index("Well")
        assert row["Metadata_Perturbation"] == row["Metadata_Compound"] == table.loc[well, "Drug"]
        assert row["Metadata_Concentration"] == table.loc[well, "Final_conc_uM"]
        assert (row["Metadata_Control"] == "negcon") == (table.loc[well, "Drug"] in ("DMSO", "PBS"))
        if row["Metadata_Control"] == "trt":
            same = table[table["Drug"] == table.loc[well, "Drug"]]
            assert row["Metadata_Concentration"] == same["Final_conc_uM"].max()
            assert row["Metadata_Time"] in (24.0, 36.0)
    assert set(metadata["Metadata_Time"]) == {0.0, 12.0, 24.0, 36.0}
    thinned = "40 of 64 control tiles, so that both classes have 24"
    assert reasons(excluded, "tile") == {"batch_1/HT29": thinned, "batch_1/M14": thinned}


def test_every_image_is_a_sample_or_explained(simulated):
    samples, excluded = read(simulated, chosen=options(balance=False, tile=64))
    found = Counter(s.metadata["Metadata_Plate"] for s in samples)
    listed = pd.read_csv(at(simulated, "listing.tsv"), sep="\t")["path"]
    images = Counter(name.split("/")[1] for name in listed if name.endswith(".jpg"))
    for plate, count in images.items():
        explained = 0
        for row in excluded:
            if row.what == "well" and row.id.startswith(plate) and "images are not used" in row.reason:
                explained += int(row.reason.rpartition(": ")[2].split()[0])
            if row.what == "image" and row.id == plate:
                explained += int(row.reason.split()[0])
        assert found[plate] + explained == count
    wells = reasons(excluded, "well")
    assert sum("without images" in r for r in wells.values()) == 1
    assert sum("not in the plate map" in r for r in wells.values()) == 1
    assert sum("no drug in the plate map" in r for r in wells.values()) == 1
    assert list(reasons(excluded, "file")) == [f"{PLATE}/Thumbs.db"]


def test_every_third_image_of_controls_and_the_last_of_drugs(simulated):
    samples, _ = read(simulated, chosen=options(balance=False, last_times=1, control_every=3))
    hours = {"trt": set(), "negcon": set()}
    for sample in samples:
        hours[sample.metadata["Metadata_Control"]].add(sample.metadata["Metadata_Time"])
    assert hours == {"trt": {36.0}, "negcon": {0.0, 36.0}}


def test_balance_depends_on_seed_and_line_alone(simulated):
    def names(**changes):
        return [
            (s.metadata["Metadata_Plate"], s.metadata["Metadata_Well"], s.metadata["Metadata_Site"])
            for s in read(simulated, chosen=options(**changes))[0]
        ]

    assert names() == names()
    assert names() != names(seed=1)
    assert [n for n in names() if n[0].startswith("M14")] == names(lines=["M14"])


def test_a_users_folder_gives_the_same_samples(simulated):
    root = at(simulated, "listing.tsv").parent
    (root / PLATE / ".DS_Store").write_bytes(b"x")
    own, own_excluded = read(simulated, local_root=root)
    other, excluded = read(simulated)
    assert [s.metadata for s in own] == [s.metadata for s in other]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(own, other, strict=True))
    assert own_excluded == excluded
    (root / PLATE / ".DS_Store").unlink()


def test_without_folder_or_listing_one_sentence_says_what_to_do(tmp_path):
    with pytest.raises(SpecError, match=r"not public: set local: \{incucyte: FOLDER\} in config.yaml") as caught:
        list_files("batch_1", {}, options())
    for word in ("batch_{1..7}", "{WELL}", ".tif", "metadata/", "Final_conc_uM"):
        assert word in str(caught.value)
    with pytest.raises(DataError, match="has no files in batch_1/"):
        list_files("batch_1", {}, options(local_root=str(tmp_path)))


def test_lister_has_images_first_then_plate_maps(simulated):
    variants = list_files("batch_1", {"listing": at(simulated, "listing.tsv")}, options())
    names = [file.local for file in variants[0].files]
    assert names[0].endswith(".jpg")
    assert names[-2:] == ["metadata/HT29_CL1_P1.csv", "metadata/M14_CL2_P1.csv"]
    assert f"{PLATE}/Thumbs.db" in names
    assert all(file.size == at(simulated, file.local).stat().st_size for file in variants[0].files)
    only = list_files("batch_1", {"listing": at(simulated, "listing.tsv")}, options(lines=["M14"]))[0].files
    assert {f.local.split("/")[1] for f in only if f.local.endswith(".jpg")} == {"M14_CL2_P1"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("batch_2/MDAMB231_CL3_P2/MDAMB231_CL3_P2_A7_1_2019y09m27d_22h23m.jpg", None),
        ("batch_4/OVCAR4_CL3_P1/OVCAR4_CL3_P1_K19_1_2019y10m30d_13h46m.tif", None),
        ("batch_1/ACHN_CL3_P2/ACHN_CL3_P1_A7_1_2019y09m27d_22h23m.jpg", "lies in folder batch_1/ACHN_CL3_P2"),
        ("batch_1/ACHN_CL3_P1/ACHN_CL3_P1_A7_1_2019y13m27d_22h23m.jpg", "is no time"),
        ("batch_1/ACHN_CL3_P1/ACHN_CL3_P1_Q7_1_2019y09m27d_22h23m.jpg", "the name is not"),
        ("batch_1/ACHN_CL3_P1/ACHN_CL3_P1_A7_1_2019y09m27d_22h23m.png", "the name is not"),
        ("batch_1/ACHN_CL3_P1/sub/ACHN_CL3_P1_A7_1_2019y09m27d_22h23m.jpg", "lies in folder"),
    ],
)
def test_names(name, reason):
    found = parse_name(name, PATTERN)
    if reason:
        assert reason in found
    else:
        assert isinstance(found, ImageName)
        assert f"{found.folder}_{found.well}_{found.site}_{found.stamp}.{found.ending}" == name.split("/")[-1]


def test_raw_tiffs_are_cut_from_the_middle_and_sharpened(tmp_path):
    small(tmp_path, lines_per_batch=1, raw_batches=1)
    samples, _ = read(tmp_path, chosen=options(tile=64, balance=False))
    row = samples[0].metadata
    stamp = row["Metadata_Site"].rpartition("_")[0]
    path = at(
        tmp_path, f"batch_1/{row['Metadata_Plate']}/{row['Metadata_Plate']}_{row['Metadata_Well']}_{stamp}.tif"
    )
    raw = tifffile.imread(path)
    assert raw.shape == (72, 72)
    cut = Image.fromarray(raw[4:68, 4:68])
    np.testing.assert_array_equal(samples[0].pixels[0], np.asarray(cut.filter(ImageFilter.SHARPEN)))
    twice, _ = read(tmp_path, chosen=options(tile=64, balance=False, fit="resize", sharpen=2))
    whole = Image.fromarray(raw).resize((64, 64)).filter(ImageFilter.SHARPEN).filter(ImageFilter.SHARPEN)
    np.testing.assert_array_equal(twice[0].pixels[0], np.asarray(whole))


def test_of_two_endings_the_prepared_image_is_taken(screen):
    path = image_of(screen)
    shutil.copy(path, path.with_suffix(".tif"))
    root = at(screen, "listing.tsv").parent
    samples, excluded = read(screen, local_root=root)
    assert len(samples) == len(read(screen)[0])
    assert reasons(excluded, "file")[f"{PLATE}/{path.with_suffix('.tif').name}"].startswith("the same image as")


def tiff(array):
    stream = io.BytesIO()
    tifffile.imwrite(stream, array)
    return stream.getvalue()


def jpg(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[: len(content) // 2], "truncated"),
        (lambda content: tiff(np.full((64, 64), 300, np.uint16)), "pixels are 16-bit, expected 8-bit"),
        (lambda content: jpg(np.zeros((48, 80), np.uint8)), "image is 48 x 80, smaller than 64 x 64"),
        (lambda content: b"<html>", "expected a PNG, JPG or TIFF image"),
        (lambda content: b"", "is empty"),
    ],
)
def test_bad_images_are_excluded_with_their_tiles(screen, damage, words):
    chosen = options(balance=False)
    before = len(read(screen, chosen=chosen)[0])
    path = image_of(screen)
    path.write_bytes(damage(path.read_bytes()))
    samples, excluded = read(screen, chosen=chosen)
    assert len(samples) == before - 4
    reason = reasons(excluded, "image")[f"{PLATE}/{path.name}"]
    assert words in reason
    assert reason.endswith("4 tiles are lost")


def test_missing_and_constant_images(screen):
    chosen = options(balance=False)
    image_of(screen).unlink()
    image_of(screen, 1).write_bytes(jpg(np.full((64, 64), 128, np.uint8)))
    excluded = read(screen, chosen=chosen)[1]
    assert "is missing" in reasons(excluded, "image")[f"{PLATE}/{image_of(screen).name}"]
    assert sum("constant" in r for r in reasons(excluded, "tile").values()) == 4


def edit(root, change, plate="HT29_CL1_P1"):
    path = at(root, f"metadata/{plate}.csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: pd.concat([t, t.iloc[[0]]]), "well .* occurs again"),
        (lambda t: t.drop(columns="Drug"), "column Drug is missing"),
        (lambda t: t.assign(Drug="Aspirin"), "Drug is 'Aspirin' in data row 1, expected a known drug"),
        (lambda t: t.assign(Well="Z9"), "Well is 'Z9'"),
        (lambda t: t.assign(Final_conc_uM="high"), "Final_conc_uM is 'high'"),
        (lambda t: t.assign(Final_conc_uM=""), "Final_conc_uM is ''"),
    ],
)
def test_bad_plate_maps(screen, change, words):
    edit(screen, change)
    with pytest.raises(DataError, match=words) as caught:
        read(screen)
    assert "metadata/HT29_CL1_P1.csv" in str(caught.value)


def test_plate_maps_with_zeros_spaces_and_empty_controls():
    text = b"Well,Drug,Final_conc_uM,Note\nA07, DMSO ,,x\nB10,Metformin,10,\nP24,nan,nan,\n"
    table = read_map(text, "map.csv", ["Metformin"], ["DMSO"])
    assert list(table.index) == ["A7", "B10", "P24"]
    assert list(table["Drug"][:2]) == ["DMSO", "Metformin"]
    assert table.loc["P24", "Drug"] is None
    assert list(table["Final_conc_uM"]) == [0.0, 10.0, 0.0]
    with pytest.raises(DataError, match="well A7 occurs again"):
        read_map(b"Well,Drug,Final_conc_uM\nA07,DMSO,0\nA7,DMSO,0\n", "map.csv", [], ["DMSO"])


def test_missing_plate_maps(screen):
    at(screen, "metadata/HT29_CL1_P1.csv").unlink()
    samples, excluded = read(screen)
    assert {s.metadata["Metadata_CellLine"] for s in samples} == {"M14"}
    assert "no plate map" in reasons(excluded, "plate")["HT29_CL1_P1"]
    at(screen, "metadata/M14_CL2_P1.csv").unlink()
    with pytest.raises(DataError, match="none of its 2 plates has a plate map"):
        read(screen)


def test_a_line_without_controls_cannot_be_balanced(screen):
    edit(screen, lambda t: t[~t["Drug"].isin(["DMSO", "PBS"])])
    samples, excluded = read(screen)
    assert {s.metadata["Metadata_CellLine"] for s in samples} == {"M14"}
    assert reasons(excluded, "tile")["batch_1/HT29"] == "24 of 24 treated tiles, so that both classes have 0"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pattern": "("}, "no regular expression"),
        ({"pattern": "(?P<line>.*)"}, "no named group 'clone'"),
        ({"tile": 30}, "tiles of 30 do not fill images of 64"),
        ({"fit": "stretch"}, "fit is 'stretch'"),
        ({"last_times": 0}, "last_times is 0"),
        ({"zoom": 2}, "zoom is unknown"),
    ],
)
def test_wrong_options(simulated, changes, words):
    with pytest.raises(SpecError, match=words):
        read(simulated, chosen=options(**changes))


def test_duplicates_in_the_listing(screen):
    path = at(screen, "listing.tsv")
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(DataError, match="occurs again"):
        unit_files(screen)


def test_one_tenth_of_the_tiles_validates(simulated):
    metadata = pd.DataFrame([s.metadata for s in read(simulated)[0]]).assign(Metadata_Unit="batch_1")
    folds = assign_folds(metadata, spec()["folds"])["fold0"]
    assert folds.isin(["train", "val"]).all()
    assert (folds == "val").sum() == pytest.approx(0.1 * len(metadata), abs=5)


def fetched(root, raw_root, chosen):
    """Fetch the listing and a batch as the workflow does, the simulated folder for a mirror."""
    whole = spec()
    whole["images"]["options"] = chosen
    whole["files"] = whole["scales"]["tiny"]["files"]
    pins = {row["url"]: row for row in read_manifest(root / "manifest.tsv")}
    shared = fetch_dataset(whole, raw_root, mirror=root, manifest=root / "manifest.tsv")
    files = {record["name"]: record["path"] for record in shared}
    records = fetch_unit(whole, "batch_1", files, raw_root, root, pins=pins)
    return UnitFiles("batch_1", files, tuple(records), chosen)


def test_from_simulation_through_fetch_to_samples(simulated, tmp_path):
    unit = fetched(simulated, tmp_path, options())
    assert {record["status"] for record in unit.records} == {"mirrored"}
    found = [s for s in read_unit(unit) if isinstance(s, Sample)]
    expected, _ = read(simulated)
    assert [s.metadata for s in found] == [s.metadata for s in expected]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(found, expected, strict=True))


def test_a_file_that_cannot_be_fetched_is_a_row(screen, tmp_path):
    image_of(screen).unlink()
    found = list(read_unit(fetched(screen, tmp_path / "raw", options(balance=False))))
    lost = [e for e in found if isinstance(e, Excluded) and e.what == "image" and image_of(screen).name in e.id]
    assert len(lost) == 1
    assert "is missing" in lost[0].reason
