import stat
import zipfile
from collections import namedtuple

import pytest

from morphobench.errors import FetchError
from morphobench.fetch.extract import extract_zip
from morphobench.fetch.failures import DamagedError
from tests.fetch.zips import members, zip_bytes

CONTENT = members(8)


def test_everything_is_unpacked(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_bytes({**CONTENT, "empty/": b""}))
    files = extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert {str(f.relative_to(tmp_path / "out")): f.read_bytes() for f in files} == CONTENT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "out"]
    with pytest.raises(FetchError, match="is there already"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/x", "a\\..\\x", "C:/x", "C:x", "a//x", "./x", "a/./x", "..", "a/.."]
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.zip").write_bytes(zip_bytes({**CONTENT, name: b"evil"}))
    with pytest.raises(FetchError, match="is refused, its name could lead out"):
        extract_zip(tmp_path / "in" / "a.zip", tmp_path / "in" / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["in", "a.zip"]


def test_links_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    with pytest.raises(FetchError, match="it is a link"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("f", "one")
        archive.writestr("f", "two")
    with pytest.raises(FetchError, match="has it twice"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 10, 0.5, -1])
def test_truncated_zip(tmp_path, keep):
    data = zip_bytes(CONTENT)
    (tmp_path / "a.zip").write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(DamagedError, match="a.zip: not a whole zip") as caught:
        extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_damaged_member_leaves_nothing(tmp_path):
    data = bytearray(zip_bytes({"first": b"good", "f": bytes(range(256)) * 50}, method=zipfile.ZIP_STORED))
    data[5000] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DamagedError, match="CRC"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_space_is_checked_first(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_bytes({"zeros": bytes(10**6)}))
    usage = namedtuple("Usage", "total used free")
    with pytest.raises(FetchError, match="1.0 MB .* are free"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out", usage=lambda folder: usage(0, 0, 999))
    assert not (tmp_path / "out").exists()
