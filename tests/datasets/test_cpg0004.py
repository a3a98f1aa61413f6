import hashlib

import numpy as np
import pandas as pd
import pytest

from morphobench.datasets.cpg0004 import Options, draw_dmso, list_files, read_unit, select_sites, select_wells
from morphobench.datasets.lincs_tiff import compress
from morphobench.errors import DataError, SpecError
from morphobench.fetch import local_path
from morphobench.fetch.unit import fetch_unit
from morphobench.images.decode import resize
from morphobench.images.finish import finish_store
from morphobench.images.folds import assign_folds
from morphobench.images.store import ImageStore
from morphobench.images.unit import Excluded, Sample, UnitFiles
from morphobench.images.write import write_unit
from morphobench.simulate import cpg0004 as simulated

from . import lincs
from .conftest import load_spec
from .handmade import picture, png, tiff, unit_of

PLATE = "SQ00000002"
CHANNELS = ["DNA", "ER", "RNA", "AGP", "Mito"]


@pytest.fixture
def files(tmp_path):
    return lincs.write(tmp_path)


def options(files, **more):
    base = {
        "treatments": str(files["treatments"]),
        "size": 8,
        "raw_size": 16,
        "sites": [1, 2],
        "dmso_images": None,
    }
    return {**base, **more}


def contents(files, chosen, variant="png_a", plate=PLATE):
    made = {v.name: v for v in list_files(plate, files, chosen)}[variant]
    if variant == "tiff":
        return {f.local: tiff(picture(i, size=32, dtype=np.uint16)) for i, f in enumerate(made.files)}
    return {f.local: png(picture(i)) for i, f in enumerate(made.files)}


def rows(tmp_path, files, images, chosen, variant="png_a", plate=PLATE):
    read = list(read_unit(unit_of(tmp_path, plate, files, images, chosen, variant)))
    return [r for r in read if isinstance(r, Sample)], [r for r in read if isinstance(r, Excluded)]


def test_three_variants_of_the_same_fields(files):
    variants = list_files(PLATE, files, options(files))
    assert [v.name for v in variants] == ["png_a", "png_b", "tiff"]
    # Two wells of DMSO and one at 10 micromolar, two sites, five channels.
    assert {len(v.files) for v in variants} == {3 * 2 * 5}
    root = "s3://cellpainting-gallery/cpg0004-lincs/broad"
    batch, image = "2016_04_01_a549_48hr_batch1", "r01c01f01p01-ch1sk1fk1fl1"
    folder = f"{PLATE}__2016-05-23T20_44_31-Measurement1"
    assert [v.files[0].url for v in variants] == [
        f"{root}/images/{batch}_compressed/images/{PLATE}/{image}.png",
        f"{root}/{batch}_compressed/images/{PLATE}/{image}.png",
        f"{root}/images/{batch}/images/{folder}/Images/{image}.tiff",
    ]
    assert variants[0].files[-1].local == f"{PLATE}/r02c02f02p01-ch5sk1fk1fl1.png"
    assert variants[2].files[-1].local == f"{folder}/Images/r02c02f02p01-ch5sk1fk1fl1.tiff"


@pytest.mark.parametrize(
    ("more", "wells"),
    [
        ({}, {"A01", "A02", "B02"}),
        ({"selection": "annotated", "treatments": None}, {"A01", "A02", "B02"}),
        ({"selection": "all"}, {"A01", "A02", "B02", "B03", "P24"}),
        ({"selection": "all", "wells": ["A01", "P24"]}, {"A01", "P24"}),
    ],
)
def test_selections(files, more, wells):
    chosen = options(files, **more)
    found = select_sites(
        PLATE, files, Options(**{k: tuple(v) if k in ("sites", "wells") and v else v for k, v in chosen.items()})
    )
    assert set(found["well"]) == wells
    assert set(found["site"]) == {1, 2}


def test_samples_carry_pixels_and_metadata(tmp_path, files):
    chosen = options(files)
    samples, excluded = rows(tmp_path, files, contents(files, chosen), chosen)
    assert not excluded
    assert len(samples) == 6
    expected = resize(np.stack([picture(i) for i in range(20, 25)]), 8)
    np.testing.assert_array_equal(samples[4].pixels, expected)
    assert samples[4].metadata == {
        "Metadata_Batch": PLATE,
        "Metadata_Plate": PLATE,
        "Metadata_Well": "B02",
        "Metadata_Site": "1",
        "Metadata_Perturbation": "BRD-A00000001-001-01-1@10",
        "Metadata_Control": "trt",
        "Metadata_Split": "train",
        "Metadata_Compound": "one",
        "Metadata_Concentration": 10.0,
        "Metadata_DoseLevel": 6,
        "Metadata_MoA": "kinase inhibitor",
        "Metadata_CellLine": "A549",
        "Metadata_Replicate": 1,
    }
    control = samples[0].metadata
    assert control["Metadata_Perturbation"] == control["Metadata_Compound"] == "DMSO"
    assert (control["Metadata_Control"], control["Metadata_MoA"], control["Metadata_Concentration"]) == (
        "negcon",
        None,
        0.0,
    )


def test_tiffs_become_8_bit_images_of_half_the_size(tmp_path, files):
    chosen = options(files)
    samples, excluded = rows(tmp_path, files, contents(files, chosen, "tiff"), chosen, "tiff")
    assert not excluded
    # Too few images of a channel to estimate the illumination.
    halves = np.stack([compress(picture(i, size=32, dtype=np.uint16), None) for i in range(20, 25)])
    np.testing.assert_array_equal(samples[4].pixels, resize(halves, 8))
    assert samples[4].pixels.dtype == np.uint8
    assert len(samples) == 6


def test_bad_images_are_listed_and_the_rest_stays(tmp_path, files):
    chosen = options(files)
    images = contents(files, chosen)
    names = list(images)
    images[names[0]] = None
    images[names[7]] = images[names[7]][:60]
    images[names[11]] = png(picture(1, dtype=np.uint16))
    images[names[17]] = png(np.full((16, 16), 255, np.uint8))
    images[f"{PLATE}/r09c09f01p01-ch1sk1fk1fl1.png"] = png(picture(3))
    samples, excluded = rows(tmp_path, files, images, chosen)
    assert [(s.metadata["Metadata_Well"], s.metadata["Metadata_Site"]) for s in samples] == [
        ("B02", "1"),
        ("B02", "2"),
    ]
    assert [e.id for e in excluded] == [names[0], names[7], names[11], names[17], list(images)[-1]]
    words = ["missing (404)", "PNG is", "16-bit, expected 8-bit", "constant", "no row in the metadata"]
    for row, word in zip(excluded, words, strict=True):
        assert word in row.reason
    assert excluded[0].reason.endswith(f"site 1 of well A01 of plate {PLATE} is left out")


def test_bad_tiffs_are_listed(tmp_path, files):
    chosen = options(files)
    images = contents(files, chosen, "tiff")
    names = list(images)
    images[names[0]] = images[names[0]][:700]
    images[names[5]] = tiff(picture(1, size=32))
    images[names[10]] = tiff(np.full((32, 32), 65535, np.uint16))
    images[names[15]] = None
    samples, excluded = rows(tmp_path, files, images, chosen, "tiff")
    assert len(samples) == 2
    assert [e.id for e in excluded] == [names[i] for i in (0, 5, 10, 15)]
    words = ["TIFF is truncated", "8-bit, expected 16-bit", "constant", "missing"]
    for row, word in zip(excluded, words, strict=True):
        assert word in row.reason


def test_a_well_of_the_platemap_without_images_is_one_row(tmp_path, files):
    chosen = options(files)
    images = {n: None if "/r02c02" in n else c for n, c in contents(files, chosen).items()}
    samples, excluded = rows(tmp_path, files, images, chosen)
    assert len(samples) == 4
    assert [(e.what, e.id) for e in excluded] == [("well", f"{PLATE}/B02")]


def test_a_plate_without_controls_is_kept_and_listed(tmp_path, files):
    files = lincs.write(tmp_path, platemap_M2=lincs.MAPS["M2"].replace("M2\tA01\t\t\t\tDMSO\n", ""))
    chosen = options(files)
    unit = unit_of(tmp_path, lincs.OTHER, files, contents(files, chosen, plate=lincs.OTHER), chosen, "png_a")
    write_unit(read_unit, unit, tmp_path / "store", channels=CHANNELS)
    finish_store(tmp_path / "store", [lincs.OTHER], CHANNELS, None)
    excluded = pd.read_csv(tmp_path / "store" / "excluded.csv")
    assert excluded[["what", "id"]].values.tolist() == [["plate", lincs.OTHER]]
    assert ImageStore(tmp_path / "store").samples["Metadata_Control"].tolist() == ["trt", "trt"]


def test_the_draw_of_dmso_does_not_depend_on_the_order_of_wells(files):
    wells = select_wells(files, Options(selection="all"))
    wells = wells[wells["broad_sample"] == "DMSO"]
    drawn = draw_dmso(wells, (1, 2, 3), 12, 0)
    names = [(p, w, i) for p, w in zip(wells["plate"], wells["well"], strict=True) for i in (1, 2, 3)]
    ranks = {n: hashlib.sha256("0:{}:{}:{}".format(*n).encode()).hexdigest() for n in names}
    assert drawn == set(sorted(names, key=ranks.get)[:12])
    assert drawn == draw_dmso(wells.sample(frac=1, random_state=0), (3, 1, 2), 12, 0)
    assert drawn < draw_dmso(wells, (1, 2, 3), 20, 0)
    assert drawn != draw_dmso(wells, (1, 2, 3), 12, 1)
    # Of all plates together so many, whichever are asked for.
    chosen = Options(selection="all", sites=(1, 2, 3), dmso_images=12)
    found = [select_sites(p, files, chosen) for p in (*lincs.PLATES, lincs.OTHER)]
    table = pd.concat(found)
    control = table[table["broad_sample"] == "DMSO"]
    assert set(zip(control["plate"], control["well"], control["site"], strict=True)) == drawn


def test_bad_choices(files):
    with pytest.raises(SpecError, match="selection is 'some', expected one of cdcl, annotated, all"):
        list_files(PLATE, files, options(files, selection="some"))
    with pytest.raises(SpecError, match="selection cdcl needs treatments"):
        list_files(PLATE, files, options(files, treatments=None))
    with pytest.raises(SpecError, match="numbers from 1 to 9"):
        list_files(PLATE, files, options(files, sites=[0, 1]))
    with pytest.raises(SpecError, match="unknown key 'plates'"):
        list_files(PLATE, files, options(files, plates=[PLATE]))
    with pytest.raises(DataError, match=f"plate {lincs.PHANTOM} is not in it, so it has no images"):
        list_files(lincs.PHANTOM, files, options(files))
    with pytest.raises(DataError, match="no field that images.options select"):
        list_files(PLATE, files, options(files, wells=["P24"]))


def test_a_list_that_disagrees_about_a_mechanism(tmp_path):
    files = lincs.write(tmp_path, treatments=lincs.LIST.replace("antagonist", "agonist"))
    with pytest.raises(DataError, match="BRD-A00000003-001-07-7 has mechanism 'agonist', the table"):
        list_files(PLATE, files, options(files))


@pytest.mark.parametrize("scale", ["demo", "tiny"])
def test_the_spec_names_the_units_that_are_simulated(root, scale):
    overlay = load_spec(root, "cpg0004")["scales"][scale]
    parameters = {k: v for k, v in overlay["simulate"].items() if k != "seed"}
    p, chosen = simulated.Parameters(**parameters), overlay["images"]["options"]
    assert overlay["images"]["units"] == simulated.units(parameters)
    assert chosen["raw_size"] == p.size
    assert chosen["sites"] == list(range(1, p.sites + 1))


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_simulated_raw_files_become_a_store(root, tmp_path, kind):
    spec = load_spec(root, "cpg0004")
    overlay = spec["scales"]["tiny"]
    chosen = {**spec["images"]["options"], **overlay["images"]["options"]}
    images = {**spec["images"], "options": chosen, "units": overlay["images"]["units"]}
    parameters = {k: v for k, v in overlay["simulate"].items() if k != "seed"} | {"format": kind}
    simulated.simulate(parameters, tmp_path / "raw", overlay["simulate"]["seed"])
    files = {e["name"]: local_path(e["url"], tmp_path / "raw") for e in spec["files"]}
    for unit in images["units"]:
        records = fetch_unit({**spec, "images": images}, unit, files, tmp_path / "got", tmp_path / "raw")
        assert {r["variant"] for r in records} == {"png_a" if kind == "png" else "tiff"}
        unit_files = UnitFiles(unit, files, tuple(records), chosen)
        write_unit(read_unit, unit_files, tmp_path / "store", channels=images["channels"])
    finish_store(tmp_path / "store", images["units"], images["channels"], spec["folds"])
    store = ImageStore(tmp_path / "store")
    p = simulated.Parameters(**parameters)
    # Compounds without a mechanism and lower doses have images and are not chosen.
    promised = p.replicates * (p.compounds + p.dmso) * p.sites
    excluded = pd.read_csv(tmp_path / "store" / "excluded.csv")
    assert len(store) + len(excluded) == promised
    assert len(excluded) <= p.missing
    assert store[0].shape == (5, 32, 32)
    assert store.samples.groupby("Metadata_Plate")["Metadata_Replicate"].first().tolist() == [1, 2, 3, 4, 5]
    assert store.samples["Metadata_MoA"].nunique() == p.mechanisms
    assert store.folds["fold0"].groupby(store.samples["Metadata_Plate"]).first().tolist() == ["train"] * 3 + [
        "val",
        "test",
    ]


@pytest.fixture
def real(root, mirror, tmp_path):
    spec = load_spec(root, "cpg0004")
    files = {e["name"]: local_path(e["url"], mirror) for e in spec["files"]}
    if not files["plates"].is_file():
        files["plates"] = tmp_path / "plates.txt"
        files["plates"].write_text("".join(f"{u}__x-Measurement1\n" for u in spec["images"]["units"]))
    return files, Options(**spec["images"]["options"]), spec


@pytest.mark.mirror
def test_cdcl_has_570_treatments_in_the_known_numbers_of_wells(real):
    files, chosen, _ = real
    wells = select_wells(files, chosen)
    treated = wells[wells["broad_sample"] != "DMSO"]
    assert (len(treated), len(wells) - len(treated)) == (2761, 3264)
    assert wells["broad_sample"].nunique() == 570
    # 49 mechanisms and that of DMSO, which has none.
    assert (treated["moa"].nunique(), treated["moa"].isna().sum()) == (49, 0)
    assert treated["plate"].nunique() == 136
    assert treated.groupby("broad_sample").size().value_counts().to_dict() == {5: 527, 4: 21, 2: 21}
    assert (treated.groupby(["broad_sample", "replicate"]).size() == 1).all()


@pytest.mark.mirror
def test_cdcl_has_26849_fields_of_which_2000_of_dmso(real):
    files, chosen, spec = real
    sites = select_sites(None, files, chosen)
    pd.testing.assert_frame_equal(
        select_sites("SQ00015198", files, chosen),
        sites[sites["plate"] == "SQ00015198"].reset_index(drop=True),
    )
    control = sites["broad_sample"] == "DMSO"
    assert (control.sum(), (~control).sum()) == (2000, 24849)
    assert sites[control].groupby("plate").size().reindex(spec["images"]["units"]).min() >= 1
    samples = pd.DataFrame({f"Metadata_{c.capitalize()}": sites[c] for c in ("plate", "well", "replicate")})
    samples["Metadata_Control"] = np.where(control, "negcon", "trt")
    folds = assign_folds(samples.reset_index(drop=True), spec["folds"])
    assert list(folds) == [f"fold{k}" for k in range(5)]
    assert (folds != "unused").all(axis=None)
    test = pd.concat(
        [sites["broad_sample"].reset_index(drop=True)[folds[f] == "test"].value_counts() for f in folds]
    )
    assert test.sum() == len(sites)


@pytest.mark.mirror
def test_the_whole_screen_has_every_treated_well(real):
    files, chosen, _ = real
    wells = select_wells(files, Options(selection="all"))
    assert len(wells) == 136 * 384
    assert len(wells[wells["broad_sample"] != "DMSO"]) == 136 * 360
