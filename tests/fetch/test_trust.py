import threading

import pytest

from morphobench.errors import DataError
from morphobench.fetch.trust import FirstUse


def row(name, sha="a" * 64, **more):
    return {"url": f"https://h/{name}", "size": 3, "sha256": sha, **more}


def test_what_is_recorded_stays(tmp_path):
    trust = FirstUse(tmp_path, "set/unit")
    assert trust.get("https://h/a") is None
    trust.record([row("a"), row("z.zip", member="x"), row("missing", sha=None)])
    trust.record([row("a", "b" * 64), row("b")])
    again = FirstUse(tmp_path, "set/unit")
    assert again.get("https://h/a")["sha256"] == "a" * 64
    assert again.get("https://h/z.zip", "x")["size"] == "3"
    assert again.get("https://h/z.zip") is None
    assert again.get("https://h/missing") is None
    assert again.get("https://h/b") is not None
    assert FirstUse(tmp_path, "other").get("https://h/a") is None
    assert [p.name for p in again.path.parent.iterdir()] == ["unit.tsv"]


def test_group_cannot_lead_out(tmp_path):
    assert (tmp_path / ".first_use") in FirstUse(tmp_path, "../../x").path.resolve().parents


def test_nobody_loses_a_row(tmp_path):
    records = [FirstUse(tmp_path, "set") for _ in range(8)]
    threads = [threading.Thread(target=r.record, args=([row(str(i))],)) for i, r in enumerate(records)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(FirstUse(tmp_path, "set").get(f"https://h/{i}") for i in range(8))


def test_unreadable_record(tmp_path):
    (tmp_path / ".first_use").mkdir()
    (tmp_path / ".first_use" / "set.tsv").write_text("nonsense\n")
    with pytest.raises(DataError, match="set.tsv"):
        FirstUse(tmp_path, "set")
