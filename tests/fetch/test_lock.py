import pytest
import yaml

from morphobench.errors import SpecError
from morphobench.fetch.lock import Locked, locked_rows, main, pin_of, pinned_files, read_lock, write_lock

SHA = "a" * 64


def dataset(folder, name, *files, licence="CC0-1.0"):
    (folder / "datasets").mkdir(parents=True, exist_ok=True)
    spec = {"licence": {"name": licence}, "files": list(files)}
    (folder / "datasets" / f"{name}.yaml").write_text(yaml.safe_dump(spec))


def test_committed_table_agrees_with_the_specs(root):
    locked = read_lock(root / "specs" / "lock.tsv")
    entries = list(pinned_files(root / "specs"))
    assert entries
    for source, entry, _ in entries:
        row = locked.get(entry["url"])
        assert row is not None, f"{source}: run python -m morphobench.fetch.lock specs"
        assert entry.get("size") in (None, row.size), entry["url"]
        kind, value = pin_of(entry)
        assert kind == "none" or (row.hash_type, row.hash) == (kind, value), entry["url"]
        assert row.licence
    specs = {source for source, _, _ in entries}
    for row in locked.values():
        assert row.source in specs or not row.source.startswith("specs/"), f"{row.url} is in no spec any more"


def test_committed_table_has_the_archives(root):
    locked = read_lock(root / "specs" / "lock.tsv")
    images = locked["https://storage.googleapis.com/rxrx/rxrx1/rxrx1-images.zip"]
    assert (images.size, images.checksum) == (49_039_640_485, "md5:f75ffa93b917e8a82e27e0c3a2b3425f")
    metadata = locked["https://storage.googleapis.com/rxrx/rxrx1/rxrx1-metadata.zip"]
    assert (metadata.size, metadata.checksum) == (1_333_687, "md5:777e959ca0bce5a2aa7f9f9d456aee7e")


def test_rewritten_from_the_specs(tmp_path, capsys):
    specs = tmp_path / "specs"
    pinned = {"name": "a", "url": "https://h.org/a", "size": 5, "sha256": SHA, "licence": "MIT"}
    blob = {"name": "b", "url": "https://h.org/b", "size": None, "sha256": None, "git_sha1": "B" * 40}
    dataset(specs, "one", pinned, blob)
    dataset(specs, "two", pinned, {"name": "c", "url": "https://h.org/c", "size": None, "sha256": None})
    extra = Locked("https://h.org/zip", 9, "md5", "c" * 32, "CC BY 4.0", "2020-01-01", "recorded elsewhere")
    known = Locked("https://h.org/a", 5, "sha256", SHA, "MIT", "2020-01-02", "specs/datasets/one.yaml")
    gone = Locked("https://h.org/gone", 5, "sha256", SHA, "MIT", "2020-01-02", "specs/datasets/one.yaml")
    write_lock([extra, known, gone], specs / "lock.tsv")
    assert main([str(specs)]) == 0
    assert "4 addresses, 1 without a checksum" in capsys.readouterr().out
    locked = read_lock(specs / "lock.tsv")
    assert list(locked) == sorted(locked)
    assert locked["https://h.org/zip"] == extra
    assert locked["https://h.org/a"] == known
    assert locked["https://h.org/b"].checksum == "git:" + "b" * 40
    assert locked["https://h.org/b"].licence == "CC0-1.0"
    assert locked["https://h.org/c"].checksum is None
    assert locked["https://h.org/c"].date > "2020-01-02"
    text = (specs / "lock.tsv").read_text()
    assert main([str(specs)]) == 0
    assert (specs / "lock.tsv").read_text() == text


def test_a_new_pin_has_a_new_date_and_an_unpinned_spec_keeps_what_is_recorded(tmp_path):
    dataset(tmp_path, "one", {"name": "a", "url": "https://h.org/a", "size": 6, "sha256": SHA})
    dataset(tmp_path, "two", {"name": "z", "url": "https://h.org/z", "size": None, "sha256": None})
    before = {
        "https://h.org/a": Locked("https://h.org/a", 5, "sha256", SHA, "MIT", "2020-01-02", "x"),
        "https://h.org/z": Locked("https://h.org/z", 9, "md5", "c" * 32, "", "2020-01-02", "recorded elsewhere"),
    }
    rows = {r.url: r for r in locked_rows(tmp_path, before, "2026-01-01")}
    assert (rows["https://h.org/a"].size, rows["https://h.org/a"].date) == (6, "2026-01-01")
    z = rows["https://h.org/z"]
    assert (z.size, z.hash_type, z.date) == (9, "md5", "2020-01-02")


def test_specs_that_disagree(tmp_path, capsys):
    dataset(tmp_path, "one", {"name": "a", "url": "https://h.org/a", "size": 5, "sha256": SHA})
    dataset(tmp_path, "two", {"name": "a", "url": "https://h.org/a", "size": 6, "sha256": SHA})
    assert main([str(tmp_path)]) == 1
    assert "two.yaml" in capsys.readouterr().err
    assert not (tmp_path / "lock.tsv").exists()


HEAD = "url\tsize\thash_type\thash\tlicence\tdate\tsource\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1"),
        ("url\tsize\n", "line 1: expected the columns"),
        (HEAD + "https://h/a\t5\n", "line 2"),
        (HEAD + "https://h/a\tfive\tnone\t\t\t2026-01-01\t\n", "line 2"),
        (HEAD + "https://h/a\t5\tmd5\tabc\t\t2026-01-01\t\n", "32 hexadecimal digits"),
        (HEAD + f"https://h/a\t5\tmd5\t{'A' * 32}\t\t2026-01-01\t\n", "lower-case"),
        (HEAD + "https://h/a\t5\tsha1\tabc\t\t2026-01-01\t\n", "unknown kind"),
        (HEAD + "https://h/a\t5\tnone\tabc\t\t2026-01-01\t\n", "type none"),
        (HEAD + "https://h/a\t5\tnone\t\t\tyesterday\t\n", "line 2"),
        (HEAD + "https://h/a\t5\tnone\t\t\t2026-01-01\t\n" * 2, "line 3: https://h/a comes twice"),
    ],
)
def test_unreadable_table(tmp_path, text, words):
    (tmp_path / "lock.tsv").write_text(text)
    with pytest.raises(SpecError, match=words):
        read_lock(tmp_path / "lock.tsv")
