import hashlib
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from morphobench.errors import FetchError, SpecError
from morphobench.fetch import (
    RawFile,
    Variant,
    fetch_unit,
    local_path,
    open_raw,
    read_unit_manifest,
    write_unit_manifest,
)
from morphobench.fetch.failures import GivenUpError, MissingError, UnreachableError
from morphobench.fetch.policy import Policy
from morphobench.fetch.transport import Transport

RNG = np.random.default_rng(0)
CONTENT = {f"P1/w{i}.tif": RNG.bytes(5_000 + i) for i in range(30)}
PLAN = {}


def lister(unit, files, options):
    """Lists what the running test planned."""
    return PLAN["variants"](unit, files, options)


def spec(**options):
    return {
        "id": "screen",
        "licence": {"name": "CC0-1.0"},
        "images": {"lister": "tests.fetch.test_unit:lister", "options": options},
    }


def plan(*variants):
    PLAN["variants"] = lambda unit, files, options: list(variants)


def tree(base, content=None, name="tiff", **more):
    return Variant(name, tuple(RawFile(f"{base}/{n}", n, **more) for n in (content or CONTENT)))


@pytest.fixture
def served(faulty):
    for name, body in CONTENT.items():
        faulty.put(f"/raw/{name}", body)
    plan(tree(f"{faulty.base}/raw"))
    return faulty


def statuses(records):
    return [r["status"] for r in records]


def test_every_file_is_a_row(served, tmp_path):
    records = fetch_unit(spec(), "P1", {}, tmp_path)
    assert [r["name"] for r in records] == list(CONTENT)
    for record in records:
        body = CONTENT[record["name"]]
        assert record["url"] == f"{served.base}/raw/{record['name']}"
        assert Path(record["path"]) == local_path(record["url"], tmp_path)
        assert open_raw(record) == body
        assert (record["size"], record["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
        facts = (record["status"], record["reason"], record["member"], record["licence"], record["variant"])
        assert facts == ("fetched", None, None, "CC0-1.0", "tiff")
    write_unit_manifest(records, tmp_path / "m.tsv")
    assert read_unit_manifest(tmp_path / "m.tsv") == records


def test_right_files_are_not_fetched_again(served, tmp_path):
    fetch_unit(spec(), "P1", {}, tmp_path)
    local_path(f"{served.base}/raw/P1/w3.tif", tmp_path).write_bytes(b"damaged")
    count = len(served.seen)
    records = fetch_unit(spec(), "P1", {}, tmp_path)
    assert statuses(records) == ["fetched" if i == 3 else "present" for i in range(30)]
    assert len(served.seen) == count + 1


def test_lister_gets_unit_files_and_options(served, tmp_path):
    seen = []

    def variants(unit, files, options):
        seen.append((unit, files, options))
        return [tree(f"{served.base}/raw")]

    PLAN["variants"] = variants
    fetch_unit(spec(sites=[1]), "P1", {"plate": tmp_path / "t.csv"}, tmp_path)
    assert seen == [("P1", {"plate": tmp_path / "t.csv"}, {"sites": [1]})]


def test_missing_and_damaged_files_are_rows(served, tmp_path):
    del served.have["/raw/P1/w0.tif"]
    served.have["/raw/P1/w1.tif"].faults[:] = [{"status": 403}]
    served.have["/raw/P1/w2.tif"].faults[:] = [{"close": 10}] * 100
    served.have["/raw/P1/w2.tif"].etag = False
    served.have["/raw/P1/w3.tif"].headers["Content-Type"] = "text/html"
    served.have["/raw/P1/w4.tif"].faults[:] = [{"status": 500}] * 100
    records = fetch_unit(spec(), "P1", {}, tmp_path)
    assert statuses(records) == ["missing", "missing", "damaged", "damaged", "missing", *["fetched"] * 25]
    for record, words in zip(records, ("404", "403", "broken off after 10 of", "HTML page", "500"), strict=False):
        assert words in record["reason"]
        assert record["name"] in record["reason"]
        assert (record["size"], record["sha256"]) == (None, None)
        assert not Path(record["path"]).exists()
    write_unit_manifest(records, tmp_path / "m.tsv")
    assert read_unit_manifest(tmp_path / "m.tsv") == records


def test_pinned_sizes_and_checksums(served, tmp_path):
    right = hashlib.md5(CONTENT["P1/w0.tif"]).hexdigest()
    files = (
        RawFile(f"{served.base}/raw/P1/w0.tif", "a", size=5_000, checksum=f"md5:{right}"),
        RawFile(f"{served.base}/raw/P1/w1.tif", "b", size=5_000),
        RawFile(f"{served.base}/raw/P1/w2.tif", "c", checksum=f"md5:{right}"),
    )
    plan(Variant("tiff", files))
    records = fetch_unit(spec(), "P1", {}, tmp_path)
    assert statuses(records) == ["fetched", "damaged", "damaged"]
    assert "expected 5000 bytes, found 5001" in records[1]["reason"]
    assert f"expected md5 {right}" in records[2]["reason"]


def test_unit_without_any_file_is_an_error(served, tmp_path):
    served.have.clear()
    with pytest.raises(FetchError, match=r"unit P1: none of its 30 files could be had \(30 missing\)"):
        fetch_unit(spec(), "P1", {}, tmp_path)


def test_outage_is_no_row(served, tmp_path):
    """A server that is down would otherwise make a plate without images."""
    served.have["/raw/P1/w7.tif"].faults[:] = [{"status": 503}] * 100
    with pytest.raises(GivenUpError, match="503"):
        fetch_unit(spec(), "P1", {}, tmp_path)
    served.have["/raw/P1/w7.tif"].faults.clear()
    assert set(statuses(fetch_unit(spec(), "P1", {}, tmp_path))) <= {"present", "fetched"}


@pytest.mark.parametrize("kind", ["files", "variants", "members"])
def test_no_network(closed_port, tmp_path, kind, waits):
    one = tree(closed_port)
    zipped = Variant("zip", tuple(RawFile(f"{closed_port}/images.zip", n, n) for n in CONTENT))
    plan(*{"files": [one], "variants": [one, tree(closed_port, name="other")], "members": [zipped]}[kind])
    with pytest.raises(UnreachableError) as error:
        fetch_unit(spec(), "P1", {}, tmp_path, workers=2)
    text = str(error.value)
    assert text.startswith(f"{closed_port}/")
    assert text.count("set a mirror that has copies") == 1
    assert "\n" not in text
    # However many files there are, it is given up after a few tries.
    assert sum(waits) < 30
    with pytest.raises(UnreachableError) as error:
        fetch_unit(spec(), "P1", {}, tmp_path, workers=2, mirror=f"{closed_port}/copies")
    assert "set a mirror" not in str(error.value)


def test_many_at_a_time(served, tmp_path):
    import threading

    together = threading.Barrier(4, timeout=20)
    first = dict(served.have)

    def wait(path):
        together.wait()
        return first[path]

    for path in list(served.have)[:8]:
        served.have[path] = wait
    fetch_unit(spec(), "P1", {}, tmp_path, workers=4)  # fewer than four at a time would break the barrier


def test_disk_is_checked_first(served, tmp_path):
    plan(tree(f"{served.base}/raw", size=10**6))
    usage = namedtuple("Usage", "total used free")
    transport = Transport(Policy(disk_usage=lambda folder: usage(0, 0, 5)))
    with pytest.raises(FetchError, match="unit P1 needs 30.0 MB"):
        fetch_unit(spec(), "P1", {}, tmp_path, transport=transport)
    assert served.seen == []


# --- variants


def test_second_spelling_is_taken_where_the_first_is_not_there(served, tmp_path):
    plan(tree(f"{served.base}/png_a", name="png_a"), tree(f"{served.base}/raw"))
    records = fetch_unit(spec(), "P1", {}, tmp_path)
    assert {r["variant"] for r in records} == {"tiff"}
    assert set(statuses(records)) == {"fetched"}
    probed = [r.path for r in served.seen if r.method == "HEAD"]
    assert probed[0] == "/png_a/P1/w0.tif"
    assert probed[-1] == "/raw/P1/w0.tif"


def test_first_spelling_wins_and_single_holes_do_not_matter(served, tmp_path):
    del served.have["/raw/P1/w0.tif"]
    plan(tree(f"{served.base}/raw", name="a"), tree(f"{served.base}/other", name="b"))
    records = fetch_unit(spec(), "P1", {}, tmp_path)
    assert {r["variant"] for r in records} == {"a"}
    assert statuses(records) == ["missing", *["fetched"] * 29]


def test_no_spelling_is_there(served, tmp_path):
    served.put("/png_b/P1/w0.tif", b"", head=403, faults=[{"status": 403}])
    plan(tree(f"{served.base}/png_a", name="png_a"), tree(f"{served.base}/png_b", name="png_b"))
    with pytest.raises(MissingError, match="none of 2 variants") as caught:
        fetch_unit(spec(), "P1", {}, tmp_path)
    text = str(caught.value)
    assert f"png_a: {served.base}/png_a/P1/w0.tif (the server answers 404" in text
    assert f"png_b: {served.base}/png_b/P1/w0.tif (the server answers 403" in text


def test_what_is_on_this_disk_is_not_probed(served, tmp_path):
    plan(tree(f"{served.base}/png_a", name="png_a"), tree(f"{served.base}/raw"))
    fetch_unit(spec(), "P1", {}, tmp_path)
    count = len(served.seen)
    assert set(statuses(fetch_unit(spec(), "P1", {}, tmp_path))) == {"present"}
    assert len(served.seen) == count


def test_server_that_knows_no_head(served, tmp_path):
    for resource in served.have.values():
        resource.head = 405
    plan(tree(f"{served.base}/png_a", name="png_a"), tree(f"{served.base}/raw"))
    assert {r["variant"] for r in fetch_unit(spec(), "P1", {}, tmp_path)} == {"tiff"}


def test_variants_of_a_mirror(tmp_path, no_network):
    plan(tree("https://h.invalid/a", name="a"), tree("s3://bucket/b", name="b"))
    for name, body in CONTENT.items():
        path = local_path(f"s3://bucket/b/{name}", tmp_path / "mirror")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    records = fetch_unit(spec(), "P1", {}, tmp_path / "raw", tmp_path / "mirror", workers=3)
    assert {(r["variant"], r["status"]) for r in records} == {("b", "mirrored")}
    assert open_raw(records[4]) == CONTENT["P1/w4.tif"]
    plan(tree("https://h.invalid/c", name="a"), tree("https://h.invalid/d", name="b"))
    with pytest.raises(MissingError, match="not in the mirror"):
        fetch_unit(spec(), "P1", {}, tmp_path / "raw", tmp_path / "mirror")


def test_base_address_mirror(served, tmp_path):
    for name, body in CONTENT.items():
        served.put(f"/copies/h.invalid/{name}", body)
    plan(tree("https://h.invalid"))
    records = fetch_unit(spec(), "P1", {}, tmp_path, f"{served.base}/copies")
    assert set(statuses(records)) == {"mirrored"}


# --- a user's own copy


def test_local_root(tmp_path, no_network):
    own = tmp_path / "own"
    for name, body in CONTENT.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(body)
    (own / "P1/w5.tif").unlink()
    (own / "P1/w6.tif").write_bytes(b"short")
    sized = tuple(RawFile("https://h.invalid/z.zip", n, member=n, size=len(b)) for n, b in CONTENT.items())
    plan(tree("https://h.invalid/png", {"x/1": 0}, name="png"), Variant("tiff", sized))
    records = fetch_unit(spec(), "P1", {}, tmp_path / "raw", local=own)
    assert statuses(records) == ["missing" if i == 5 else "damaged" if i == 6 else "local" for i in range(30)]
    assert records[0]["path"] == str(own / "P1/w0.tif")
    assert open_raw(records[0]) == CONTENT["P1/w0.tif"]
    assert "expected 5006 bytes, found 5" in records[6]["reason"]
    assert not (tmp_path / "raw").exists()


def test_local_root_that_is_no_folder(tmp_path):
    plan(tree("https://h.invalid"))
    with pytest.raises(FetchError, match="local root is not a folder"):
        fetch_unit(spec(), "P1", {}, tmp_path / "raw", local=tmp_path / "nowhere")


# --- pins and first use


def test_pins_of_a_simulator_replace_what_is_known(served, tmp_path):
    plan(tree(f"{served.base}/raw", size=7))
    pins = {
        f"{served.base}/raw/{n}": {"size": len(b), "sha256": hashlib.sha256(b).hexdigest()}
        for n, b in CONTENT.items()
    }
    pins[f"{served.base}/raw/P1/w2.tif"]["sha256"] = "0" * 64
    records = fetch_unit(spec(), "P1", {}, tmp_path, pins=pins)
    assert statuses(records) == ["damaged" if i == 2 else "fetched" for i in range(30)]
    assert not (tmp_path / ".first_use").exists()


def test_other_bytes_than_at_the_first_fetch(served, tmp_path):
    first = fetch_unit(spec(), "P1", {}, tmp_path)
    served.put("/raw/P1/w9.tif", b"quite another image")
    Path(first[9]["path"]).unlink()
    records = fetch_unit(spec(), "P1", {}, tmp_path)
    assert statuses(records) == ["damaged" if i == 9 else "present" for i in range(30)]
    assert "when first fetched on" in records[9]["reason"]
    record = tmp_path / ".first_use" / "screen" / "P1.tsv"
    assert str(record) in records[9]["reason"]
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(line for line in lines if "w9.tif" not in line))
    assert fetch_unit(spec(), "P1", {}, tmp_path)[9]["status"] == "fetched"


# --- listers that err


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ([], "lists no files for unit 'P1'"),
        ([Variant("a", ())], "lists no files"),
        ([Variant("a", (RawFile("https://h/1", "f"), RawFile("https://h/2", "f")))], "lists local 'f' twice"),
        ([Variant("a", (RawFile("https://h/1", "f"), RawFile("https://h/1", "g")))], "url and member .* twice"),
    ],
)
def test_listers_that_list_nonsense(variants, words, tmp_path):
    plan(*variants)
    with pytest.raises(SpecError, match=words):
        fetch_unit(spec(), "P1", {}, tmp_path)


def test_unknown_lister(tmp_path):
    wrong = spec()
    wrong["images"]["lister"] = "morphobench.nowhere:x"
    with pytest.raises(SpecError, match="images.lister"):
        fetch_unit(wrong, "P1", {}, tmp_path)


def test_files_and_members_in_one_unit(served, tmp_path):
    from tests.fetch.zips import zip_bytes

    archive = f"{served.base}/images.zip"
    served.put("/images.zip", zip_bytes({"a/x.png": b"x" * 99, "a/y.png": b"y" * 99}))
    files = (
        RawFile(archive, "x.png", member="a/x.png"),
        RawFile(f"{served.base}/raw/P1/w0.tif", "w0.tif"),
        RawFile(archive, "z.png", member="a/z.png"),
        RawFile(archive, "y.png", member="a/y.png"),
    )
    plan(Variant("mixed", files))
    records = fetch_unit(spec(), "P1", {}, tmp_path)
    assert statuses(records) == ["fetched", "fetched", "missing", "fetched"]
    assert [r["member"] for r in records] == ["a/x.png", None, "a/z.png", "a/y.png"]
    assert [open_raw(records[i])[:1] for i in (0, 3)] == [b"x", b"y"]
    assert zipfile.ZipFile(records[0]["path"]).namelist() == ["a/x.png", "a/y.png"]
    assert statuses(fetch_unit(spec(), "P1", {}, tmp_path)) == ["present", "present", "missing", "present"]
