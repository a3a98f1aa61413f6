import numpy as np
import pandas as pd
import pytest

from morphobench.errors import DataError
from morphobench.profiles import check_profiles


def wells(collection):
    return pd.concat([source.read().metadata for source in collection], ignore_index=True)


@pytest.mark.mirror
def test_the_real_screen_has_the_known_counts(real):
    raw = real("bbbc021")
    collection = raw.read()
    table = wells(collection)
    treated = table[table["Metadata_Control"] == "trt"]
    assert len(collection) == 55
    assert len(table) == 632
    assert len(collection.names) == 189
    assert treated["Metadata_Compound"].nunique() == 38
    assert treated["Metadata_Perturbation"].nunique() == 103
    assert treated["Metadata_MoA"].nunique() == 12
    assert table["Metadata_Batch"].nunique() == 10
    assert set(table["Metadata_Batch"]) == {f"Week{i}" for i in range(1, 11)}
    assert (table["Metadata_Perturbation"] == "DMSO").sum() == 330
    assert table[table["Metadata_Control"] == "negcon"]["Metadata_MoA"].isna().all()
    splits = table.groupby("Metadata_Replicate")["Metadata_Split"].unique()
    assert {k: list(v) for k, v in splits.items()} == {1: ["train"], 2: ["train"], 3: ["test"]}
    assert len(collection.excluded) == 3300 - 632


@pytest.mark.mirror
def test_real_features_are_those_of_the_file(real):
    raw = real("bbbc021")
    frame = pd.read_csv(raw.path("profiles")).set_index(["Metadata_Plate", "Metadata_Well"])
    for source in list(raw.read())[::11]:
        plate = source.read()
        check_profiles(plate, source.plate)
        key = pd.MultiIndex.from_frame(plate.metadata[["Metadata_Plate", "Metadata_Well"]])
        expected = frame.loc[key, list(plate.names)].to_numpy()
        np.testing.assert_allclose(plate.features, expected, rtol=1e-6)
        assert (frame.loc[key, "Metadata_Compound"].to_numpy() == plate.metadata["Metadata_Compound"]).all()


@pytest.mark.mirror
def test_real_profiles_are_scaled_over_all_wells_not_by_plate(real):
    # The reason why the spec says that differences between weeks are still in the file.
    frame = pd.read_csv(real("bbbc021").path("profiles")).set_index("Metadata_Plate").iloc[:, 4:]
    assert np.abs(frame.median()).max() < 1e-9
    assert frame.groupby(level=0).median().abs().stack().median() > 0.2


def test_plates_can_be_read_twice_and_agree(raw):
    collection = raw("bbbc021").read()
    assert collection.names == tuple(sorted(collection.names))
    for source in collection:
        one, two = source.read(), source.read()
        check_profiles(one, source.plate)
        assert one.features.dtype == np.float32
        np.testing.assert_array_equal(one.features, two.features)
        assert set(one.metadata["Metadata_Plate"]) == {source.plate}
        assert set(one.metadata["Metadata_Batch"]) == {source.batch}


def edit(path, change):
    table = pd.read_csv(path, keep_default_na=False)
    change(table).to_csv(path, index=False)


def test_concentrations_are_compared_as_numbers(raw):
    files = raw("bbbc021")
    text = files.path("moa").read_text()
    assert "0.300000" in text
    before = wells(files.read())
    files.path("moa").write_text(text.replace("0.300000", "0.30000000001"))
    assert wells(files.read()).equals(before)
    files.path("moa").write_text(text.replace("0.300000", "0.4"))
    with pytest.raises(DataError, match=r"moa.csv: has no row for sim-compound-\d+ at 0.3"):
        files.read()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("profiles", lambda t: t.drop(columns="Metadata_moa"), "column Metadata_moa is missing"),
        ("profiles", lambda t: pd.concat([t, t.iloc[[3]]]), "well Week1_.* occurs again"),
        ("profiles", lambda t: t.assign(Metadata_moa="Kinase inhibitors"), "mechanism of .* says"),
        ("profiles", lambda t: t.iloc[:, :5], "no feature columns"),
        ("profiles", lambda t: t.assign(Cells_Odd="x"), "feature Cells_Odd has values that are no numbers"),
        ("profiles", lambda t: t.assign(Metadata_Compound="else"), "Metadata_Compound of well"),
        ("profiles", lambda t: t.assign(Metadata_Concentration=7.5), "Metadata_Concentration of well"),
        ("images", lambda t: t.drop(columns="Replicate"), "column Replicate is missing"),
        ("images", lambda t: t.assign(Replicate=range(len(t))), "contradicting metadata of well"),
        ("images", lambda t: t[t["Image_Metadata_Plate_DAPI"].str.startswith("Week1")], "has no images of well"),
        ("moa", lambda t: t[t["compound"] != "sim-compound-01"], "has no row for sim-compound-01"),
    ],
)
def test_bad_tables_are_named(raw, name, change, words):
    files = raw("bbbc021")
    edit(files.path(name), change)
    with pytest.raises(DataError, match=words) as caught:
        files.read()
    assert files.path(name).name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_files(raw):
    files = raw("bbbc021")
    files.path("profiles").write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(DataError, match="not a readable table"):
        files.read()
    files.path("profiles").unlink()
    with pytest.raises(DataError, match="no such file"):
        files.read()
