"""How patient a transfer is: tries, waits between them, time limits."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from morphobench.errors import FetchError
from morphobench.fetch.failures import DamagedError, GivenUpError, TransientError, UnreachableError

RETRIED = frozenset({408, 425, 429, *range(500, 600)} - {501, 505})


def pause(seconds: float) -> None:
    """Wait. A function of its own so that tests need not."""
    time.sleep(seconds)


@dataclass(frozen=True)
class Policy:
    """Patience.

    Parameters
    ----------
    tries
        Tries in a row without a byte gained before a transfer is given up.
    connects
        Tries in a row for which no connection comes about; fewer, since without a network more do not help.
    first_wait, longest_wait
        Seconds before the second try, doubled for each further one, and their limit. Up to half of a wait is taken
        off at random, so that many jobs do not come back at the same moment.
    longest_retry_after
        Seconds of a server's Retry-After that are waited for; asking for more ends the transfer.
    connect_seconds, read_seconds
        Time limits for a connection and between two blocks.
    disk_usage
        Tells the free space of a folder, as :func:`shutil.disk_usage`.
    """

    tries: int = 6
    connects: int = 3
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_retry_after: float = 600.0
    connect_seconds: float = 15.0
    read_seconds: float = 60.0
    disk_usage: Callable[[Any], Any] = shutil.disk_usage


class Attempts:
    """Counts the tries of one transfer and waits between them."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.failures = 0
        self.unconnected = 0

    def failed(self, error: TransientError, *, gained: bool = False) -> None:
        """Wait until the next try is due, or raise what the user is to read if none is left.

        Parameters
        ----------
        error
            Why the try failed.
        gained
            Whether the try brought the transfer further; then the count starts again.
        """
        if gained:
            self.failures = self.unconnected = 0
        self.failures += 1
        self.unconnected = self.unconnected + 1 if error.kind == "connect" else 0
        if self.failures >= self.policy.tries or self.unconnected >= self.policy.connects:
            raise self._final(error) from error
        wait = min(self.policy.first_wait * 2 ** (self.failures - 1), self.policy.longest_wait)
        wait *= 1 - random.random() / 2
        if error.wait is not None:
            if error.wait > self.policy.longest_retry_after:
                raise GivenUpError(
                    f"{error}, and asks to come back in {error.wait:.0f} s (Retry-After), more than the "
                    f"{self.policy.longest_retry_after:.0f} s that are waited for; run again later",
                    error.status,
                ) from error
            wait = max(wait, error.wait)
        pause(wait)

    def _final(self, error: TransientError) -> FetchError:
        if error.kind in ("connect", "silent"):
            return UnreachableError(str(error))
        text = f"{error}, also at try {self.failures}" if self.failures > 1 else str(error)
        return GivenUpError(text, error.status) if error.kind == "status" else DamagedError(text)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, None without a readable one.

    Parameters
    ----------
    headers
        Response headers; the value is a number of seconds or an HTTP date (RFC 9110, 10.2.3).
    now
        The time to count a date from.
    """
    value = next((v for k, v in headers.items() if k.lower() == "retry-after"), "").strip()
    if value.isdigit():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - (now or datetime.now(UTC))).total_seconds())
