import pytest

from morphobench.datasets.lincs_tables import DOSES, file_stem, read_plates, read_treatments, read_wells
from morphobench.errors import DataError

from . import lincs
from .conftest import load_spec

M1 = lincs.MAPS["M1"]


@pytest.fixture
def files(tmp_path):
    return lincs.write(tmp_path)


def test_plates_with_images_are_numbered_by_barcode(files):
    plates = read_plates(files)
    assert plates[["plate", "platemap", "replicate"]].values.tolist() == [
        ["SQ00000002", "M1", 1],
        ["SQ00000003", "M1", 2],
        ["SQ00000004", "M1", 3],
        ["SQ00000005", "M1", 4],
        ["SQ00000006", "M2", 1],
        ["SQ00000007", "M1", 5],
    ]
    assert plates["folder"][0] == "SQ00000002__2016-05-23T20_44_31-Measurement1"


def test_wells_join_platemaps_and_mechanisms(files):
    wells = read_wells(files)
    assert len(wells) == 5 * 5 + 3
    columns = ["well", "broad_sample", "concentration", "level", "compound", "moa"]
    one = wells[wells["plate"] == "SQ00000002"][columns].values.tolist()
    assert one == [
        ["A01", "DMSO", 0.0, 0, "DMSO", None],
        ["A02", "DMSO", 0.0, 0, "DMSO", None],
        ["B02", "BRD-A00000001-001-01-1", 10.0, 6, "one", "kinase inhibitor"],
        ["B03", "BRD-A00000001-001-01-1", pytest.approx(10 / 3, rel=1e-6), 5, "one", "kinase inhibitor"],
        ["P24", "BRD-A00000002-001-01-1", pytest.approx(6.7937, rel=1e-4), 6, "two", None],
    ]
    # Joined on the first 13 characters where the batch differs; unknown compounds keep that part as their name.
    two = wells[wells["plate"] == lincs.OTHER][columns].values.tolist()
    assert two[1] == ["B02", "BRD-A00000003-001-07-7", 10.0, 6, "three", "antagonist"]
    assert two[2][3:] == [1, "BRD-A00000004", None]


def test_an_ambiguous_compound_has_no_mechanism(tmp_path):
    more = "BRD-A00000003-001-02-8\tBRD-A00000003\tthree\tCCC\tagonist\n"
    wells = read_wells(lincs.write(tmp_path, moa=lincs.MOA + more))
    own = wells[wells["broad_sample"] == "BRD-A00000003-001-07-7"]
    assert own[["compound", "moa"]].values.tolist() == [["BRD-A00000003", None]]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"platemap_M1": M1 + "M1\tB02\t\t\t\tDMSO\n"}, "well B02 occurs again in data row 6"),
        ({"platemap_M1": M1.replace("mmoles_per_liter", "dose")}, "column mmoles_per_liter is missing"),
        ({"platemap_M1": M1.replace("P24", "Q24")}, "well_position is 'Q24' in data row 4"),
        ({"platemap_M1": M1.replace("6.79369056369968", "")}, "mmoles_per_liter is nan in data row 4"),
        ({"platemap_M1": M1.replace("6.79369056369968", "much")}, "mmoles_per_liter is 'much' in data row 4"),
        ({"platemap_M1": M1.replace("M1\tP24", "M2\tP24")}, "plate_map_name is 'M2' in data row 4"),
        ({"barcode_platemap": lincs.BARCODES + "SQ00000002,M2,1,2016-03-22\n"}, "plate SQ00000002 occurs again"),
        (
            {"barcode_platemap": lincs.BARCODES.replace("Plate_Map_Name", "Map")},
            "column Plate_Map_Name is missing",
        ),
        ({"plates": lincs.FOLDERS + "SQ00000002__x\n"}, "plate SQ00000002 occurs again in line 7"),
        ({"plates": lincs.FOLDERS + "SQ00000099__x\n"}, "has no row of plate SQ00000099"),
        ({"plates": "SQ00000002\n"}, "line 1 is 'SQ00000002', expected <barcode>__<measurement>"),
        ({"moa": lincs.MOA + lincs.MOA.splitlines()[1] + "\n"}, "compound BRD-A00000001-001-01-1 occurs again"),
        ({"moa": lincs.MOA.replace("pert_iname", "name")}, "column pert_iname is missing"),
    ],
)
def test_bad_tables_are_one_sentence(tmp_path, changed, words):
    files = lincs.write(tmp_path, **changed)
    with pytest.raises(DataError, match=words) as error:
        read_wells(files)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_platemap_that_is_not_among_the_files(tmp_path):
    files = lincs.write(tmp_path)
    del files["platemap_M2"]
    with pytest.raises(DataError, match="'platemap_M2' is not among the files"):
        read_wells(files)


def test_lists_of_treatments(tmp_path):
    files = lincs.write(tmp_path)
    assert list(read_treatments(files["treatments"])) == ["BRD-A00000001-001-01-1", "BRD-A00000003-001-07-7"]
    with pytest.raises(DataError, match="no such file; expected the list of treatments"):
        read_treatments(tmp_path / "nothing.tsv")
    files["treatments"].write_text("broad_sample\tmoa\nBRD-1\t\n")
    with pytest.raises(DataError, match="moa is nan in data row 1, expected a mechanism"):
        read_treatments(files["treatments"])


def test_names_of_wells():
    assert file_stem("A01", 1) == "r01c01f01p01"
    assert file_stem("P24", 9) == "r16c24f09p01"
    with pytest.raises(DataError, match="well 'A1'"):
        file_stem("A1", 1)


@pytest.fixture
def real(root, mirror, tmp_path):
    """The mirror's tables; the list of plate folders is not in the mirror and made from the spec's units."""
    from morphobench.fetch import local_path

    spec = load_spec(root, "cpg0004")
    files = {e["name"]: local_path(e["url"], mirror) for e in spec["files"]}
    if not files["plates"].is_file():
        files["plates"] = tmp_path / "plates.txt"
        files["plates"].write_text("".join(f"{u}__x-Measurement1\n" for u in spec["images"]["units"]))
    return files


@pytest.mark.mirror
def test_the_real_tables_have_the_known_counts(real, root):
    import pandas as pd

    barcodes = pd.read_csv(real["barcode_platemap"])
    assert (len(barcodes), barcodes["Plate_Map_Name"].nunique()) == (140, 28)
    units = load_spec(root, "cpg0004")["images"]["units"]
    without = sorted(set(barcodes["Assay_Plate_Barcode"]) - set(units))
    assert without == ["SQ00015225", "SQ00015226", "SQ00015227", "SQ00015228"]
    assert len(units) == len(set(units)) == 136
    plates = read_plates(real)
    assert plates["plate"].tolist() == units
    assert plates.groupby("platemap").size().value_counts().to_dict() == {5: 26, 4: 1, 2: 1}
    wells = read_wells(real)
    assert (wells.groupby("plate").size() == 384).all()
    assert (wells[wells["broad_sample"] == "DMSO"].groupby("plate").size() == 24).all()
    # Rows of the index that neural-profiling shows (old_index_maker.ipynb).
    numbers = plates.set_index("plate")["replicate"]
    assert numbers[["SQ00014812", "SQ00015056", "SQ00015142", "SQ00015143"]].tolist() == [1, 1, 1, 2]


@pytest.mark.mirror
def test_the_real_doses_are_at_seven_levels(real):
    wells = read_wells(real)
    share = (
        wells[wells["level"] > 0]
        .groupby("level")["concentration"]
        .apply(lambda dose: ((dose / DOSES[dose.name - 1] - 1).abs() < 0.05).mean())
    )
    assert share.index.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert (share > 0.97).all()
