"""A job's log and its failure record."""

import json
import os
import signal
import sys

import pytest

from morphobench.errors import DataError
from morphobench.jobs import failure_path, logged_job


def test_success_logs_and_clears_an_old_failure(tmp_path):
    log = tmp_path / "deep" / "a.log"
    log.parent.mkdir()
    failure_path(log).write_text("{}")
    with logged_job(log):
        print("hello")
        print("oops", file=sys.stderr)
    text = log.read_text()
    assert "hello" in text
    assert "oops" in text
    assert "done after" in text
    assert not failure_path(log).exists()


@pytest.mark.parametrize(
    ("error", "status", "reason", "traceback"),
    [
        (DataError("plate P1: no controls"), "failed", "plate P1: no controls", False),
        (ValueError("bad\nmore"), "failed", "ValueError: bad", True),
        (MemoryError(), "out_of_memory", "the job ran out of memory", True),
    ],
)
def test_failures(tmp_path, error, status, reason, traceback):
    log = tmp_path / "a.log"
    with pytest.raises(SystemExit) as stop, logged_job(log):
        raise error
    assert reason in str(stop.value)
    record = json.loads(failure_path(log).read_text())
    assert record == {"status": status, "reason": reason, "log": str(log)}
    assert reason in log.read_text()
    assert ("Traceback" in log.read_text()) == traceback


def test_being_told_to_stop_is_a_timeout(tmp_path):
    log = tmp_path / "a.log"
    with pytest.raises(SystemExit), logged_job(log):  # noqa: PT012 - the signal may arrive at either line
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert json.loads(failure_path(log).read_text())["status"] == "timeout"
