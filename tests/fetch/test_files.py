import hashlib
import subprocess

import pytest

from morphobench.errors import FetchError
from morphobench.fetch import fetch, local_path
from morphobench.fetch.files import git_blob_id
from morphobench.fetch.transport import MissingError, UnreachableError

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
URL = "https://provider.invalid/set/file.bin"


def leftovers(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_download_is_verified_and_recorded(server, tmp_path):
    url = f"{server.base}/data/file.bin"
    record = fetch(url, tmp_path / "out" / "file.bin", size=len(CONTENT), sha256=SHA256)
    assert (tmp_path / "out" / "file.bin").read_bytes() == CONTENT
    assert record == {
        "url": url,
        "path": str(tmp_path / "out" / "file.bin"),
        "size": len(CONTENT),
        "sha256": SHA256,
        "status": "fetched",
    }
    assert leftovers(tmp_path) == ["file.bin"]


def test_right_file_is_not_fetched_again_and_wrong_one_is(server, tmp_path):
    url, path = f"{server.base}/file.bin", tmp_path / "file.bin"
    fetch(url, path, sha256=SHA256)
    assert fetch(url, path, sha256=SHA256)["status"] == "present"
    assert len(server.requests) == 1
    path.write_bytes(b"damaged")
    assert fetch(url, path, sha256=SHA256)["status"] == "fetched"
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("missing.bin", MissingError, "404"),
        ("broken.bin", FetchError, "500"),
        ("page.bin", FetchError, "HTML page"),
        ("sly.bin", FetchError, "HTML page"),
        ("short.bin", FetchError, "broken off"),
    ],
)
def test_bad_answers_leave_nothing_behind(server, tmp_path, name, error, words):
    with pytest.raises(error, match=words) as caught:
        fetch(f"{server.base}/{name}", tmp_path / name)
    assert f"{server.base}/{name}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize(
    ("pins", "words"),
    [
        ({"size": 5}, "expected 5 bytes, found 10240"),
        ({"sha256": "0" * 64}, f"expected sha256 {'0' * 64}, found {SHA256}"),
        ({"git_sha1": "0" * 40}, "expected git blob 0+, found"),
    ],
)
def test_wrong_size_or_checksum(server, tmp_path, pins, words):
    with pytest.raises(FetchError, match=words):
        fetch(f"{server.base}/file.bin", tmp_path / "file.bin", **pins)
    assert leftovers(tmp_path) == []


def test_a_wrong_download_does_not_replace_what_was_there(server, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"older version")
    with pytest.raises(FetchError):
        fetch(f"{server.base}/file.bin", path, sha256="0" * 64)
    assert path.read_bytes() == b"older version"


def test_git_blob_id_is_gits(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"hello\n")
    assert git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    try:
        found = subprocess.run(["git", "hash-object", str(path)], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return
    assert git_blob_id(path) == found.stdout.strip()


def test_nobody_there_names_the_address_and_the_mirror_setting(closed_port, tmp_path):
    with pytest.raises(UnreachableError) as caught:
        fetch(f"{closed_port}/file.bin", tmp_path / "file.bin")
    text = str(caught.value)
    assert f"{closed_port}/file.bin" in text
    assert "mirror: <folder>" in text
    assert "--config mirror=<folder>" in text


def test_folder_mirror_is_enough(no_network, tmp_path):
    mirror = tmp_path / "mirror"
    copy = local_path(URL, mirror)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    record = fetch(URL, tmp_path / "raw" / "file.bin", size=len(CONTENT), sha256=SHA256, mirror=mirror)
    assert record["status"] == "mirrored"
    assert (tmp_path / "raw" / "file.bin").read_bytes() == CONTENT


def test_file_missing_in_the_folder_mirror(no_network, tmp_path):
    (tmp_path / "mirror").mkdir()
    with pytest.raises(MissingError) as caught:
        fetch(URL, tmp_path / "file.bin", mirror=tmp_path / "mirror")
    assert str(tmp_path / "mirror" / "provider.invalid" / "set" / "file.bin") in str(caught.value)
    assert URL in str(caught.value)


def test_wrong_file_in_the_folder_mirror(no_network, tmp_path):
    copy = local_path(URL, tmp_path / "mirror")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"else")
    with pytest.raises(FetchError) as caught:
        fetch(URL, tmp_path / "file.bin", sha256=SHA256, mirror=tmp_path / "mirror")
    text = str(caught.value)
    assert str(copy) in text
    assert SHA256 in text
    assert hashlib.sha256(b"else").hexdigest() in text


def test_mirror_that_is_no_folder(tmp_path):
    with pytest.raises(FetchError, match="not a folder"):
        fetch(URL, tmp_path / "file.bin", mirror=tmp_path / "nowhere")


def test_base_address_mirror(server, tmp_path):
    record = fetch(URL, tmp_path / "file.bin", sha256=SHA256, mirror=f"{server.base}/copies/")
    assert record["status"] == "mirrored"
    assert server.requests == ["/copies/provider.invalid/set/file.bin"]


def test_base_address_mirror_follows_no_redirect(server, tmp_path):
    with pytest.raises(FetchError, match="302"):
        fetch("https://provider.invalid/moved.bin", tmp_path / "file.bin", mirror=server.base)
    assert server.requests == ["/provider.invalid/moved.bin"]
    assert fetch(f"{server.base}/moved.bin", tmp_path / "file.bin", sha256=SHA256)["status"] == "fetched"


def test_file_missing_in_the_base_address_mirror(server, tmp_path):
    with pytest.raises(MissingError, match="not in the mirror") as caught:
        fetch("https://provider.invalid/missing.bin", tmp_path / "file.bin", mirror=server.base)
    assert f"{server.base}/provider.invalid/missing.bin" in str(caught.value)


def test_base_address_mirror_unreachable(closed_port, tmp_path):
    with pytest.raises(UnreachableError, match=f"{closed_port}/provider.invalid"):
        fetch(URL, tmp_path / "file.bin", mirror=closed_port)


def test_s3_from_a_folder_mirror(no_network, tmp_path):
    copy = tmp_path / "mirror" / "bucket.s3.amazonaws.com" / "key"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    record = fetch("s3://bucket/key", tmp_path / "key", sha256=SHA256, mirror=tmp_path / "mirror")
    assert record["status"] == "mirrored"
