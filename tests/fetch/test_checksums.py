import base64
import hashlib

import pytest

from morphobench.errors import FetchError
from morphobench.fetch.checksums import announced_hashes, digests_of, expectation, parse_checksum, plain_md5

MD5 = hashlib.md5(b"x").hexdigest()


def crc32c(data):
    """Bit by bit, polynomial 0x1EDC6F41 reflected (RFC 3720, B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_all_kinds_in_one_pass(tmp_path):
    data = bytes(range(256)) * 13
    (tmp_path / "f").write_bytes(data)
    assert digests_of(tmp_path / "f", ["md5", "crc32c", "git"]) == {
        "sha256": hashlib.sha256(data).hexdigest(),
        "md5": hashlib.md5(data).hexdigest(),
        "crc32c": f"{crc32c(data):08x}",
        "git": hashlib.sha1(b"blob 3328\0" + data).hexdigest(),
    }


def test_spellings():
    assert parse_checksum(f"MD5:{MD5.upper()}") == {"md5": MD5}
    assert parse_checksum("crc32c:E3069283") == {"crc32c": "e3069283"}
    encoded = base64.b64encode(bytes.fromhex("e3069283")).decode()
    assert parse_checksum(f"crc32c:{encoded}") == {"crc32c": "e3069283"}
    assert crc32c(b"123456789") == 0xE3069283
    assert parse_checksum(f'etag:"{MD5}"') == {"md5": MD5}
    assert parse_checksum(f"etag:{MD5}-3") == {}
    assert parse_checksum(f'etag:W/"{MD5}"') == {}


@pytest.mark.parametrize(
    "text", ["sha1:abc", MD5, "md5:abc", f"sha256:{MD5}", "crc32c:xyz", "crc32c:", "git:" + "g" * 40]
)
def test_unreadable_checksums(text):
    with pytest.raises(FetchError, match="checksum"):
        parse_checksum(text)


def test_plain_md5():
    assert plain_md5(f'"{MD5}"') == MD5
    assert plain_md5(f'"{MD5}-1"') is None
    assert plain_md5(None) is None


def test_announced_hashes():
    assert announced_hashes({"etag": f'"{MD5}"'}) == {}
    s3 = {"etag": f'"{MD5}"', "server": "AmazonS3"}
    assert announced_hashes(s3) == {"md5": MD5}
    assert announced_hashes({**s3, "x-amz-server-side-encryption": "AES256"}) == {"md5": MD5}
    assert announced_hashes({**s3, "x-amz-server-side-encryption": "aws:kms:dsse"}) == {}
    assert announced_hashes({**s3, "x-amz-server-side-encryption-customer-algorithm": "AES256"}) == {}
    goog = f"crc32c={base64.b64encode(bytes(4)).decode()},md5={base64.b64encode(bytes(16)).decode()}"
    assert announced_hashes({"x-goog-hash": goog}) == {"crc32c": "00000000", "md5": "0" * 32}
    assert announced_hashes({"x-goog-hash": "md5=!!,crc32c=AA==,sha9=AAAA"}) == {}


def test_expectation_in_memory(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    assert expectation(1, f"md5:{MD5}").difference(tmp_path / "f")[0] is None
    assert expectation(2).difference(tmp_path / "f") == ("expected 2 bytes, found 1", "")
    assert "expected md5" in expectation(None, "md5:" + "0" * 32).difference(tmp_path / "f")[0]
    assert expectation(None, None, sha256=None, git=None).hashes == {}
