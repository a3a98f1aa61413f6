import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from morphobench.datasets.jump_tables import split_by_plate
from morphobench.errors import DataError, SpecError
from morphobench.fetch import local_path
from morphobench.profiles import check_profiles
from morphobench.simulate.jump import DMSO


def plate_file(files, name="SIM0201001"):
    table = pd.read_csv(files.path("plate")).set_index("Metadata_Plate").loc[name]
    url = files.spec["plates"]["url"]
    return local_path(
        url.format(source=table["Metadata_Source"], batch=table["Metadata_Batch"], plate=name), files.folder
    )


def edit_plate(path, change):
    change(pd.read_parquet(path)).to_parquet(path, index=False)


def edit_table(path, change):
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)


def test_all_plates_have_the_same_features_in_the_order_of_names(raw):
    files = raw("cpg0016")
    collection = files.read()
    assert len(collection) == 4
    assert collection.names == tuple(sorted(collection.names))
    listed = files.path("mandatory_features").read_text().split()
    dyes, parts = {"DNA", "ER", "RNA", "AGP", "Mito"}, ("Cells_", "Cytoplasm_", "Nuclei_")
    assert set(collection.names) == {n for n in listed if n.startswith(parts) and dyes & set(n.split("_"))}
    for source in collection:
        plate = source.read()
        check_profiles(plate, source.plate, allow_nan=True)
        assert plate.names == collection.names
        # Each value comes from the column of its name, though the columns of every file are in another order.
        frame = pd.read_parquet(plate_file(files, source.plate)).set_index("Metadata_Well")
        expected = frame.loc[plate.metadata["Metadata_Well"], list(collection.names)].to_numpy(dtype=np.float32)
        np.testing.assert_array_equal(plate.features, expected)


def test_joined_metadata_against_plain_lookups(raw):
    files = raw("cpg0016")
    metadata = pd.concat([source.read().metadata for source in files.read()], ignore_index=True)
    wells = pd.read_csv(files.path("well")).set_index(["Metadata_Plate", "Metadata_Well"])["Metadata_JCP2022"]
    keys = pd.read_csv(files.path("compound")).set_index("Metadata_JCP2022")["Metadata_InChIKey"]
    controls = pd.read_csv(files.path("perturbation_control")).set_index("Metadata_JCP2022")
    plates = pd.read_csv(files.path("plate")).set_index("Metadata_Plate")
    for row in metadata.itertuples(index=False):
        jcp = wells[row.Metadata_Plate, row.Metadata_Well]
        assert row.Metadata_JCP2022 == jcp
        assert row.Metadata_Perturbation == keys[jcp]
        known = jcp in controls.index
        assert row.Metadata_Control == (controls.loc[jcp, "Metadata_pert_type"] if known else "trt")
        assert row.Metadata_Compound == (controls.loc[jcp, "Metadata_Name"] if known else jcp)
        assert row.Metadata_Batch == plates.loc[row.Metadata_Plate, "Metadata_Batch"]
        assert row.Metadata_Source == plates.loc[row.Metadata_Plate, "Metadata_Source"]
        assert row.Metadata_PlateType == "TARGET2"
    assert set(metadata["Metadata_Source"]) == {"source_2", "source_3"}
    assert set(metadata["Metadata_Microscope"]) == {"CV8000", "Opera Phenix"}
    assert metadata.loc[metadata["Metadata_Compound"] == "DMSO", "Metadata_Control"].eq("negcon").all()


def test_every_well_is_either_read_or_explained(raw):
    files = raw("cpg0016")
    collection = files.read()
    seen = {f"{s.plate}/{w}" for s in collection for w in s.read().metadata["Metadata_Well"]}
    out = collection.excluded[collection.excluded["what"] == "well"]
    assert out["id"].is_unique
    profiled = {
        f"{s.plate}/{w}" for s in collection for w in pd.read_parquet(plate_file(files, s.plate))["Metadata_Well"]
    }
    listed = pd.read_csv(files.path("well"))
    listed = set(listed["Metadata_Plate"] + "/" + listed["Metadata_Well"])
    assert seen | set(out["id"]) == profiled | listed
    assert not seen & set(out["id"])
    assert out["reason"].value_counts().to_dict() == {
        "in the well table, but not profiled": 4,
        "no label in the well table": 4,
        "profiled, but not in the well table": 4,
        "untreated well": 4,
    }


def test_compound_without_inchikey_goes_by_its_jcp_id(raw):
    files = raw("cpg0016")
    edit_table(files.path("compound"), lambda t: t[t["Metadata_JCP2022"] != "JCP2022_700001"])
    collection = files.read()
    metadata = pd.concat([s.read().metadata for s in collection])
    rows = metadata[metadata["Metadata_JCP2022"] == "JCP2022_700001"]
    assert len(rows)
    assert (rows["Metadata_Perturbation"] == "JCP2022_700001").all()
    assert collection.notes["perturbations without InChIKey"] == ["JCP2022_700001"]


def test_whole_plates_of_each_batch_are_held_out(raw):
    files = raw("cpg0016", plates_per_batch=5)
    metadata = pd.concat([s.read().metadata for s in files.read()])
    assert (metadata.groupby("Metadata_Plate")["Metadata_Split"].nunique() == 1).all()
    plates = metadata.drop_duplicates("Metadata_Plate")
    assert plates.groupby("Metadata_Batch")["Metadata_Split"].apply(lambda s: (s == "test").sum()).tolist() == [
        2,
        2,
    ]


def test_split_depends_on_names_and_seed_alone():
    names = [f"P{i}" for i in range(10)]
    plates = pd.DataFrame({"Metadata_Source": "s", "Metadata_Batch": "b", "Metadata_Plate": names})
    split = split_by_plate(plates, 0.3, 0)
    assert (split == "test").sum() == 3
    other = pd.concat([plates, plates.assign(Metadata_Batch="c", Metadata_Plate=[f"Q{i}" for i in range(10)])])
    assert split_by_plate(other.sample(frac=1, random_state=1), 0.3, 0)[names].equals(split)
    assert not split_by_plate(plates, 0.3, 1).equals(split)
    assert split_by_plate(plates.iloc[:1], 0.9, 0).tolist() == ["train"]
    assert sorted(split_by_plate(plates.iloc[:2], 0.99, 0)) == ["test", "train"]


def test_blocked_and_missing_plates_are_listed(raw):
    files = raw("cpg0016")
    plate_file(files).unlink()
    files.spec["plates"]["missing"] = "error"
    with pytest.raises(DataError, match="SIM0201001.parquet: no such file"):
        files.read()
    files.spec["plates"]["missing"] = "record"
    block = {"source": "source_3", "plate": "SIM0301002", "reason": "rotated"}
    files.spec["plates"]["select"]["block"] = [block]
    collection = files.read()
    assert [s.plate for s in collection] == ["SIM0201002", "SIM0301001"]
    out = collection.excluded[collection.excluded["what"] == "plate"].set_index("id")["reason"]
    assert out["SIM0301002"] == "rotated"
    assert "no file" in out["SIM0201001"]


def test_missing_mandatory_feature_is_named_or_dropped_everywhere(raw):
    files = raw("cpg0016")
    gone = files.read().names[3]
    edit_plate(plate_file(files), lambda f: f.drop(columns=gone))
    with pytest.raises(DataError, match=f"plate SIM0201001 .*feature {gone} is missing"):
        files.read()
    files.spec["reader_options"]["missing_features"] = "exclude"
    collection = files.read()
    assert gone not in collection.names
    assert collection.excluded.set_index("id").loc[gone, "reason"] == "missing in 1 of 4 plates"


def test_without_a_list_most_plates_decide(raw):
    files = raw("cpg0016")
    names = files.read().names
    files.spec["files"] = [f for f in files.spec["files"] if f["name"] != "mandatory_features"]
    assert files.read().names == names
    edit_plate(plate_file(files), lambda f: f.drop(columns=names[0]))
    with pytest.raises(DataError, match=f"feature {names[0]} is missing"):
        files.read()


def test_extra_columns_are_left_out_and_listed(raw):
    out = raw("cpg0016").read().excluded.set_index("id")
    assert (
        out.loc["Cells_Intensity_MeanIntensity_BFHighZ", "reason"] == "in 2 of 4 plates, not a mandatory feature"
    )
    assert (out[out["what"] == "feature"]["reason"] == "names none of the chosen dyes or compartments").any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.drop(columns="Metadata_Well"), "column Metadata_Well is missing"),
        (lambda f: pd.concat([f, f.iloc[[5]]]), "occurs twice"),
        (lambda f: f.assign(Metadata_Plate="OTHER"), "Metadata_Plate is 'OTHER'"),
        (lambda f: f.assign(Metadata_Source="source_9"), "Metadata_Source is 'source_9'"),
        (lambda f: f.assign(Metadata_Well=None), "Metadata_Well is empty"),
    ],
)
def test_bad_plate_files(raw, change, words):
    files = raw("cpg0016")
    edit_plate(plate_file(files), change)
    with pytest.raises(DataError, match=words) as caught:
        files.read()
    assert str(plate_file(files)) in str(caught.value)


def test_corrupted_plate_file(raw):
    files = raw("cpg0016")
    path = plate_file(files)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="SIM0201001.parquet: not a readable parquet file"):
        files.read()
    # The footer is sound here, the data are not: found when the plate is read.
    path.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    with pytest.raises(DataError, match="SIM0201001.parquet"):
        list(files.read())[0].read()


def test_repeated_column_and_text_feature(raw):
    files = raw("cpg0016")
    path = plate_file(files)
    table = pq.read_table(path)
    name = files.read().names[0]
    pq.write_table(table.append_column(name, table.column(name)), path)
    with pytest.raises(DataError, match=f"column {name} occurs twice"):
        files.read()
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, pa.array(["x"] * len(table))), path)
    with pytest.raises(DataError, match=f"feature {name} has type string"):
        list(files.read())[0].read()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("well", lambda t: pd.concat([t, t.iloc[[7]]]), "well .* occurs again"),
        ("well", lambda t: t.drop(columns="Metadata_JCP2022"), "column Metadata_JCP2022 is missing"),
        ("well", lambda t: t.assign(Metadata_Source="2"), "Metadata_Source is '2'"),
        ("well", lambda t: t.assign(Metadata_Source="source_3"), "the plate table names another"),
        ("compound", lambda t: pd.concat([t, t.iloc[[0]]]), f"compound {DMSO} occurs again"),
        ("compound", lambda t: t.drop(columns="Metadata_InChIKey"), "column Metadata_InChIKey is missing"),
        (
            "perturbation_control",
            lambda t: t.assign(Metadata_pert_type="control"),
            "is 'control', expected negcon",
        ),
        # An older release of this table wrote plain numbers; a join would silently match nothing.
        (
            "microscope_config",
            lambda t: t.assign(Metadata_Source=t["Metadata_Source"].str[7:]),
            "Metadata_Source is '2' in data row 1, expected source_<number>",
        ),
    ],
)
def test_bad_tables(raw, name, change, words):
    files = raw("cpg0016")
    edit_table(files.path(name), change)
    with pytest.raises(DataError, match=words) as caught:
        files.read()
    assert str(files.path(name)) in str(caught.value)


def test_source_without_microscope_is_noted(raw):
    files = raw("cpg0016")
    edit_table(files.path("microscope_config"), lambda t: t[t["Metadata_Source"] != "source_3"])
    collection = files.read()
    assert collection.notes["sources without microscope"] == ["source_3"]
    assert all(s.read().metadata["Metadata_Microscope"].isna().all() for s in list(collection)[2:])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"feature": {}}, "unknown key 'feature'"),
        ({"features": {"dye": ["DNA"]}}, "unknown key 'dye'"),
        ({"missing_features": "ignore"}, "missing_features is 'ignore'"),
    ],
)
def test_wrong_options(raw, options, words):
    files = raw("cpg0016")
    files.spec["reader_options"] |= options
    with pytest.raises(SpecError, match=words):
        files.read()


@pytest.mark.parametrize(
    ("text", "words"), [("", "is empty"), ("A_b\nA_b\n", "occurs twice"), ("<html>\n", "line 1 is '<html>'")]
)
def test_bad_feature_lists(raw, text, words):
    files = raw("cpg0016")
    files.path("mandatory_features").write_text(text)
    with pytest.raises(DataError, match=words):
        files.read()
