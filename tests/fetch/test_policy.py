from datetime import UTC, datetime

import pytest

from morphobench.fetch.failures import DamagedError, GivenUpError, TransientError, UnreachableError
from morphobench.fetch.policy import Attempts, Policy, retry_after

NOW = datetime(2026, 11, 21, 10, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("Sat, 21 Nov 2026 10:02:00 GMT", 120),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after({"retry-After": value}, NOW) == seconds


def test_no_retry_after():
    assert retry_after({}) is None


def test_a_byte_gained_starts_the_count_anew(waits):
    attempts = Attempts(Policy(tries=3))
    for _ in range(20):
        attempts.failed(TransientError("off", "broken"), gained=True)
    assert max(waits) <= 1
    attempts.failed(TransientError("off", "broken"))
    with pytest.raises(DamagedError):
        attempts.failed(TransientError("off", "broken"))


@pytest.mark.parametrize(
    ("kind", "error", "tries"),
    [
        ("connect", UnreachableError, 3),
        ("silent", UnreachableError, 6),
        ("status", GivenUpError, 6),
        ("broken", DamagedError, 6),
    ],
)
def test_what_remains_when_no_try_is_left(waits, kind, error, tries):
    attempts = Attempts(Policy())
    for _ in range(tries - 1):
        attempts.failed(TransientError("why", kind, 503))
    with pytest.raises(error, match="why"):
        attempts.failed(TransientError("why", kind, 503))
    assert len(waits) == tries - 1


def test_jobs_do_not_come_back_together(waits):
    for _ in range(20):
        Attempts(Policy()).failed(TransientError("off", "status", 503))
    assert len(set(waits)) > 10
    assert all(0.5 <= w <= 1 for w in waits)
