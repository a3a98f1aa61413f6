import pandas as pd
import pytest

from morphobench.datasets.collection import read_table
from morphobench.datasets.jump_annotations import moa_of, read_moa
from morphobench.errors import DataError, SpecError

HEAD = "broad_sample\tInChIKey\tpert_iname\tmoa\n"
BLOCK = "AAAAAAAAAAAAAA"


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "moa.tsv"
    path.write_text(
        f"{HEAD}1\t{BLOCK}-BBBBBBBBBB-N\tone\tfirst inhibitor\n"
        f"2\t{BLOCK}-CCCCCCCCCC-N\ttwo\tsecond inhibitor\n"
        "3\tDDDDDDDDDDDDDD-BBBBBBBBBB-N\tthree\tfirst inhibitor\n"
        "NA\tIAZDPXIOMUYVGZ-UHFFFAOYSA-N\tDMSO\tNA\n"
        "Compound1\tNA\tCompound1\tthird inhibitor\n"
    )
    return path


def looked_up(table, key, name=None):
    wells = pd.DataFrame({"jcp": ["J1"], "key": [key], "name": [name]}, dtype=object)
    return moa_of(wells["jcp"], wells["key"], wells["name"], table).iloc[0]


def test_na_stands_for_nothing(table):
    found = read_moa(table)
    assert list(found["pert_iname"]) == ["one", "two", "three", "Compound1"]
    assert found["InChIKey"].isna().tolist() == [False, False, False, True]


def test_mechanisms_by_name_then_key_then_block(table):
    moa = read_moa(table)
    assert looked_up(moa, f"{BLOCK}-CCCCCCCCCC-N") == "second inhibitor"
    assert looked_up(moa, "DDDDDDDDDDDDDD-ZZZZZZZZZZ-M") == "first inhibitor"
    # Two compounds share the block and differ in mechanism.
    assert looked_up(moa, f"{BLOCK}-ZZZZZZZZZZ-N") is None
    assert looked_up(moa, f"{BLOCK}-BBBBBBBBBB-N", "two") == "second inhibitor"
    assert looked_up(moa, "EEEEEEEEEEEEEE-ZZZZZZZZZZ-N", "three") == "first inhibitor"
    assert looked_up(moa, None) is None
    assert looked_up(moa, "IAZDPXIOMUYVGZ-UHFFFAOYSA-N", "DMSO") is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"4\t{BLOCK}-BBBBBBBBBB-N\tfour\tother inhibitor\n", f"InChIKey {BLOCK}-BBBBBBBBBB-N has two mechanisms"),
        ("4\tEEEEEEEEEEEEEE-BBBBBBBBBB-N\tone\tother inhibitor\n", "pert_iname one has two mechanisms"),
    ],
)
def test_two_mechanisms_of_one_compound(table, line, words):
    table.write_text(table.read_text() + line)
    with pytest.raises(DataError, match=words):
        read_moa(table)


def test_bad_tables(table):
    table.write_text(HEAD.replace("moa", "MOA"))
    with pytest.raises(DataError, match="column moa is missing"):
        read_moa(table)
    with pytest.raises(DataError, match="not a readable table"):
        read_moa(table.with_name("absent.tsv"))


def read(files, **options):
    files.spec["reader_options"] = {**files.spec["reader_options"], **options}
    collection = files.read()
    return pd.concat([s.read().metadata for s in collection], ignore_index=True), collection


def known(files):
    """The mechanism of every perturbation that the simulated table has, looked up plainly."""
    moa = pd.read_csv(files.path("jump_moa"), sep="\t", keep_default_na=False)
    moa = moa[(moa["moa"] != "NA") & (moa["InChIKey"] != "NA")]
    return dict(zip(moa["InChIKey"], moa["moa"], strict=True))


def test_wells_can_be_chosen(raw):
    files = raw("cpg0016", compounds=9)
    everything, plain = read(files, mechanisms=False)
    assert "Metadata_MoA" not in everything
    moa = known(files)
    assert plain.notes["perturbations of known mechanism"] == len(moa)
    controls, _ = read(files, wells="controls", mechanisms=False)
    pd.testing.assert_frame_equal(
        controls, everything[everything["Metadata_Control"] != "trt"].reset_index(drop=True)
    )
    curated, collection = read(files, wells="curated", mechanisms=True)
    expected = everything[
        (everything["Metadata_Control"] != "trt") | everything["Metadata_Perturbation"].isin(moa)
    ].reset_index(drop=True)
    assert len(controls) < len(expected) < len(everything)
    pd.testing.assert_frame_equal(curated.drop(columns="Metadata_MoA"), expected)
    for perturbation, found in zip(curated["Metadata_Perturbation"], curated["Metadata_MoA"], strict=True):
        assert found == moa.get(perturbation)
    rows = collection.excluded[collection.excluded["reason"].str.contains("wells: curated chooses")]
    assert sum(int(reason.split()[0]) for reason in rows["reason"]) == len(everything) - len(expected)
    assert len(rows) == len(collection)
    others = collection.excluded.drop(index=rows.index).reset_index(drop=True)
    pd.testing.assert_frame_equal(others, plain.excluded)


def test_features_of_chosen_wells_are_those_of_all(raw):
    files = raw("cpg0016", compounds=9)
    whole = {s.plate: s.read() for s in files.read()}
    files.spec["reader_options"]["wells"] = "curated"
    for source in files.read():
        part = source.read()
        rows = whole[source.plate].metadata["Metadata_Well"].isin(part.metadata["Metadata_Well"]).to_numpy()
        assert part.features.tobytes() == whole[source.plate].features[rows].tobytes()


def test_versions_and_filters_come_from_the_source(raw):
    metadata, _ = read(raw("cpg0016"))
    columns = ["Metadata_Source", "Metadata_CellProfiler", "Metadata_Filter"]
    found = set(metadata[columns].itertuples(index=False, name=None))
    assert found == {("source_2", "4.0.7", "A"), ("source_3", "4.2.1", "A")}


def test_wrong_choices(raw):
    files = raw("cpg0016")
    with pytest.raises(SpecError, match="wells is 'some', expected one of all, controls, curated"):
        read(files, wells="some")
    files.spec["files"] = [f for f in files.spec["files"] if f["name"] != "jump_moa"]
    for options in ({"wells": "curated"}, {"wells": "all", "mechanisms": True}):
        with pytest.raises(SpecError, match="jump_moa"):
            read(files, **options)


@pytest.mark.mirror
def test_real_tables(real):
    raw = real("cpg0016")
    moa = read_moa(raw.path("jump_moa"))
    # The README of JUMP-MOA: 90 compounds of 47 mechanisms, eight of them de-identified.
    assert (len(moa), moa["moa"].nunique(), moa["InChIKey"].isna().sum()) == (90, 47, 8)
    controls = read_table(raw.path("perturbation_control"), ["Metadata_JCP2022"], dtype=str)
    controls = controls[controls["Metadata_modality"] == "compound"].reset_index(drop=True)
    jcp, names = controls["Metadata_JCP2022"], controls["Metadata_Name"]
    found = moa_of(jcp, pd.Series(None, index=jcp.index, dtype=object), names, moa)
    assert dict(zip(names[found.notna()], found.dropna(), strict=True)) == {
        "AMG900": "Aurora kinase inhibitor",
        "NVS-PAK1-1": "p21 activated kinase inhibitor",
    }
    versions = read_table(raw.path("cellprofiler_version"), ["Metadata_Source"], dtype=str)
    plates = pd.read_csv(raw.path("plate"))
    assert set(plates["Metadata_Source"]) == set(versions["Metadata_Source"])
