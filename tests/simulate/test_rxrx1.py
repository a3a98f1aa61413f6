import io
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from morphobench.errors import SpecError
from morphobench.fetch import read_manifest
from morphobench.files import sha256_of
from morphobench.simulate import rxrx1

from .conftest import path_in
from .pictures import chance_limit, standardised, statistics, transfer

SMALL = {
    "experiments": 2,
    "plates": 2,
    "treatments": 6,
    "mechanisms": 3,
    "positives": 2,
    "negatives": 1,
    "size": 32,
}
# Large enough for a classifier: 6 treatments in 4 wells of each of 4 experiments.
LEARN = {
    "experiments": 4,
    "plates": 2,
    "treatments": 6,
    "replicates": 4,
    "mechanisms": 6,
    "positives": 1,
    "negatives": 1,
    "size": 64,
    "pixel_um": 1.8,
    "missing_sites": 0,
    "missing_members": 0,
}


def metadata(folder):
    with zipfile.ZipFile(path_in(folder, rxrx1.METADATA)) as archive:
        assert archive.namelist() == ["rxrx1/metadata.csv"]
        return pd.read_csv(archive.open("rxrx1/metadata.csv"), keep_default_na=False)


def pixels(archive, member):
    return np.asarray(Image.open(io.BytesIO(archive.read(member))))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rxrx1")
    records = rxrx1.simulate(SMALL, folder, 0)
    return folder, records


def learnable(folder):
    """Statistics of every site of the HUVEC experiments, and its row of the metadata."""
    table = metadata(folder)
    table = table[table["cell_type"] == "HUVEC"].reset_index(drop=True)
    with zipfile.ZipFile(path_in(folder, rxrx1.IMAGES)) as archive:
        names = [
            [f"rxrx1/images/{r.experiment}/Plate{r.plate}/{r.well}_s{r.site}_w{c}.png" for c in range(1, 7)]
            for r in table.itertuples()
        ]
        values = [statistics(np.stack([pixels(archive, n) for n in site])) for site in names]
    return np.array(values), table


def test_same_seed_same_bytes(small, tmp_path):
    for folder, seed in ((tmp_path / "same", 0), (tmp_path / "other", 1)):
        rxrx1.simulate(SMALL, folder, seed)
    for url in (rxrx1.IMAGES, rxrx1.METADATA):
        first, same, other = (
            path_in(f, url).read_bytes() for f in (small[0], tmp_path / "same", tmp_path / "other")
        )
        assert first == same
        assert first != other
    assert (small[0] / "truth.tsv").read_bytes() == (tmp_path / "same" / "truth.tsv").read_bytes()


def test_manifest(small):
    folder, records = small
    assert read_manifest(folder / "manifest.tsv") == records
    assert [r["url"] for r in records] == [rxrx1.IMAGES, rxrx1.METADATA]
    for record in records:
        path = folder / record["path"]
        assert (path.stat().st_size, sha256_of(path)) == (record["size"], record["sha256"])


def test_metadata_is_as_published(small):
    table = metadata(small[0])
    assert list(table.columns) == [
        "site_id", "well_id", "cell_type", "dataset", "experiment", "plate", "well", "site", "well_type", "sirna",
        "sirna_id",
    ]  # fmt: skip
    first = table.iloc[0]
    assert first["well_id"] == f"{first['experiment']}_{first['plate']}_{first['well']}"
    assert first["site_id"] == f"{first['well_id']}_{first['site']}"
    assert table["site_id"].is_unique
    assert {"HUVEC", "HEPG2", "RPE", "U2OS"} == set(table["cell_type"])
    huvec = table[table["cell_type"] == "HUVEC"]
    assert list(huvec["experiment"].unique()) == rxrx1.units(SMALL) == ["HUVEC-01", "HUVEC-02"]
    assert set(table["dataset"]) == {"train"}
    assert set(huvec["well"].str[0]) <= set("BCDEFGHIJKLMNO")
    assert huvec["well"].str[1:].astype(int).between(2, 23).all()
    ids = table.groupby("well_type")["sirna_id"].agg(["min", "max"])
    assert tuple(ids.loc["treatment"]) == (0, 5)
    assert tuple(ids.loc["positive_control"]) == (1108, 1109)
    assert tuple(ids.loc["negative_control"]) == (1138, 1138)
    assert set(table.loc[table["sirna_id"] == 1138, "sirna"]) == {"EMPTY"}
    wells = huvec.drop_duplicates("well_id")
    per_plate = wells.groupby(["experiment", "plate"])["well_type"].value_counts().unstack()
    assert (per_plate[["positive_control", "negative_control"]] == [2, 1]).all(axis=None)
    treated = wells[wells["well_type"] == "treatment"].groupby("experiment")["sirna_id"].nunique()
    assert (treated == 6).all()
    one, two = (set(zip(g["well"], g["sirna_id"], strict=True)) for _, g in wells.groupby("experiment"))
    assert len(one & two) < len(one) / 2
    assert set(metadata_of(experiments=3)["dataset"]) == {"train", "test"}


def metadata_of(**parameters):
    p = rxrx1.Parameters(**parameters)
    return rxrx1._sites(p, rxrx1._treatments(p), 0)


def test_archive_has_every_channel_of_every_site_but_those_said_to_be_missing(small):
    folder, _ = small
    table = metadata(folder)
    huvec = table[table["cell_type"] == "HUVEC"]
    assert len(huvec) == 2 * (6 + 2 * 2 + 2 * 1) * 2 - rxrx1.Parameters.missing_sites
    with zipfile.ZipFile(path_in(folder, rxrx1.IMAGES)) as archive:
        names = archive.namelist()
        assert len(set(names)) == len(names) == 6 * len(huvec) - rxrx1.Parameters.missing_members
        promised = {
            f"rxrx1/images/{r.experiment}/Plate{r.plate}/{r.well}_s{r.site}_w{c}.png"
            for r in huvec.itertuples()
            for c in range(1, 7)
        }
        assert len(promised - set(names)) == rxrx1.Parameters.missing_members
        assert set(names) < promised
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        for name in names[:6]:
            image = Image.open(io.BytesIO(archive.read(name)))
            assert (image.format, image.mode, image.size) == ("PNG", "L", (32, 32))
            assert np.asarray(image).std() > 2


def test_truth_names_every_class(small):
    truth = pd.read_csv(small[0] / "truth.tsv", sep="\t", keep_default_na=False).set_index("sirna")
    assert set(truth.index) == set(metadata(small[0])["sirna"])
    effects = truth[[c for c in truth.columns if c in ("cells", "texture_scale") or c.endswith("_intensity")]]
    assert (effects.loc["EMPTY"] == 0).all()
    assert (effects.drop(index="EMPTY").abs().sum(axis=1) > 0).all()
    assert truth.loc[truth["well_type"] == "treatment", "mechanism"].nunique() == 3


@pytest.mark.slow
def test_treatments_show_across_experiments_and_with_strength_0_do_not(tmp_path):
    rxrx1.simulate({**LEARN, "strength": 0.0}, tmp_path / "none", 0)
    rxrx1.simulate(LEARN, tmp_path / "some", 0)
    right = {}
    for name in ("none", "some"):
        values, table = learnable(tmp_path / name)
        rows = (table["well_type"] == "treatment").to_numpy()
        plates = (table["experiment"] + table["plate"].astype(str)).to_numpy()
        values = standardised(values, plates)
        right[name] = transfer(
            values[rows], table["sirna_id"].to_numpy()[rows], table["experiment"].to_numpy()[rows]
        )
    assert right["none"].mean() < chance_limit(6, len(right["none"]))
    assert right["some"].mean() > 0.6


def test_strength_0_leaves_no_pixel_of_a_treatment(tmp_path):
    # The same laboratory and the same cells: pictures at one place are equal whatever is in the well.
    for name, mechanisms in (("a", 2), ("b", 6)):
        rxrx1.simulate({**SMALL, "mechanisms": mechanisms, "strength": 0.0}, tmp_path / name, 0)
    a, b = (path_in(tmp_path / name, rxrx1.IMAGES).read_bytes() for name in "ab")
    assert a == b


@pytest.mark.slow
def test_experiments_show_and_with_strength_0_do_not(tmp_path):
    score = {}
    for name, strengths in (("none", {"batch_strength": 0.0, "plate_strength": 0.0}), ("some", {})):
        rxrx1.simulate({**LEARN, "strength": 0.5, **strengths}, tmp_path / name, 0)
        values, table = learnable(tmp_path / name)
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        score[name] = cross_val_score(LogisticRegression(C=0.1, max_iter=300), values, table["experiment"]).mean()
    assert score["none"] < chance_limit(4, len(table))
    assert score["some"] > 0.8


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"strenght": 1}, "unknown parameter 'strenght'"),
        ({"strength": -1}, "strength is -1"),
        ({"experiments": 25}, "experiments is 25, expected 1 to 24"),
        ({"plates": 5}, "plates is 5, expected 1 to 4"),
        ({"mechanisms": 61}, "mechanisms is 61, expected 1 to 60"),
        ({"treatments": 1108, "replicates": 2}, "a plate would need 565 wells, expected at most 308"),
        ({"sites": 3}, "sites is 3"),
    ],
)
def test_impossible_parameters(parameters, words, tmp_path):
    with pytest.raises(SpecError, match=words):
        rxrx1.simulate(parameters, tmp_path, 0)
