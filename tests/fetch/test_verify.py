import hashlib
import subprocess
import sys
import zipfile

import pytest

from morphobench.fetch import write_manifest, write_unit_manifest
from morphobench.fetch.verify import main, verify


def sha(body):
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def manifests(tmp_path):
    rows = []
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(name.encode() * 100)
        rows.append({"url": f"https://h/{name}", "path": str(tmp_path / name), "size": 100, "status": "fetched"})
        rows[-1]["sha256"] = sha(name.encode() * 100)
    rows.append({"url": "https://h/m", "path": str(tmp_path / "m"), "status": "missing"})
    write_manifest(rows, tmp_path / "manifest.tsv")
    with zipfile.ZipFile(tmp_path / "u.zip", "w") as archive:
        archive.writestr("x", b"x" * 50)
        archive.writestr("y", b"y" * 50)
    (tmp_path / "own.tif").write_bytes(b"own")
    unit = [
        {"name": n, "member": n, "path": str(tmp_path / "u.zip"), "size": 50, "sha256": sha(n.encode() * 50)}
        for n in ("x", "y")
    ]
    unit.append({"name": "own", "path": str(tmp_path / "own.tif"), "size": 3, "status": "local"})
    unit.append({"name": "d", "path": str(tmp_path / "d"), "status": "damaged", "reason": "broken"})
    write_unit_manifest([{"url": "https://h/u", "status": "fetched", **r} for r in unit], tmp_path / "unit.tsv")
    return [tmp_path / "manifest.tsv", tmp_path / "unit.tsv"]


def test_all_is_right(manifests, capsys):
    assert verify(manifests) == []
    assert main([str(m) for m in manifests]) == 0
    assert capsys.readouterr().out == (
        "6 files are right (1 of them checked by size alone), 0 problems, 2 listed as never had\n"
    )


def test_every_damage_is_a_row(manifests, tmp_path, capsys):
    (tmp_path / "a").write_bytes(b"A" + b"a" * 99)
    (tmp_path / "b").write_bytes(b"b")
    (tmp_path / "c").unlink()
    (tmp_path / "own.tif").write_bytes(b"longer")
    data = bytearray((tmp_path / "u.zip").read_bytes())
    data[data.index(b"xxxx") + 10] ^= 1
    (tmp_path / "u.zip").write_bytes(data)
    rows = verify(manifests)
    assert [(r["path"].rsplit("/")[-1], r["member"]) for r in rows] == [
        ("a", None),
        ("b", None),
        ("c", None),
        ("own.tif", None),
        ("u.zip", "x"),
    ]
    reasons = [r["reason"] for r in rows]
    assert reasons[0] == f"expected sha256 {sha(b'a' * 100)}, found {sha(b'A' + b'a' * 99)}"
    assert reasons[1] == "expected 100 bytes, found 1"
    assert reasons[2] == "is gone"
    assert reasons[3] == "expected 3 bytes, found 6"
    assert "CRC" in reasons[4]
    assert main([str(m) for m in manifests]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[-1].startswith("1 files are right (0 of them checked by size alone), 5 problems")


def test_member_that_was_replaced_or_taken_out(manifests, tmp_path):
    with zipfile.ZipFile(tmp_path / "u.zip", "w") as archive:
        archive.writestr("x", b"z" * 50)
    reasons = {r["member"]: r["reason"] for r in verify(manifests)}
    assert "expected sha256" in reasons["x"]
    assert reasons["y"] == "is not in the zip"
    (tmp_path / "u.zip").write_bytes(b"no zip")
    assert {r["member"] for r in verify(manifests)} == {"x", "y"}
    (tmp_path / "u.zip").unlink()
    assert [r["reason"] for r in verify(manifests)] == ["is gone", "is gone"]


def test_paths_beside_a_simulators_manifest(manifests, tmp_path):
    write_manifest([{"path": "a", "size": 100, "sha256": sha(b"a" * 100)}], tmp_path / "simulated.tsv")
    write_manifest([{"path": "none", "size": 100, "status": "simulated"}], tmp_path / "gone.tsv")
    with pytest.raises(AssertionError):
        assert verify([tmp_path / "gone.tsv"]) == []
    assert verify([tmp_path / "simulated.tsv"]) == []


def test_unreadable_manifest_is_one_line(manifests, tmp_path, capsys):
    (tmp_path / "no.tsv").write_text("no manifest")
    assert main([str(tmp_path / "no.tsv"), str(manifests[0])]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert "no.tsv" in lines[0]


def test_as_a_command(manifests):
    command = [sys.executable, "-m", "morphobench.fetch.verify", *map(str, manifests)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert "6 files are right" in done.stdout
