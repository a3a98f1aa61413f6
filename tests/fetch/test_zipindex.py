import io
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.fetch.failures import DamagedError
from morphobench.fetch.sources import Found
from morphobench.fetch.zipindex import Member, directory_of, ranges, read_directory, unpack
from tests.fetch.zips import members, zip_bytes

CONTENT = members()


def find(data, names):
    directory = read_directory("z.zip", len(data), lambda start, stop: data[start:stop])
    return directory.find(names)


def check(data, content):
    """Every member is found where it is, compared with what zipfile says."""
    found = find(data, list(content))
    assert found.keys() == content.keys()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            member = found[info.filename]
            assert (member.crc, member.size, member.compressed) == (info.CRC, info.file_size, info.compress_size)
            assert member.offset == info.header_offset
            assert unpack(data[member.offset : member.stop], member) == content[info.filename]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("comment", [b"", b"made by hand", b"x" * 65535])
@pytest.mark.parametrize("streamed", [False, True])
def test_all_members_are_found(method, comment, streamed):
    check(zip_bytes(CONTENT, method=method, comment=comment, streamed=streamed), CONTENT)


def test_bytes_in_front_of_the_zip():
    check(b"#!/bin/sh\n" * 100 + zip_bytes(CONTENT), CONTENT)


def test_zip64(monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 5_000)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)
    data = zip_bytes(CONTENT)
    assert b"PK\6\6" in data
    assert b"PK\6\7" in data
    check(data, CONTENT)


def test_names_that_are_not_ascii():
    content = {"plate/Zürich_µ.png": b"one", "plate/細胞.png": b"two"}
    check(zip_bytes(content), content)


def test_only_what_is_asked_for():
    name = next(iter(CONTENT))
    assert find(zip_bytes(CONTENT), [name, "other"]).keys() == {name}


def test_directory_is_all_that_is_read():
    content = {f"f{i}": bytes(200_000) for i in range(5)}
    data = zip_bytes(content, method=zipfile.ZIP_STORED)
    asked = []

    def read(start, stop):
        asked.append((start, stop))
        return data[start:stop]

    read_directory("z.zip", len(data), read)
    assert sum(stop - start for start, stop in asked) < 70_000


@pytest.mark.parametrize("keep", [0, 1, 21, 100, 0.5, -1, -21, -22, -30])
def test_truncated_zip_is_one_sentence(keep):
    data = zip_bytes(CONTENT)
    cut = data[: int(len(data) * keep) if isinstance(keep, float) else keep]
    with pytest.raises(DamagedError, match="z.zip: not a whole zip") as caught:
        find(cut, list(CONTENT))
    assert "\n" not in str(caught.value)


def test_directory_that_lies_elsewhere():
    data = bytearray(zip_bytes(CONTENT))
    struct.pack_into("<L", data, len(data) - 6, len(data))
    with pytest.raises(DamagedError, match="does not lie where"):
        find(bytes(data), [])


def test_damaged_directory():
    data = bytearray(zip_bytes(CONTENT))
    start = struct.unpack_from("<L", data, len(data) - 6)[0]
    data[start : start + 4] = b"XXXX"
    with pytest.raises(DamagedError, match="directory is damaged"):
        find(bytes(data), [])


@given(st.integers(0, 10**6), st.integers(0, 255))
@settings(deadline=None, max_examples=100)
def test_any_damaged_byte_is_noticed_or_harmless(place, value):
    content = {k: v[:200] for k, v in list(CONTENT.items())[:6]}
    data = bytearray(zip_bytes(content))
    data[place % len(data)] = value
    data = bytes(data)
    try:
        found = find(data, list(content))
    except DamagedError:
        return
    for name, member in found.items():
        try:
            assert unpack(data[member.offset : member.stop], member) == content[name]
        except DamagedError:
            continue


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"crc": 1}, "CRC-32"),
        ({"size": 5}, "another size"),
        ({"flags": 1}, "encrypted"),
        ({"method": 14}, "method 14"),
        ({"compressed": 10**6}, "cut off"),
        ({"offset": 1}, "does not begin"),
    ],
)
def test_damaged_member(change, words):
    data = zip_bytes({"f": b"content" * 100})
    member = find(data, ["f"])["f"]
    facts = {**member.__dict__, **change}
    with pytest.raises(DamagedError, match=words):
        unpack(data[facts["offset"] : member.stop], Member(**facts))


def test_neighbours_are_read_together():
    def member(offset, stop):
        return Member("m", 0, 0, 0, 0, 0, offset, stop)

    near = [member(0, 100), member(150, 300), member(300, 400)]
    assert ranges(near[::-1]) == [(0, 400)]
    assert ranges([*near, member(10**6, 10**6 + 5)]) == [(0, 400), (10**6, 10**6 + 5)]
    large = [member(i << 20, (i + 1) << 20) for i in range(40)]
    found = ranges(large)
    assert all(stop - start <= 16 << 20 for start, stop in found)
    assert found[0][0] == 0
    assert found[-1][1] == 40 << 20
    assert len(found) == 3


def test_directory_is_kept_while_the_archive_is_the_same(tmp_path):
    data = zip_bytes(CONTENT)
    asked = []

    def read(start, stop):
        asked.append(start)
        return data[start:stop]

    cache = tmp_path / ".z.zip.directory"
    first = directory_of("z.zip", Found(len(data), "one"), read, cache)
    count = len(asked)
    assert directory_of("z.zip", Found(len(data), "one"), read, cache) == first
    assert len(asked) == count
    directory_of("z.zip", Found(len(data), "two"), read, cache)
    assert len(asked) == 2 * count
    cache.write_bytes(cache.read_bytes()[:-1])
    assert directory_of("z.zip", Found(len(data), "two"), read, cache).content == first.content
    assert len(asked) == 3 * count
