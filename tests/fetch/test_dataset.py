import gzip
import hashlib
from collections import namedtuple

import pandas as pd
import pytest

from morphobench.errors import DataError, FetchError, SpecError
from morphobench.fetch import fetch_dataset, local_path, read_manifest, write_manifest
from morphobench.fetch.failures import DamagedError
from morphobench.fetch.policy import Policy
from morphobench.fetch.transport import MissingError, Transport

PLATES = "https://gallery.invalid/{source}/{batch}/{plate}.parquet"
TABLE = "https://tables.invalid/plate.csv.gz"


def spec(content, **plates):
    return {
        "licence": {"name": "CC0-1.0"},
        "files": [
            {"name": "plate", "url": TABLE, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        ],
        "plates": {
            "url": PLATES,
            "selector": "morphobench.datasets.jump_selection:select_plates",
            "select": {"sources": ["source_1"]},
            **plates,
        },
    }


@pytest.fixture
def mirrored(tmp_path):
    table = pd.DataFrame(
        {
            "Metadata_Source": ["source_1", "source_1", "source_2"],
            "Metadata_Batch": ["b1", "b1", "b2"],
            "Metadata_Plate": ["P2", "P1", "P3"],
            "Metadata_PlateType": "TARGET2",
        }
    )
    content = gzip.compress(table.to_csv(index=False).encode(), mtime=0)
    mirror = tmp_path / "mirror"
    for url, data in (
        (TABLE, content),
        (PLATES.format(source="source_1", batch="b1", plate="P1"), b"one"),
        (PLATES.format(source="source_1", batch="b1", plate="P2"), b"two"),
    ):
        path = local_path(url, mirror)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return mirror, content


def test_tables_then_exactly_the_selected_plates(mirrored, tmp_path):
    mirror, content = mirrored
    records = fetch_dataset(spec(content), tmp_path / "raw", mirror)
    assert [r["name"] for r in records] == ["plate", "P1", "P2"]
    assert [r.get("plate") for r in records] == [None, "P1", "P2"]
    assert {r["licence"] for r in records} == {"CC0-1.0"}
    assert all(local_path(r["url"], tmp_path / "raw").is_file() for r in records)
    again = fetch_dataset(spec(content), tmp_path / "raw", mirror)
    assert {r["status"] for r in again} == {"present"}


def test_missing_plate_is_an_error_or_a_row(mirrored, tmp_path):
    mirror, content = mirrored
    local_path(PLATES.format(source="source_1", batch="b1", plate="P2"), mirror).unlink()
    with pytest.raises(MissingError, match="P2"):
        fetch_dataset(spec(content), tmp_path / "raw", mirror)
    records = fetch_dataset(spec(content, missing="record"), tmp_path / "other", mirror)
    assert [(r["name"], r["status"], r["size"]) for r in records[1:]] == [
        ("P1", "mirrored", 3),
        ("P2", "missing", None),
    ]
    write_manifest(records, tmp_path / "manifest.tsv")
    back = read_manifest(tmp_path / "manifest.tsv")
    assert [r["status"] for r in back] == ["mirrored", "mirrored", "missing"]
    assert back[0]["size"] == len(content)
    assert back[2]["size"] is None


def test_no_plate_at_all_is_an_error(mirrored, tmp_path):
    mirror, content = mirrored
    for plate in ("P1", "P2"):
        local_path(PLATES.format(source="source_1", batch="b1", plate=plate), mirror).unlink()
    with pytest.raises(FetchError, match="none of the 2 plates"):
        fetch_dataset(spec(content, missing="record"), tmp_path / "raw", mirror)


def test_a_manifest_replaces_the_pins(mirrored, tmp_path):
    mirror, content = mirrored
    wrong = spec(content)
    wrong["files"][0] |= {"size": 1, "sha256": "0" * 64}
    with pytest.raises(FetchError, match="expected 1 bytes"):
        fetch_dataset(wrong, tmp_path / "raw", mirror)
    records = fetch_dataset(spec(content), tmp_path / "other", mirror)
    write_manifest(records, tmp_path / "manifest.tsv")
    fetch_dataset(wrong, tmp_path / "raw", mirror, manifest=tmp_path / "manifest.tsv")
    local_path(PLATES.format(source="source_1", batch="b1", plate="P1"), mirror).write_bytes(b"eno")
    with pytest.raises(FetchError, match="P1.parquet"):
        fetch_dataset(wrong, tmp_path / "third", mirror, manifest=tmp_path / "manifest.tsv")


def test_file_that_a_manifest_lacks(mirrored, tmp_path):
    mirror, content = mirrored
    write_manifest([], tmp_path / "manifest.tsv")
    with pytest.raises(FetchError, match="no row for"):
        fetch_dataset(spec(content), tmp_path / "raw", mirror, manifest=tmp_path / "manifest.tsv")


def test_unpinned_plate_must_stay_what_it_was(mirrored, tmp_path):
    mirror, content = mirrored
    screen = {**spec(content), "id": "screen"}
    fetch_dataset(screen, tmp_path / "raw", mirror)
    url = PLATES.format(source="source_1", batch="b1", plate="P1")
    local_path(url, mirror).write_bytes(b"eno")
    local_path(url, tmp_path / "raw").unlink()
    with pytest.raises(DamagedError, match="P1.parquet.*when first fetched on .*screen/files.tsv"):
        fetch_dataset(screen, tmp_path / "raw", mirror)
    (tmp_path / "raw" / ".first_use" / "screen" / "files.tsv").unlink()
    assert fetch_dataset(screen, tmp_path / "raw", mirror)[1]["status"] == "mirrored"


def test_simulated_files_are_not_trusted_on_first_use(mirrored, tmp_path):
    mirror, content = mirrored
    write_manifest(fetch_dataset(spec(content), tmp_path / "other", mirror), tmp_path / "manifest.tsv")
    fetch_dataset(spec(content), tmp_path / "raw", mirror, manifest=tmp_path / "manifest.tsv")
    assert not (tmp_path / "raw" / ".first_use").exists()


def test_a_users_own_copy_of_a_table(mirrored, tmp_path):
    mirror, content = mirrored
    screen = spec(content)
    screen["files"][0]["local"] = "metadata/plate.csv.gz"
    own = tmp_path / "own" / "metadata" / "plate.csv.gz"
    own.parent.mkdir(parents=True)
    own.write_bytes(content)
    local_path(TABLE, mirror).unlink()
    records = fetch_dataset(screen, tmp_path / "raw", mirror, local=tmp_path / "own")
    assert (records[0]["status"], records[0]["path"]) == ("local", str(own))
    assert [r["name"] for r in records] == ["plate", "P1", "P2"]
    own.write_bytes(content[:-1])
    with pytest.raises(FetchError, match="plate.csv.gz: not the file that is pinned"):
        fetch_dataset(screen, tmp_path / "raw", mirror, local=tmp_path / "own")


def test_space_for_all_files_is_checked_first(mirrored, tmp_path, no_network):
    _, content = mirrored
    large = spec(content)
    large["files"] += [{**large["files"][0], "url": f"https://h.invalid/{i}", "size": 10**9} for i in range(3)]
    usage = namedtuple("Usage", "total used free")
    transport = Transport(Policy(disk_usage=lambda folder: usage(0, 0, 10**9)))
    with pytest.raises(FetchError, match="what is to be fetched needs 3.0 GB .* are free"):
        fetch_dataset(large, tmp_path / "raw", transport=transport)


def test_unknown_selector(mirrored, tmp_path):
    mirror, content = mirrored
    with pytest.raises(SpecError, match="plates.selector"):
        fetch_dataset(spec(content, selector="morphobench.nowhere:x"), tmp_path / "raw", mirror)


@pytest.mark.parametrize(
    "text", ["", "url\tpath\n", "url\tpath\tsize\tsha256\tlicence\tstatus\na\tb\tc\td\te\tf\n"]
)
def test_unreadable_manifest(tmp_path, text):
    (tmp_path / "m.tsv").write_text(text)
    with pytest.raises(DataError, match="m.tsv"):
        read_manifest(tmp_path / "m.tsv")
