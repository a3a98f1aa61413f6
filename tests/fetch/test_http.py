import base64
import gzip
import hashlib

import google_crc32c
import numpy as np
import pytest

from morphobench.fetch import fetch
from morphobench.fetch.failures import DamagedError, GivenUpError

CONTENT = np.random.default_rng(0).bytes(400_000)
OTHER = np.random.default_rng(1).bytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_html_with_status_200_also_when_resuming(faulty, tmp_path):
    html = {"Content-Type": "text/html"}
    url = faulty.put("/f.bin", b"<html>log in</html>", headers=html)
    with pytest.raises(DamagedError, match="HTML page"):
        fetch(url, tmp_path / "f.bin")
    url = faulty.put("/g.bin", CONTENT, faults=[{"drop": 150_000}, *[{"status": 503}] * 6])
    with pytest.raises(GivenUpError):
        fetch(url, tmp_path / "g.bin")
    faulty.put("/g.bin", b"<html>log in</html>", headers=html)
    with pytest.raises(DamagedError, match="HTML page"):
        fetch(url, tmp_path / "g.bin")
    assert not (tmp_path / "g.bin").exists()


def google_hashes(content):
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    crc = base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
    return [f"crc32c={crc}", f"md5={md5}"]


@pytest.mark.parametrize("which", [slice(0, 1), slice(1, 2), slice(0, 2)])
def test_hashes_that_google_announces_are_verified(faulty, tmp_path, which):
    headers = {"x-goog-hash": ",".join(google_hashes(CONTENT)[which])}
    url = faulty.put("/f.bin", CONTENT, headers=headers, faults=[{"drop": 100}])
    fetch(url, tmp_path / "f.bin")
    faulty.put("/g.bin", OTHER, headers=headers)
    with pytest.raises(DamagedError, match="not what the server announces: expected (md5|crc32c)"):
        fetch(faulty.base + "/g.bin", tmp_path / "g.bin")
    assert names(tmp_path) == ["f.bin"]


def test_etag_of_s3_is_verified_where_it_is_an_md5(faulty, tmp_path):
    def s3(content, tag, **more):
        return {"Server": "AmazonS3", "x-amz-request-id": "1", "ETag": f'"{tag}"', **more}

    right, wrong = hashlib.md5(CONTENT).hexdigest(), hashlib.md5(OTHER).hexdigest()
    fetch(faulty.put("/a", CONTENT, headers=s3(CONTENT, right)), tmp_path / "a")
    with pytest.raises(DamagedError, match=f"expected md5 {wrong}, found {right}"):
        fetch(faulty.put("/b", CONTENT, headers=s3(CONTENT, wrong)), tmp_path / "b")
    fetch(faulty.put("/c", CONTENT, headers=s3(CONTENT, wrong + "-3")), tmp_path / "c")
    kms = {"x-amz-server-side-encryption": "aws:kms"}
    fetch(faulty.put("/d", CONTENT, headers=s3(CONTENT, wrong, **kms)), tmp_path / "d")
    fetch(faulty.put("/e", CONTENT, headers={"ETag": f'"{wrong}"'}), tmp_path / "e")
    assert names(tmp_path) == ["a", "c", "d", "e"]


def test_a_byte_damaged_on_the_way_is_fetched_once_more(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT, faults=[{"flip": 123_456}])
    fetch(url, tmp_path / "f.bin", sha256=SHA256)
    assert faulty.asked() == [None, None]
    url = faulty.put("/g.bin", CONTENT, faults=[{"flip": 1}, {"flip": 2}])
    with pytest.raises(DamagedError, match="expected sha256"):
        fetch(url, tmp_path / "g.bin", sha256=SHA256)
    assert names(tmp_path) == ["f.bin"]


@pytest.mark.parametrize(
    "checksum",
    [
        f"sha256:{SHA256.upper()}",
        f"md5:{hashlib.md5(CONTENT).hexdigest()}",
        f"crc32c:{google_crc32c.Checksum(CONTENT).digest().hex()}",
        f"etag:{hashlib.md5(CONTENT).hexdigest()}",
        f'etag:"{"0" * 32}-12"',
        "git:" + hashlib.sha1(b"blob 400000\0" + CONTENT).hexdigest(),
    ],
)
def test_each_kind_of_checksum(faulty, tmp_path, checksum):
    url = faulty.put("/f.bin", CONTENT)
    fetch(url, tmp_path / "f.bin", checksum=checksum)
    assert fetch(url, tmp_path / "f.bin", checksum=checksum)["status"] == "present"
    faulty.put("/g.bin", OTHER)
    if "-12" not in checksum:
        with pytest.raises(DamagedError, match="expected"):
            fetch(faulty.base + "/g.bin", tmp_path / "g.bin", checksum=checksum)


def test_redirects_are_followed_afresh_on_each_try(faulty, tmp_path):
    """As a Dataverse does: each request to the API gives a link that is good once."""
    made = []

    def api(path):
        made.append(f"/signed/{len(made)}")
        drop = [{"drop": 150_000}] if len(made) == 1 else []
        faulty.put(made[-1], CONTENT, once=True, faults=drop)
        return made[-1]

    faulty.have["/api/access/datafile/7"] = api
    fetch(f"{faulty.base}/api/access/datafile/7", tmp_path / "f.bin", sha256=SHA256)
    paths = [r.path for r in faulty.seen]
    assert paths == ["/api/access/datafile/7", "/signed/0", "/api/access/datafile/7", "/signed/1"]
    assert faulty.seen[3].headers["range"] == "bytes=150000-"


def test_gzip_label_of_a_gz_file_is_its_own(faulty, tmp_path):
    packed = gzip.compress(CONTENT)
    url = faulty.put("/t.csv.gz", packed, headers={"Content-Encoding": "gzip"})
    fetch(url, tmp_path / "t.csv.gz")
    assert (tmp_path / "t.csv.gz").read_bytes() == packed
    url = faulty.put("/t.csv", packed, headers={"Content-Encoding": "gzip"})
    fetch(url, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes() == CONTENT
    assert faulty.seen[0].headers["accept-encoding"] == "identity"
