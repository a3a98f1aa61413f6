import hashlib
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from morphobench.errors import FetchError
from morphobench.fetch import fetch
from morphobench.fetch.failures import DamagedError, GivenUpError
from morphobench.fetch.policy import Policy
from morphobench.fetch.transport import MissingError, RefusedError, Transport, UnreachableError

CONTENT = np.random.default_rng(0).bytes(400_000)
OTHER = np.random.default_rng(1).bytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_dropped_connection_is_resumed_by_range(faulty, tmp_path, waits):
    url = faulty.put("/f.bin", CONTENT, faults=[{"drop": 150_000}, {"close": 100_000}])
    record = fetch(url, tmp_path / "f.bin", sha256=SHA256)
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert record["sha256"] == SHA256
    assert names(tmp_path) == ["f.bin"]
    first, second, third = faulty.asked()
    assert first is None
    assert second == "bytes=150000-"
    assert third == "bytes=250000-"
    assert faulty.seen[1].headers["if-range"] == faulty.have["/f.bin"].tag
    assert len(waits) == 2


def test_a_later_call_goes_on_where_an_earlier_gave_up(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT, faults=[{"drop": 150_000}, *[{"status": 503}] * 6])
    with pytest.raises(GivenUpError, match="503"):
        fetch(url, tmp_path / "f.bin")
    assert names(tmp_path) == [".f.bin.part", ".f.bin.part.json"]
    state = json.loads((tmp_path / ".f.bin.part.json").read_text())
    assert (state["url"], state["total"]) == (url, len(CONTENT))
    fetch(url, tmp_path / "f.bin", sha256=SHA256)
    assert faulty.asked()[-1] == "bytes=150000-"
    assert names(tmp_path) == ["f.bin"]


def test_a_complete_part_is_not_asked_for_again(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT, faults=[{"drop": 150_000}, *[{"status": 503}] * 6])
    with pytest.raises(GivenUpError):
        fetch(url, tmp_path / "f.bin")
    (tmp_path / ".f.bin.part").write_bytes(CONTENT)
    count = len(faulty.seen)
    fetch(url, tmp_path / "f.bin", sha256=SHA256)
    assert len(faulty.seen) == count


def test_a_part_of_another_address_is_not_used(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT)
    (tmp_path / ".f.bin.part").write_bytes(b"x" * 1000)
    state = {"url": faulty.base + "/g.bin", "validator": faulty.have["/f.bin"].tag, "total": 400_000, "hashes": {}}
    (tmp_path / ".f.bin.part.json").write_text(json.dumps(state))
    fetch(url, tmp_path / "f.bin", sha256=SHA256)
    assert faulty.asked() == [None]


@pytest.mark.parametrize("state", ["", "{", "[]", '{"url": 1}'])
def test_an_unreadable_state_means_a_new_start(faulty, tmp_path, state):
    url = faulty.put("/f.bin", CONTENT)
    (tmp_path / ".f.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / ".f.bin.part.json").write_text(state)
    fetch(url, tmp_path / "f.bin", sha256=SHA256)
    assert faulty.asked() == [None]
    assert names(tmp_path) == ["f.bin"]


def test_server_that_ignores_range_starts_over(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT, ranges=False, faults=[{"drop": 150_000}])
    fetch(url, tmp_path / "f.bin")
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert faulty.asked()[:2] == [None, "bytes=150000-"]


def test_server_without_validator_starts_over(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT, etag=False, faults=[{"drop": 150_000}])
    fetch(url, tmp_path / "f.bin")
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert faulty.asked() == [None, None]


def test_last_modified_will_do_where_the_etag_is_weak(faulty, tmp_path):
    headers = {"ETag": 'W/"1"', "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
    url = faulty.put("/f.bin", CONTENT, headers=headers, faults=[{"drop": 150_000}])
    fetch(url, tmp_path / "f.bin")
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert faulty.asked() == [None, "bytes=150000-"]
    assert faulty.seen[1].headers["if-range"] == headers["Last-Modified"]


@pytest.mark.parametrize("after", [OTHER, OTHER[:100_000], OTHER + b"longer"])
def test_file_that_changes_between_two_ranges_is_noticed(faulty, tmp_path, after):
    url = faulty.put("/f.bin", CONTENT, faults=[{"drop": 150_000}, {"change": after}])
    fetch(url, tmp_path / "f.bin")
    assert (tmp_path / "f.bin").read_bytes() == after


def test_a_range_of_a_changed_file_sent_as_if_nothing_were(faulty, tmp_path, monkeypatch):
    url = faulty.put("/f.bin", CONTENT, faults=[{"drop": 150_000}, {"change": OTHER}])
    # A server that knows no If-Range sends bytes of the new file; only its ETag tells.
    from morphobench.fetch import http

    monkeypatch.setattr(http.HttpSource, "open", _without_if_range(http.HttpSource.open))
    fetch(url, tmp_path / "f.bin")
    assert (tmp_path / "f.bin").read_bytes() == OTHER
    assert faulty.asked() == [None, "bytes=150000-", None]


def _without_if_range(original):
    return lambda self, start=0, stop=None, validator=None: original(self, start, stop, None)


def test_file_that_keeps_changing_is_an_error(faulty, tmp_path):
    faults = [{"drop": 150_000}, {"change": OTHER, "drop": 150_000}, {"drop": 150_000}, {"change": CONTENT[::-1]}]
    url = faulty.put("/f.bin", CONTENT, ranges=True, faults=faults)
    with pytest.raises(FetchError, match="changed on the server twice"):
        fetch(url, tmp_path / "f.bin")
    assert names(tmp_path) == []


def test_answer_with_another_range_than_asked_for(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT, faults=[{"drop": 150_000}, {"shift": 1}])
    with pytest.raises(FetchError, match="answers a range with bytes 150001"):
        fetch(url, tmp_path / "f.bin")
    assert not (tmp_path / "f.bin").exists()


@given(st.lists(st.tuples(st.sampled_from(["drop", "close"]), st.integers(0, 60_000)), max_size=8), st.booleans())
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_drops_the_file_is_the_original(faulty, tmp_path, drops, ranges):
    content = CONTENT[:50_000]
    faults = [{kind: count} for kind, count in drops] if ranges else [{k: c} for k, c in drops[:4]]
    url = faulty.put("/p.bin", content, ranges=ranges, faults=faults)
    path = tmp_path / "p.bin"
    path.unlink(missing_ok=True)
    for _ in range(len(drops) + 1):
        try:
            fetch(url, path)
            break
        except FetchError:
            assert not path.exists()
    assert path.read_bytes() == content
    assert names(tmp_path) == ["p.bin"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_faults_are_tried_again(faulty, tmp_path, waits, status):
    url = faulty.put("/f.bin", CONTENT, faults=[{"status": status}] * 3)
    fetch(url, tmp_path / "f.bin", sha256=SHA256)
    assert len(faulty.seen) == 4
    # doubled each time, at most half taken off at random
    assert all(limit / 2 <= wait <= limit for wait, limit in zip(waits, (1, 2, 4), strict=True))


def test_waits_are_limited_and_tries_end(faulty, tmp_path, waits):
    url = faulty.put("/f.bin", CONTENT, faults=[{"status": 503}] * 100)
    transport = Transport(Policy(tries=9, first_wait=1, longest_wait=20))
    with pytest.raises(GivenUpError, match="503.*try 9"):
        fetch(url, tmp_path / "f.bin", transport=transport)
    assert len(faulty.seen) == 9
    assert max(waits) <= 20
    assert waits[-1] >= 10


@pytest.mark.parametrize(("status", "error"), [(404, MissingError), (410, MissingError), (403, RefusedError)])
def test_what_will_not_pass_is_not_tried_again(faulty, tmp_path, waits, status, error):
    url = faulty.put("/f.bin", CONTENT, faults=[{"status": status}])
    with pytest.raises(error, match=str(status)):
        fetch(url, tmp_path / "f.bin")
    assert len(faulty.seen) == 1
    assert waits == []


def test_retry_after_in_seconds(faulty, tmp_path, waits):
    url = faulty.put("/f.bin", CONTENT, faults=[{"status": 503, "headers": {"Retry-After": "77"}}])
    fetch(url, tmp_path / "f.bin")
    assert waits == [77.0]


def test_retry_after_as_a_date(faulty, tmp_path, waits):
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    url = faulty.put("/f.bin", CONTENT, faults=[{"status": 429, "headers": {"Retry-After": then}}])
    fetch(url, tmp_path / "f.bin")
    assert 200 < waits[0] <= 300


def test_retry_after_that_is_too_long(faulty, tmp_path, waits):
    url = faulty.put("/f.bin", CONTENT, faults=[{"status": 503, "headers": {"Retry-After": "86400"}}])
    with pytest.raises(GivenUpError, match="86400 s .Retry-After., more than the 600 s"):
        fetch(url, tmp_path / "f.bin")
    assert waits == []


def test_no_connection_is_given_up_soon(closed_port, tmp_path, waits):
    with pytest.raises(UnreachableError):
        fetch(f"{closed_port}/f.bin", tmp_path / "f.bin")
    assert len(waits) == Policy().connects - 1


def test_slow_server_is_a_passing_fault(faulty, tmp_path):
    calls = []

    def slow(path):
        calls.append(path)
        if len(calls) == 1:
            import time

            time.sleep(0.6)
        return resource

    url = faulty.put("/f.bin", CONTENT)
    resource = faulty.have["/f.bin"]
    faulty.have["/f.bin"] = slow
    transport = Transport(Policy(read_seconds=0.2))
    fetch(url, tmp_path / "f.bin", sha256=SHA256, transport=transport)
    assert len(calls) == 2


def test_announced_size_that_is_not_the_pinned_one_is_seen_before_the_download(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT)
    with pytest.raises(DamagedError, match="expected 7 bytes, found 400000"):
        fetch(url, tmp_path / "f.bin", size=7)
    assert len(faulty.seen) == 1
    assert names(tmp_path) == []


def test_empty_file(faulty, tmp_path):
    record = fetch(faulty.put("/f.bin", b""), tmp_path / "f.bin", size=0)
    assert record["size"] == 0
    assert names(tmp_path) == ["f.bin"]


def test_unknown_scheme(tmp_path):
    with pytest.raises(FetchError, match="only http, https and s3"):
        fetch("gopher://h.org/f", tmp_path / "f")
