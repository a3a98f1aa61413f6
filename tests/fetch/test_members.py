import hashlib
import shutil
import zipfile

import pytest

from morphobench.errors import FetchError
from morphobench.fetch import RawFile, fetch_unit, local_path, open_raw
from morphobench.fetch.addresses import members_path
from morphobench.fetch.failures import MissingError
from morphobench.fetch.members import MembersJob
from morphobench.fetch.transport import Transport
from tests.fetch.zips import members, zip_bytes

CONTENT = members(60)
ZIP = zip_bytes(CONTENT)
HUVEC = [n for n in CONTENT if "HUVEC-01" in n]


@pytest.fixture
def archive(faulty):
    faulty.put("/set/images.zip", ZIP)
    return faulty


def run(url, root, names=HUVEC, unit="HUVEC-01", mirror=None, transport=None, recorded=None, **known):
    files = [RawFile(url, n, member=n, **known) for n in names]
    job = MembersJob(url, unit, files, root, mirror, transport or Transport(), recorded or {})
    return job.run()


def inside(url, root, unit="HUVEC-01"):
    with zipfile.ZipFile(members_path(url, unit, root)) as unit_zip:
        return {i.filename: unit_zip.read(i) for i in unit_zip.infolist()}


def statuses(results):
    return {r.status for r in results.values()}


def test_only_the_bytes_of_the_members_are_asked_for(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    results = run(url, tmp_path)
    assert {n: (r.status, r.size, r.sha256) for n, r in results.items()} == {
        n: ("fetched", len(CONTENT[n]), hashlib.sha256(CONTENT[n]).hexdigest()) for n in HUVEC
    }
    assert inside(url, tmp_path) == {n: CONTENT[n] for n in HUVEC}
    assert all(asked is not None for asked in archive.asked())
    assert sorted(
        p.name for p in (tmp_path / "127.0.0.1_{}".format(url.split(":")[2].split("/")[0]) / "set").iterdir()
    ) == [
        ".images.zip.directory",
        "images.zip.members",
    ]
    assert [p.name for p in members_path(url, "x", tmp_path).parent.iterdir()] == ["HUVEC-01.zip"]


def test_the_directory_is_read_once_for_all_units(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    run(url, tmp_path)
    before = len(archive.asked())
    names = [n for n in CONTENT if "HUVEC-02" in n]
    run(url, tmp_path, names, "HUVEC-02")
    start = ZIP.rindex(b"PK\1\2")
    assert len(archive.asked()) > before
    assert all(int(asked.split("=")[1].split("-")[0]) < start for asked in archive.asked()[before:])
    assert inside(url, tmp_path, "HUVEC-02") == {n: CONTENT[n] for n in names}


def test_same_members_same_bytes(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    run(url, tmp_path / "a")
    run(url, tmp_path / "b", HUVEC[:3])
    run(url, tmp_path / "b")
    one, two = (members_path(url, "HUVEC-01", tmp_path / r).read_bytes() for r in "ab")
    assert one == two


def test_what_is_there_needs_no_network(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    run(url, tmp_path, [*HUVEC, "set/none.png"])
    count = len(archive.seen)
    results = run(url, tmp_path, [*HUVEC, "set/none.png"])
    assert {n: r.status for n, r in results.items()} == {
        **dict.fromkeys(HUVEC, "present"),
        "set/none.png": "missing",
    }
    assert "no such member" in results["set/none.png"].reason
    assert len(archive.seen) == count


def test_a_damaged_unit_zip_is_mended(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    run(url, tmp_path)
    path = members_path(url, "HUVEC-01", tmp_path)
    data = bytearray(path.read_bytes())
    place = data.index(CONTENT[HUVEC[1]][:50])
    data[place + 10] ^= 1
    path.write_bytes(data)
    assert sorted(r.status for r in run(url, tmp_path).values()) == ["fetched", *["present"] * (len(HUVEC) - 1)]
    path.write_bytes(data[:1000])
    assert statuses(run(url, tmp_path)) == {"fetched"}
    assert inside(url, tmp_path) == {n: CONTENT[n] for n in HUVEC}


def test_broken_ranges_are_tried_again_and_a_later_run_goes_on(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    archive.have["/set/images.zip"].faults[:] = [None, {"close": 100}, {"status": 503}, {"drop": 5}]
    assert statuses(run(url, tmp_path)) == {"fetched"}
    assert inside(url, tmp_path) == {n: CONTENT[n] for n in HUVEC}


def test_a_killed_run_keeps_its_ranges(archive, tmp_path, monkeypatch):
    from morphobench.fetch import zipindex

    monkeypatch.setattr(zipindex, "_GAP", 0)
    url = f"{archive.base}/set/images.zip"
    monkeypatch.setattr(MembersJob, "_assemble", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(url, tmp_path)
    assert not members_path(url, "HUVEC-01", tmp_path).exists()
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(zipindex, "_GAP", 0)
    count = len(archive.asked())
    assert statuses(run(url, tmp_path)) == {"fetched"}
    assert len(archive.asked()) == count
    assert inside(url, tmp_path) == {n: CONTENT[n] for n in HUVEC}
    assert [p.name for p in members_path(url, "x", tmp_path).parent.iterdir()] == ["HUVEC-01.zip"]


def test_archive_that_changes_between_two_ranges(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    other = {n: b"new " + c for n, c in CONTENT.items()}
    archive.have["/set/images.zip"].faults[:] = [None, {"change": zip_bytes(other)}]
    assert statuses(run(url, tmp_path)) == {"fetched"}
    assert inside(url, tmp_path) == {n: other[n] for n in HUVEC}


def test_archive_that_keeps_changing(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    faults = [f for i in range(4) for f in (None, {"change": zip_bytes({"f": bytes([i])} | CONTENT)})]
    archive.have["/set/images.zip"].faults[:] = faults
    with pytest.raises(FetchError, match="changed twice"):
        run(url, tmp_path)
    assert not members_path(url, "HUVEC-01", tmp_path).exists()


def test_server_that_ignores_ranges(faulty, tmp_path):
    url = faulty.put(
        "/set/images.zip", zip_bytes({n: bytes(50_000) for n in CONTENT}, method=zipfile.ZIP_STORED), ranges=False
    )
    with pytest.raises(FetchError, match="does not answer byte ranges"):
        run(url, tmp_path)


def test_damaged_member_is_a_row(faulty, tmp_path):
    data = bytearray(ZIP)
    place = zipfile.ZipFile(local(tmp_path, ZIP)).getinfo(HUVEC[2]).header_offset
    data[place + 30 + len(HUVEC[2]) + 5] ^= 255
    url = faulty.put("/set/images.zip", bytes(data))
    results = run(url, tmp_path)
    assert [r.status for r in results.values()].count("damaged") == 1
    assert results[HUVEC[2]].status == "damaged"
    assert f"member {HUVEC[2]}" in results[HUVEC[2]].reason
    assert inside(url, tmp_path).keys() == set(HUVEC) - {HUVEC[2]}


def local(folder, data):
    folder.mkdir(exist_ok=True)
    (folder / "copy.zip").write_bytes(data)
    return folder / "copy.zip"


def test_member_damaged_on_the_way_is_read_once_more(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    archive.have["/set/images.zip"].faults[:] = [None, {"flip": 60}]
    run(url, tmp_path)
    assert inside(url, tmp_path) == {n: CONTENT[n] for n in HUVEC}


@pytest.mark.parametrize("known", [{"size": 3}, {"checksum": "md5:" + "0" * 32}])
def test_member_that_is_not_the_one_pinned(archive, tmp_path, known):
    url = f"{archive.base}/set/images.zip"
    results = run(url, tmp_path, HUVEC[:2], **known)
    assert statuses(results) == {"damaged"}
    assert "expected" in results[HUVEC[0]].reason


def test_member_with_other_bytes_than_at_first(archive, tmp_path):
    url = f"{archive.base}/set/images.zip"
    results = run(url, tmp_path, HUVEC[:2], recorded={HUVEC[0]: "0" * 64})
    assert [r.status for r in results.values()] == ["damaged", "fetched"]
    assert "when first fetched" in results[HUVEC[0]].reason


@pytest.mark.parametrize("name", ["../x", "/x", "a\\x", "C:/x", "a/../x", ""])
def test_names_that_lead_out_are_refused(archive, tmp_path, name):
    with pytest.raises(FetchError, match="is refused"):
        run(f"{archive.base}/set/images.zip", tmp_path, [name])


def test_truncated_archive(faulty, tmp_path):
    url = faulty.put("/set/images.zip", ZIP[:-500])
    with pytest.raises(FetchError, match="not a whole zip") as caught:
        run(url, tmp_path)
    assert "\n" not in str(caught.value)


def test_archive_that_is_not_there(faulty, tmp_path):
    with pytest.raises(MissingError, match="404"):
        run(f"{faulty.base}/set/images.zip", tmp_path)


URL = "https://provider.invalid/set/images.zip"


def test_folder_mirror_with_the_whole_archive(tmp_path, no_network):
    copy = local_path(URL, tmp_path / "mirror")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(ZIP)
    assert statuses(run(URL, tmp_path / "raw", mirror=tmp_path / "mirror")) == {"fetched"}
    assert inside(URL, tmp_path / "raw") == {n: CONTENT[n] for n in HUVEC}
    assert statuses(run(URL, tmp_path / "raw", mirror=tmp_path / "mirror")) == {"present"}
    # A screen simulated anew lies under the same addresses.
    other = {n: b"new " + c for n, c in CONTENT.items()}
    copy.write_bytes(zip_bytes(other))
    assert statuses(run(URL, tmp_path / "raw", mirror=tmp_path / "mirror")) == {"fetched"}
    assert inside(URL, tmp_path / "raw") == {n: other[n] for n in HUVEC}


def test_raw_files_of_someone_else_as_mirror(archive, tmp_path, no_network_after):
    url = f"{archive.base}/set/images.zip"
    run(url, tmp_path / "theirs")
    no_network_after()
    assert statuses(run(url, tmp_path / "mine", mirror=tmp_path / "theirs")) == {"fetched"}
    assert inside(url, tmp_path / "mine") == inside(url, tmp_path / "theirs")
    with pytest.raises(MissingError, match="not in the mirror"):
        run(url, tmp_path / "mine", mirror=tmp_path / "theirs", unit="HUVEC-02")


@pytest.fixture
def no_network_after(request):
    return lambda: request.getfixturevalue("no_network")


def test_base_address_mirror(archive, tmp_path):
    run(f"{archive.base}/set/images.zip", tmp_path / "theirs")
    unit = members_path(f"{archive.base}/set/images.zip", "HUVEC-01", tmp_path / "theirs").read_bytes()
    archive.put("/whole/provider.invalid/set/images.zip", ZIP)
    archive.put("/part/provider.invalid/set/images.zip.members/HUVEC-01.zip", unit)
    for kind in ("whole", "part"):
        run(URL, tmp_path / kind, mirror=f"{archive.base}/{kind}")
        assert inside(URL, tmp_path / kind) == {n: CONTENT[n] for n in HUVEC}
    with pytest.raises(MissingError, match="not in the mirror"):
        run(URL, tmp_path / "none", mirror=f"{archive.base}/none")


def test_rows_of_a_whole_unit_from_a_zip(archive, tmp_path, monkeypatch):
    from morphobench.fetch import Variant
    from tests.fetch import test_unit

    url = f"{archive.base}/set/images.zip"
    files = tuple(RawFile(url, n, member=n) for n in HUVEC)
    monkeypatch.setitem(test_unit.PLAN, "variants", lambda *a: [Variant("zip", files), Variant("b", files)])
    records = fetch_unit(test_unit.spec(), "HUVEC-01", {}, tmp_path)
    assert [open_raw(r) for r in records] == [CONTENT[n] for n in HUVEC]
    path = members_path(url, "HUVEC-01", tmp_path)
    path.unlink()
    shutil.rmtree(path.parent)
    archive.put("/set/images.zip", zip_bytes(dict.fromkeys(CONTENT, b"other")))
    with pytest.raises(FetchError, match="none of its 15 files could be had .15 damaged.*when first fetched"):
        fetch_unit(test_unit.spec(), "HUVEC-01", {}, tmp_path)
