"""A unit as the workflow's jobs fetch it: manifests in, a manifest out."""

import hashlib

import pytest

from morphobench.errors import DataError, FetchError
from morphobench.fetch import RawFile, Variant, local_path, read_unit_manifest, write_manifest
from morphobench.fetch.screens import fetch_screen_unit, fixed_files

HOST = "https://screen.example/v1"
TABLE = f"{HOST}/plates.csv"
IMAGES = {f"P1/w{i}.png": bytes([i]) * (50 + i) for i in range(5)}
SEEN = []


def lister(unit, files, options):
    SEEN.append((unit, dict(files), dict(options)))
    return [Variant("png", tuple(RawFile(f"{HOST}/{name}", name) for name in IMAGES))]


def spec(**more):
    return {
        "id": "screen",
        "files": [{"name": "plates", "url": TABLE, "size": None, "sha256": None}],
        "licence": {"name": "CC0-1.0"},
        "local": None,
        "images": {"lister": "tests.fetch.test_screens:lister", "options": {"sites": [1]}},
        **more,
    }


def row(url, path, content):
    digest = hashlib.sha256(content).hexdigest()
    facts = {"url": url, "path": str(path), "size": len(content), "sha256": digest}
    return {**facts, "licence": "CC0-1.0", "status": "fetched"}


@pytest.fixture
def simulated(tmp_path):
    """A folder as a simulator leaves it, beside the manifest of the shared files; the simulator's manifest."""
    root = tmp_path / "simulated"
    rows = []
    for name, content in IMAGES.items():
        path = local_path(f"{HOST}/{name}", root)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        rows.append(row(f"{HOST}/{name}", path.relative_to(root), content))
    write_manifest(rows, root / "manifest.tsv")
    write_manifest([row(TABLE, tmp_path / "plates.csv", b"")], tmp_path / "files.tsv")
    return root / "manifest.tsv"


def fetched(tmp_path, given=None, **more):
    target = tmp_path / "units" / "P1.tsv"
    options = {"files": tmp_path / "files.tsv", "manifest": target, "workers": 2, **more}
    fetch_screen_unit(given or spec(), "P1", tmp_path / "raw", **options)
    return read_unit_manifest(target)


def test_a_simulated_unit_is_fetched_from_the_simulators_folder(simulated, tmp_path, no_network, capsys):
    SEEN.clear()
    records = fetched(tmp_path, simulated=simulated, mirror="https://nobody.invalid")
    ((unit, files, options),) = SEEN
    assert (unit, files, options) == ("P1", {"plates": tmp_path / "plates.csv"}, {"sites": [1]})
    assert [r["name"] for r in records] == list(IMAGES)
    for record in records:
        assert record["status"] == "mirrored"
        assert local_path(record["url"], tmp_path / "raw").read_bytes() == IMAGES[record["name"]]
    assert capsys.readouterr().out == "P1: 5 mirrored\n"


def test_the_simulators_manifest_is_what_files_must_be(simulated, tmp_path, no_network):
    local_path(f"{HOST}/P1/w1.png", simulated.parent).unlink()
    damaged = local_path(f"{HOST}/P1/w2.png", simulated.parent)
    damaged.write_bytes(b"\xff" * damaged.stat().st_size)
    records = fetched(tmp_path, simulated=simulated)
    assert [r["status"] for r in records] == ["mirrored", "missing", "damaged", "mirrored", "mirrored"]
    assert "not in the mirror" in records[1]["reason"]
    assert "expected sha256" in records[2]["reason"]


def test_without_a_simulator_a_folder_mirror_is_enough(simulated, tmp_path, no_network):
    records = fetched(tmp_path, mirror=simulated.parent)
    assert [r["status"] for r in records] == ["mirrored"] * 5


def test_a_users_own_copy_is_neither_fetched_nor_copied(simulated, tmp_path, no_network):
    own = local_path(HOST, simulated.parent)
    records = fetched(tmp_path, spec(local=str(own)))
    assert [(r["status"], r["path"]) for r in records] == [("local", str(own / n)) for n in IMAGES]
    assert not (tmp_path / "raw").exists()


def test_a_failed_unit_has_no_manifest(simulated, tmp_path, no_network):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FetchError, match=r"^unit P1: none of its 5 files could be had \(5 missing\)"):
        fetched(tmp_path, mirror=tmp_path / "empty")
    assert not (tmp_path / "units" / "P1.tsv").exists()


def test_shared_files_are_found_by_address(tmp_path):
    rows = [row(f"{HOST}/b.csv", tmp_path / "b", b""), row(f"{HOST}/a.csv", tmp_path / "a", b"")]
    write_manifest(rows, tmp_path / "files.tsv")
    entries = [{"name": "first", "url": f"{HOST}/a.csv"}, {"name": "second", "url": f"{HOST}/b.csv"}]
    assert fixed_files(entries, tmp_path / "files.tsv") == {"first": tmp_path / "a", "second": tmp_path / "b"}


def test_a_manifest_that_lacks_a_shared_file(tmp_path):
    write_manifest([], tmp_path / "files.tsv")
    with pytest.raises(DataError, match=r"files\.tsv: has no row for .*/plates\.csv; fetch the dataset again$"):
        fixed_files(spec()["files"], tmp_path / "files.tsv")
    with pytest.raises(DataError, match="cannot be read"):
        fixed_files(spec()["files"], tmp_path / "none.tsv")
