import errno
import subprocess
import sys
import threading
from collections import namedtuple

import numpy as np
import pytest

from morphobench.errors import FetchError
from morphobench.fetch import fetch, local_path
from morphobench.fetch.disk import exclusive_part, require_space, state_path
from morphobench.fetch.policy import Policy
from morphobench.fetch.transport import Transport

CONTENT = np.random.default_rng(0).bytes(3_000_000)
Usage = namedtuple("Usage", "total used free")


def small_disk(free):
    return Transport(Policy(disk_usage=lambda folder: Usage(10, 5, free)))


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({made.stderr.strip()})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_space_is_checked_before_anything_is_written(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT)
    with pytest.raises(
        FetchError, match=r"needs 3.0 MB \(3000000 bytes\), but only 1.0 MB \(1000000 bytes\) are free"
    ):
        fetch(url, tmp_path / "raw" / "f.bin", transport=small_disk(1_000_000))
    assert list((tmp_path / "raw").iterdir()) == []


def test_space_for_the_copy_of_a_mirror(tmp_path):
    copy = local_path("https://h.org/f", tmp_path / "mirror")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    with pytest.raises(FetchError, match="are free"):
        fetch("https://h.org/f", tmp_path / "f", mirror=tmp_path / "mirror", transport=small_disk(10))
    assert not (tmp_path / "f").exists()


def test_space_is_asked_of_the_nearest_folder_that_exists(tmp_path):
    asked = []

    def usage(folder):
        asked.append(folder)
        return Usage(10, 0, 10)

    require_space(tmp_path / "a" / "b", 10, usage, "this")
    assert asked == [tmp_path]


def test_disk_that_fills_up_over_the_network(faulty, tmpfs):
    url = faulty.put("/f.bin", CONTENT, etag=False)
    with pytest.raises(FetchError, match="but only .* are free"):
        fetch(url, tmpfs / "f.bin")
    # The check is fooled, as where others write to the same disk meanwhile.
    with pytest.raises(FetchError, match="the disk is full or the quota exhausted") as caught:
        fetch(url, tmpfs / "f.bin", transport=small_disk(10**9))
    assert "\n" not in str(caught.value)
    assert list(tmpfs.iterdir()) == []


def test_disk_that_fills_up_keeps_what_can_be_resumed(faulty, tmpfs):
    url = faulty.put("/f.bin", CONTENT)
    with pytest.raises(FetchError, match="the disk is full"):
        fetch(url, tmpfs / "f.bin", transport=small_disk(10**9))
    assert not (tmpfs / "f.bin").exists()
    subprocess.run(["mount", "-o", "remount,size=4m", str(tmpfs)], check=True)
    fetch(url, tmpfs / "f.bin")
    assert (tmpfs / "f.bin").read_bytes() == CONTENT
    assert faulty.asked()[-1] is not None


def test_disk_that_fills_up_copying_from_a_mirror(tmp_path, tmpfs):
    copy = local_path("https://h.org/f", tmp_path / "mirror")
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    with pytest.raises(FetchError, match="the disk is full"):
        fetch("https://h.org/f", tmpfs / "f", mirror=tmp_path / "mirror", transport=small_disk(10**9))
    assert list(tmpfs.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_exhausted_quota(faulty, tmp_path, monkeypatch, code):
    def full(*args):
        raise OSError(code, "no")

    url = faulty.put("/f.bin", CONTENT)
    monkeypatch.setattr("morphobench.fetch.transport.write_text", full)
    with pytest.raises(FetchError, match="the disk is full or the quota exhausted"):
        fetch(url, tmp_path / "f.bin")
    assert list(tmp_path.iterdir()) == []


def test_many_threads_want_the_same_file(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT, faults=[{"drop": 1_000_000}])
    records, transport = [], Transport()
    threads = [
        threading.Thread(target=lambda: records.append(fetch(url, tmp_path / "f.bin", transport=transport)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r["status"] for r in records) == ["fetched", *["present"] * 7]
    assert faulty.asked() == [None, "bytes=1000000-"]
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["f.bin"]


_CHILD = """
import sys
from morphobench.fetch import fetch
from morphobench.fetch.policy import Policy
from morphobench.fetch.transport import Transport
print(fetch(sys.argv[1], sys.argv[2], transport=Transport(Policy(first_wait=0.01)))["status"])
"""


def test_many_processes_want_the_same_file(faulty, tmp_path):
    url = faulty.put("/f.bin", CONTENT, faults=[{"drop": 1_000_000}, {"drop": 500_000}])
    command = [sys.executable, "-c", _CHILD, url, str(tmp_path / "f.bin")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = sorted(child.communicate()[0].strip() for child in children)
    assert said == ["fetched", "present", "present"]
    assert len(faulty.asked()) == 3
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


def test_killed_process_leaves_a_part_that_is_resumed(faulty, tmp_path):
    import time

    url = faulty.put(
        "/f.bin", CONTENT, faults=[{"drop": 1_000_000}, {"status": 503, "headers": {"Retry-After": "99"}}]
    )
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, url, str(tmp_path / "f.bin")], stderr=subprocess.DEVNULL
    )
    while len(faulty.seen) < 2:
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert not (tmp_path / "f.bin").exists()
    fetch(url, tmp_path / "f.bin")
    assert faulty.asked()[-1] == "bytes=1000000-"
    assert (tmp_path / "f.bin").read_bytes() == CONTENT


def test_part_survives_only_with_its_state(tmp_path):
    target = tmp_path / "f"
    with exclusive_part(target) as part:
        part.write_bytes(b"half")
    assert list(tmp_path.iterdir()) == []
    with exclusive_part(target) as part:
        part.write_bytes(b"half")
        state_path(part).write_text("{}")
    with exclusive_part(target) as part:
        assert part.read_bytes() == b"half"


def test_file_system_without_locks(faulty, tmp_path, monkeypatch):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", no_locks)
    url = faulty.put("/f.bin", CONTENT, faults=[{"drop": 1_000_000}])
    fetch(url, tmp_path / "f.bin")
    assert faulty.asked() == [None, "bytes=1000000-"]
    assert (tmp_path / "f.bin").read_bytes() == CONTENT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.bin"]


def test_a_renamed_part_leaves_the_next_writers_alone(tmp_path):
    target = tmp_path / "x"
    with exclusive_part(target) as first:
        first.write_text("one")
        first.rename(target)
        second = exclusive_part(target)
        part = second.__enter__()  # the two blocks overlap, which is the point
        part.write_text("two")
    assert part.read_text() == "two"
    second.__exit__(None, None, None)
    assert not part.exists()
    assert target.read_text() == "one"
