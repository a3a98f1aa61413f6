"""Progress of a transfer: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from tqdm import tqdm

EVERY_SECONDS = 30.0


class Progress:
    """Bytes arrived, shown on standard error; safe to feed from several threads.

    Parameters
    ----------
    what
        What is fetched, in a few words.
    total
        Bytes in all, None if unknown.
    stream
        Where to show it; standard error by default.
    clock
        Seconds that only grow.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.total, self.done = what, total, 0
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._lock = threading.Lock()
        self._begun = self._said = clock()
        self._bar: Any = None
        if self._stream.isatty():
            self._bar = tqdm(
                total=total,
                desc=what,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                file=self._stream,
                leave=False,
            )

    def expect(self, total: int | None) -> None:
        """Set how many bytes there are in all, once that is known."""
        with self._lock:
            if self.total is None and total is not None:
                self.total = total
                if self._bar is not None:
                    self._bar.total = total

    def add(self, count: int) -> None:
        """Note ``count`` more bytes; negative where what had arrived was thrown away."""
        with self._lock:
            self.done += count
            if self._bar is not None:
                self._bar.update(count)
                return
            now = self._clock()
            if now - self._said >= EVERY_SECONDS:
                self._said = now
                rate = self.done / (now - self._begun)
                of = f" of {readable(self.total)} ({self.done / self.total:.0%})" if self.total else ""
                print(f"{self.what}: {readable(self.done)}{of}, {readable(rate)}/s", file=self._stream, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def readable(size: float) -> str:
    """Return a number of bytes as people read it, in powers of ten as providers state them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(size) < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
