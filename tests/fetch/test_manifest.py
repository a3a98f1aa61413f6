import multiprocessing
import zipfile

import pytest

from morphobench.errors import DataError
from morphobench.fetch import open_raw, read_manifest, read_unit_manifest, write_manifest, write_unit_manifest
from morphobench.fetch.manifest import read_any_manifest


@pytest.fixture
def unit_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "u.zip", "w") as archive:
        for i in range(20):
            archive.writestr(f"f{i}", bytes([i]) * 50_000)
    return tmp_path / "u.zip"


def test_raw_bytes_of_a_file_and_of_a_member(unit_zip, tmp_path):
    (tmp_path / "f").write_bytes(b"plain")
    assert open_raw({"path": str(tmp_path / "f"), "member": None}) == b"plain"
    assert open_raw({"path": str(unit_zip), "member": "f3"}) == b"\3" * 50_000


def test_a_zip_that_was_replaced(unit_zip):
    assert open_raw({"path": str(unit_zip), "member": "f3"})[:1] == b"\3"
    with zipfile.ZipFile(unit_zip, "w") as archive:
        archive.writestr("f3", b"new")
    assert open_raw({"path": str(unit_zip), "member": "f3"}) == b"new"


def _read(path, member):
    return open_raw({"path": path, "member": member})


def test_forked_processes_read_the_same_zip(unit_zip):
    _read(str(unit_zip), "f0")
    with multiprocessing.get_context("fork").Pool(4) as pool:
        names = [f"f{i % 20}" for i in range(200)]
        found = pool.starmap(_read, [(str(unit_zip), n) for n in names])
    assert [f[0] for f in found] == [int(n[1:]) for n in names]
    assert all(len(set(f)) == 1 for f in found)


def test_what_cannot_be_read_is_one_sentence(unit_zip, tmp_path):
    (tmp_path / "no.zip").write_bytes(b"no zip")
    for path, member, words in (
        (tmp_path / "none", None, "No such file"),
        (unit_zip, "none", "has no member 'none'"),
        (tmp_path / "no.zip", "f", "cannot be read"),
        (tmp_path / "gone.zip", "f", "No such file"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            open_raw({"path": str(path), "member": member})
        assert str(path) in str(caught.value)
    data = bytearray(unit_zip.read_bytes())
    data[200] ^= 1
    unit_zip.write_bytes(data)
    with pytest.raises(DataError, match="CRC"):
        open_raw({"path": str(unit_zip), "member": "f0"})


def test_both_kinds_are_told_apart(tmp_path):
    write_manifest([{"url": "u", "path": "p", "size": 1}], tmp_path / "a.tsv")
    write_unit_manifest([{"name": "n", "url": "u", "member": "m", "size": 1}], tmp_path / "b.tsv")
    assert read_any_manifest(tmp_path / "a.tsv") == read_manifest(tmp_path / "a.tsv")
    assert read_any_manifest(tmp_path / "b.tsv") == read_unit_manifest(tmp_path / "b.tsv")
    with pytest.raises(DataError, match="columns"):
        read_unit_manifest(tmp_path / "a.tsv")
    with pytest.raises(DataError, match="cannot be read"):
        read_any_manifest(tmp_path / "none.tsv")
    (tmp_path / "c.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        read_any_manifest(tmp_path / "c.tsv")
