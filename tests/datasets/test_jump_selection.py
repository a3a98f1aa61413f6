import pandas as pd
import pytest

from morphobench.datasets.jump_selection import SCENARIOS, select_plates, split_plates
from morphobench.errors import DataError, SpecError
from morphobench.specs import load_house

from .conftest import load_spec

# Plates and batches of the scenarios of Arevalo et al. 2024, recounted with the plate table of the pinned commit.
COUNTS = {1: (21, 13), 2: (37, 29), 3: (689, 44), 4: (66, 46), 5: (1029, 61)}


@pytest.fixture
def files(tmp_path):
    rows = [
        ("source_1", "b1", "P1", "TARGET2"),
        ("source_1", "b1", "P2", "COMPOUND"),
        ("source_1", "b2", "P3", "TARGET2"),
        ("source_2", "b3", "P4", "DMSO"),
    ]
    table = pd.DataFrame(
        rows, columns=["Metadata_Source", "Metadata_Batch", "Metadata_Plate", "Metadata_PlateType"]
    )
    table.iloc[::-1].to_csv(tmp_path / "plate.csv.gz", index=False)
    return {"plate": tmp_path / "plate.csv.gz"}


@pytest.mark.mirror
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenarios_have_the_known_numbers_of_plates(root, real, scenario):
    raw = real("cpg0016")
    select = load_spec(root, "cpg0016")["plates"]["select"]
    select = {**select, "scenario": scenario, "plate_types": None}
    chosen, blocked = split_plates({"plate": raw.path("plate")}, select)
    assert (len(chosen), chosen["Metadata_Batch"].nunique()) == COUNTS[scenario]
    assert len(blocked) == (125 if scenario == 5 else 0)


@pytest.mark.mirror
def test_full_scale_is_the_papers_sources_and_all_their_compound_plates(root, real):
    """The number that README and docs/data.md name."""
    spec = load_house(root, {"scale": "full"}).datasets["cpg0016"]
    chosen, _ = split_plates({"plate": real("cpg0016").path("plate")}, spec["plates"]["select"])
    assert (len(chosen), chosen["Metadata_Source"].nunique()) == (1819, 12)
    assert not set(chosen["Metadata_PlateType"]) & {"ORF", "CRISPR"}
    for page in ("README.md", "docs/data.md", "docs/decisions.md"):
        assert "1,819" in (root / page).read_text()


@pytest.mark.mirror
def test_every_entry_of_the_block_list_exists(root, real):
    raw = real("cpg0016")
    select = load_spec(root, "cpg0016")["plates"]["select"]
    table = pd.read_csv(raw.path("plate"))
    for entry in select["block"]:
        column = "Metadata_Batch" if "batch" in entry else "Metadata_Plate"
        hit = (table["Metadata_Source"] == entry["source"]) & (
            table[column] == entry.get("batch", entry.get("plate"))
        )
        assert hit.any(), entry
    everything = {**select, "plate_types": None}
    chosen, blocked = split_plates({"plate": raw.path("plate")}, everything)
    assert len(chosen) + len(blocked) == 2525
    assert "CP1-SC2-25" in set(blocked["Metadata_Plate"])


def test_selection_is_sorted_and_combines(files):
    assert select_plates(files, {})["Metadata_Plate"].tolist() == ["P1", "P2", "P3", "P4"]
    assert select_plates(files, {"plate_types": ["TARGET2"]})["Metadata_Plate"].tolist() == ["P1", "P3"]
    assert select_plates(files, {"sources": ["source_1"], "batches": ["b1"]})["Metadata_Plate"].tolist() == [
        "P1",
        "P2",
    ]
    assert select_plates(files, {"plates": ["P4"], "sources": None})["Metadata_Plate"].tolist() == ["P4"]


def test_blocked_plates_are_given_with_their_reason(files):
    block = [{"source": "source_1", "batch": "b1", "keep_types": ["TARGET2"], "reason": "odd"}]
    chosen, blocked = split_plates(
        files, {"block": [*block, {"source": "source_2", "plate": "P4", "reason": "wet"}]}
    )
    assert chosen["Metadata_Plate"].tolist() == ["P1", "P3"]
    assert blocked[["Metadata_Plate", "reason"]].values.tolist() == [["P2", "odd"], ["P4", "wet"]]


@pytest.mark.parametrize(
    ("select", "error", "words"),
    [
        ({"source": ["source_1"]}, SpecError, "unknown key 'source'"),
        ({"scenario": 6}, SpecError, "scenario is 6"),
        ({"sources": ["source_3"]}, SpecError, "'source_3'"),
        ({"plate_types": ["TARGET1"]}, SpecError, "'TARGET1'"),
        ({"sources": ["source_2"], "plate_types": ["TARGET2"]}, DataError, "no plate fits"),
        ({"block": [{"source": "source_1", "batch": "b1"}]}, SpecError, "block entry"),
        ({"block": [{"source": "source_1", "reason": "x"}]}, SpecError, "block entry"),
    ],
)
def test_wrong_selections(files, select, error, words):
    with pytest.raises(error, match=words):
        select_plates(files, select)


def test_bad_plate_tables(files):
    table = pd.read_csv(files["plate"])
    pd.concat([table, table.iloc[[0]]]).to_csv(files["plate"], index=False)
    with pytest.raises(DataError, match="plate P4 occurs again"):
        select_plates(files, {})
    table.drop(columns="Metadata_Batch").to_csv(files["plate"], index=False)
    with pytest.raises(DataError, match="column Metadata_Batch is missing"):
        select_plates(files, {})
    files["plate"].write_bytes(files["plate"].read_bytes()[:40])
    with pytest.raises(DataError, match="not a readable table"):
        select_plates(files, {})
