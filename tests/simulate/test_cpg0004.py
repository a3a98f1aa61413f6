import io
import re

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from morphobench.errors import SpecError
from morphobench.fetch import read_manifest
from morphobench.files import sha256_of
from morphobench.simulate import cpg0004

from .conftest import path_in
from .pictures import chance_limit, standardised, statistics, transfer

SMALL = {
    "platemaps": 2,
    "replicates": 2,
    "compounds": 4,
    "mechanisms": 4,
    "lower_doses": 1,
    "dmso": 2,
    "sites": 2,
    "size": 32,
}
LEARN = {
    "platemaps": 1,
    "replicates": 5,
    "compounds": 12,
    "mechanisms": 12,
    "unannotated": 0,
    "lower_doses": 0,
    "dmso": 2,
    "sites": 3,
    "size": 64,
    "pixel_um": 1.8,
    "missing": 0,
}
METADATA = "raw.githubusercontent.com/broadinstitute/lincs-cell-painting/061870127481dcd73c29df85ebcfddeac2ed0828"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cpg0004")
    records = cpg0004.simulate(SMALL, folder, 0)
    return folder, records


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def barcodes(folder):
    return pd.read_csv(path_in(folder, cpg0004.BARCODES))


def platemap(folder, name):
    return pd.read_csv(path_in(folder, cpg0004.PLATEMAP.format(platemap=name)), sep="\t", dtype=str)


def expected_images(folder):
    """Address of every image that barcodes and platemaps promise, channel by channel."""
    folders = {f.split("__")[0]: f for f in path_in(folder, cpg0004.PLATES).read_text().split()}
    for row in barcodes(folder).itertuples():
        if row.Assay_Plate_Barcode not in folders:
            continue
        for well in platemap(folder, row.Plate_Map_Name)["well_position"]:
            for site in (1, 2):
                stem = f"r{ord(well[0]) - 64:02d}c{well[1:]}f{site:02d}p01"
                for channel in range(1, 6):
                    yield {
                        "plate": row.Assay_Plate_Barcode,
                        "folder": folders[row.Assay_Plate_Barcode],
                        "stem": stem,
                        "channel": channel,
                    }


def test_same_seed_same_bytes(small, tmp_path):
    cpg0004.simulate(SMALL, tmp_path / "same", 0)
    cpg0004.simulate(SMALL, tmp_path / "other", 1)
    first = contents(small[0])
    assert first == contents(tmp_path / "same")
    assert first != contents(tmp_path / "other")


def test_manifest(small):
    folder, records = small
    assert read_manifest(folder / "manifest.tsv") == records
    listed = {folder / r["path"] for r in records}
    assert {p for p in folder.rglob("*") if p.is_file()} - listed == {
        folder / "manifest.tsv",
        folder / "truth.tsv",
    }
    for record in records:
        path = folder / record["path"]
        assert (path.stat().st_size, sha256_of(path)) == (record["size"], record["sha256"])


def test_images_are_those_that_the_tables_promise_but_one(small):
    folder, records = small
    promised = {cpg0004.PNG.format(**names) for names in expected_images(folder)}
    # 2 platemaps, 2 plates of each, 2 + 4 + 1 + 1 wells, 2 sites, 5 channels
    assert len(promised) == 2 * 2 * 8 * 2 * 5
    written = {r["url"] for r in records if r["url"].endswith(".png")}
    assert written < promised
    assert len(promised - written) == 1
    image = Image.open(path_in(folder, next(iter(sorted(written)))))
    assert (image.format, image.mode, image.size) == ("PNG", "L", (32, 32))
    assert np.asarray(image).min() == 0
    assert np.asarray(image).max() == 255


def test_png_and_tiff_have_the_published_names(small, tmp_path):
    assert any(
        r["url"]
        == "s3://cellpainting-gallery/cpg0004-lincs/broad/images/2016_04_01_a549_48hr_batch1_compressed/images/"
        "SQ00014812/r01c01f01p01-ch1sk1fk1fl1.png"
        for r in small[1]
    )
    records = cpg0004.simulate({**SMALL, "format": "tiff", "replicates": 1, "platemaps": 1}, tmp_path, 0)
    urls = [r["url"] for r in records if r["url"].endswith(".tiff")]
    assert urls[0] == (
        "s3://cellpainting-gallery/cpg0004-lincs/broad/images/2016_04_01_a549_48hr_batch1/images/"
        "SQ00014812__2016-05-23T20_44_31-Measurement1/Images/r01c01f01p01-ch1sk1fk1fl1.tiff"
    )
    image = tifffile.imread(io.BytesIO(path_in(tmp_path, urls[0]).read_bytes()))
    assert image.dtype == np.uint16
    assert image.shape == (64, 64)
    assert image.std() > 50


def test_tables(small):
    folder, _ = small
    table = barcodes(folder)
    assert list(table.columns) == ["Assay_Plate_Barcode", "Plate_Map_Name", "Batch_Number", "Batch_Date"]
    listed = path_in(folder, cpg0004.PLATES).read_text().split()
    assert all(re.fullmatch(r"SQ\d{8}__\d{4}-\d\d-\d\dT\d\d_\d\d_\d\d-Measurement1", name) for name in listed)
    assert [name.split("__")[0] for name in listed] == cpg0004.units(SMALL)
    assert set(table["Assay_Plate_Barcode"]) - set(cpg0004.units(SMALL)) == set(cpg0004._PHANTOMS)
    assert len(table) == 4 + 4
    truth = pd.read_csv(folder / "truth.tsv", sep="\t", keep_default_na=False)
    moa = pd.read_csv(path_in(folder, cpg0004.MOA), sep="\t")
    known = truth[truth["moa"] != ""]
    assert len(known) == 8
    assert list(moa["moa"]) == list(known["moa"])
    assert list(moa["broad_id"]) == list(known["broad_sample"].str[:13])
    assert (moa["broad_sample"] != known["broad_sample"].to_numpy()).sum() == 1
    names = [platemap(folder, name) for name in cpg0004.PLATEMAPS]
    assert len(names) == 28
    for name, wells in zip(cpg0004.PLATEMAPS, names, strict=True):
        assert set(wells["plate_map_name"]) == {name}
        assert wells["well_position"].is_unique
        assert (wells["broad_sample"].isna() == wells["mmoles_per_liter"].isna()).all()
    dose = names[0]["mmoles_per_liter"].dropna().astype(float)
    assert sorted(dose.round(2).value_counts().items()) == [(1.11, 1), (10.0, 5)]
    of_sample = dict(zip(known["broad_sample"], known["moa"], strict=True))
    mechanisms = [set(names[i]["broad_sample"].dropna().map(of_sample)) for i in (0, 1)]
    assert {"mechanism 01", "mechanism 02", "mechanism 03", "mechanism 04"} <= mechanisms[0] & mechanisms[1]


@pytest.mark.mirror
def test_tables_have_the_real_columns(small, mirror):
    for url in (cpg0004.BARCODES, cpg0004.PLATEMAP.format(platemap="C-7161-01-LM6-010"), cpg0004.MOA):
        real, made = (path_in(folder, url).read_text().splitlines()[0] for folder in (mirror, small[0]))
        assert made == real
    real = pd.read_csv(path_in(mirror, cpg0004.PLATEMAP.format(platemap="C-7161-01-LM6-010")), sep="\t", dtype=str)
    assert set(real.loc[real["broad_sample"].isna(), "well_position"]) == set(cpg0004._SOLVENT)
    assert {cpg0004._DOSE, cpg0004._LOWER} <= set(real["mmoles_per_liter"])
    assert set(cpg0004._PHANTOMS) <= set(barcodes(mirror)["Assay_Plate_Barcode"])


def learnable(folder):
    wells = platemap(folder, cpg0004.PLATEMAPS[0])
    wells = wells[wells["broad_sample"].notna()]
    rows, values = [], []
    for plate in cpg0004.units(LEARN):
        for well, sample in zip(wells["well_position"], wells["broad_sample"], strict=True):
            for site in (1, 2, 3):
                stem = f"r{ord(well[0]) - 64:02d}c{well[1:]}f{site:02d}p01"
                paths = [
                    path_in(folder, cpg0004.PNG.format(plate=plate, stem=stem, channel=c)) for c in range(1, 6)
                ]
                values.append(statistics(np.stack([np.asarray(Image.open(path)) for path in paths])))
                rows.append((plate, sample))
    return np.array(values), pd.DataFrame(rows, columns=["plate", "sample"])


@pytest.mark.slow
def test_compounds_show_across_plates_and_with_strength_0_do_not(tmp_path):
    right = {}
    for name, strengths in {
        "none": {"strength": 0.0, "well_strength": 0.0},
        "some": {"well_strength": 0.0},
        "position": {"strength": 0.0, "well_strength": 2.0},
    }.items():
        cpg0004.simulate({**LEARN, **strengths}, tmp_path / name, 0)
        values, table = learnable(tmp_path / name)
        values = standardised(values, table["plate"].to_numpy())
        right[name] = transfer(values, table["sample"].to_numpy(), table["plate"].to_numpy())
    limit = chance_limit(12, len(right["none"]))
    assert right["none"].mean() < limit
    assert right["some"].mean() > 0.6
    # As in life the layout is the same on all plates, so position alone tells compounds apart.
    assert right["position"].mean() > limit


def between_plates(folder):
    values, table = learnable(folder)
    values = values / (values.std(axis=0) + 1e-9)
    means = pd.DataFrame(values).groupby(table["plate"]).transform("mean").to_numpy()
    return means.var(axis=0).sum() / values.var(axis=0).sum()


@pytest.mark.slow
def test_plates_differ_and_with_strength_0_do_not(tmp_path):
    share = {}
    for name, strength in (("none", 0.0), ("some", 1.0)):
        parameters = {**LEARN, "batch_strength": strength, "plate_strength": 0.5 * strength, "strength": 0.3}
        cpg0004.simulate(parameters, tmp_path / name, 0)
        share[name] = between_plates(tmp_path / name)
    # By chance 4 of 179 degrees of freedom lie between 5 plates.
    assert share["none"] < 0.06
    assert share["some"] > 0.2


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"strenght": 1}, "unknown parameter 'strenght'"),
        ({"noise": "much"}, "noise is 'much', expected a number"),
        ({"format": "jpg"}, "format is 'jpg', expected png or tiff"),
        ({"format": 3}, "format is 3, expected text"),
        ({"platemaps": 12}, "platemaps is 12, expected 1 to 11"),
        ({"replicates": 6}, "replicates is 6, expected 1 to 5"),
        ({"dmso": 25}, "dmso is 25"),
        ({"compounds": 360}, "a plate would need 363 treated wells, expected at most 360"),
    ],
)
def test_impossible_parameters(parameters, words, tmp_path):
    with pytest.raises(SpecError, match=words):
        cpg0004.simulate(parameters, tmp_path, 0)
