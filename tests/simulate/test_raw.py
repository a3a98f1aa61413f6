import zipfile

import pandas as pd
import pytest

from morphobench.errors import SpecError
from morphobench.fetch import fetch_dataset, read_manifest
from morphobench.files import sha256_of
from morphobench.simulate.raw import RawFolder, gzip_bytes

from .conftest import SPECS


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", SPECS)
def test_same_seed_same_bytes_and_other_seed_other_bytes(kind, tmp_path):
    spec = SPECS[kind]
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        spec["simulate"](spec["small"], tmp_path / name, seed)
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a != c


@pytest.mark.parametrize("kind", SPECS)
def test_manifest_describes_every_file_and_can_be_fetched_from(kind, tmp_path):
    spec = SPECS[kind]
    records = spec["simulate"](spec["small"], tmp_path / "sim", 0)
    assert read_manifest(tmp_path / "sim" / "manifest.tsv") == records
    written = {p for p in (tmp_path / "sim").rglob("*") if p.is_file()}
    listed = {tmp_path / "sim" / r["path"] for r in records}
    assert written - listed == {tmp_path / "sim" / "manifest.tsv", tmp_path / "sim" / "truth.tsv"}
    for record in records:
        path = tmp_path / "sim" / record["path"]
        assert (path.stat().st_size, sha256_of(path)) == (record["size"], record["sha256"])
    dataset = {
        "licence": {"name": "none"},
        "files": [{"name": n, "url": u, "size": 1, "sha256": "0" * 64} for n, u in spec["files"].items()],
        "plates": spec["plates"]
        and {**spec["plates"], "selector": "morphobench.datasets.jump_selection:select_plates"},
    }
    fetched = fetch_dataset(
        dataset, tmp_path / "raw", tmp_path / "sim", manifest=tmp_path / "sim" / "manifest.tsv"
    )
    assert {r["url"] for r in fetched} == {r["url"] for r in records}
    assert len(pd.read_csv(tmp_path / "sim" / "truth.tsv", sep="\t"))


@pytest.mark.parametrize("kind", SPECS)
@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"treatment_efect": 1}, "unknown parameter 'treatment_efect'"),
        ({"treatment_effect": -1}, "treatment_effect is -1"),
        ({"treatment_effect": "much"}, "treatment_effect is 'much'"),
        ({"noise": True}, "noise is True"),
        ({"noise": float("nan")}, "noise is nan"),
    ],
)
def test_impossible_parameters(kind, parameters, words, tmp_path):
    with pytest.raises(SpecError, match=words):
        SPECS[kind]["simulate"](parameters, tmp_path, 0)


@pytest.mark.parametrize(
    ("kind", "parameters", "words"),
    [
        ("jump", {"wells": 400}, "wells is 400, expected 24 to 384"),
        ("jump", {"mechanisms": 50, "compounds": 40}, "mechanisms is 50"),
        ("jump", {"features": 100_000}, "features is 100000"),
        ("jump", {"sources": 1.5}, "sources is 1.5, expected a whole number"),
        ("jump", {"missing": 1.5}, "missing is 1.5"),
        ("bbbc021", {"weeks": 1}, "weeks_per_compound is 2"),
        ("bbbc021", {"compounds_per_mechanism": 20}, "a plate would need"),
        ("bbbc021", {"features": 100_000}, "features is 100000"),
        ("bbbc021", {"controls_per_plate": 0}, "controls_per_plate is 0"),
        ("funk22", {"genes": 20}, "genes is 20"),
        ("funk22", {"functional_share": 2}, "functional_share is 2"),
        ("funk22", {"genes": 100, "complexes": 60}, "complexes is 60"),
    ],
)
def test_impossible_shapes(kind, parameters, words, tmp_path):
    with pytest.raises(SpecError, match=words):
        SPECS[kind]["simulate"](parameters, tmp_path, 0)


def test_gzip_has_no_time_in_it():
    assert gzip_bytes(b"x")[4:8] == b"\0\0\0\0"


def test_a_zip_is_whole_or_not_there(tmp_path):
    url = "https://host/a.zip"
    out = RawFolder(tmp_path)
    with pytest.raises(TypeError), out.zip(url) as add:
        add("one.txt", None)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert not out.records
    with out.zip(url) as add:
        add("one.txt", b"1")
        add("two/three.txt", b"23")
    with zipfile.ZipFile(tmp_path / "host" / "a.zip") as archive:
        assert archive.namelist() == ["one.txt", "two/three.txt"]
        assert archive.read("two/three.txt") == b"23"
    assert out.records[0]["sha256"] == sha256_of(tmp_path / "host" / "a.zip")
