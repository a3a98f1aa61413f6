"""Running one job: a log that exists whatever happens, and a failure that says why.

A failed job leaves, beside its log, ``<log>.failed.json`` with the status (``failed``, ``out_of_memory`` or
``timeout``), the reason in one sentence, and the log's path. Tables read it to fill the cells of a method
that did not finish. A later success removes it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from morphobench import __version__
from morphobench.errors import MorphobenchError
from morphobench.files import write_json


class _OutOfTimeError(BaseException):
    """The job was told to stop; a BaseException so that no handler for ordinary errors swallows it."""


def failure_path(log: str | Path) -> Path:
    """Return where a job that logs to ``log`` leaves its failure."""
    return Path(f"{log}.failed.json")


def _stop(signum: int, frame: Any) -> None:
    raise _OutOfTimeError


@contextmanager
def logged_job(log: str | Path) -> Iterator[None]:
    """Run a block with standard output and error in ``log``; on failure record why and exit with status 1.

    Parameters
    ----------
    log
        The log file. It is opened before anything heavy is imported, so that a failed import is in it too.
    """
    log = Path(log)
    log.parent.mkdir(parents=True, exist_ok=True)
    failed = failure_path(log)
    failed.unlink(missing_ok=True)
    started = time.monotonic()
    previous = signal.signal(signal.SIGTERM, _stop)
    failure: dict[str, str] | None = None
    with open(log, "w", encoding="utf-8", buffering=1) as stream:
        print(f"morphobench {__version__}, process {os.getpid()}", file=stream)
        with redirect_stdout(stream), redirect_stderr(stream):
            try:
                yield
            except MorphobenchError as error:
                failure = {"status": "failed", "reason": str(error)}
            except MemoryError:
                traceback.print_exc()
                failure = {"status": "out_of_memory", "reason": "the job ran out of memory"}
            except _OutOfTimeError:
                minutes = (time.monotonic() - started) / 60
                failure = {"status": "timeout", "reason": f"the job was told to stop after {minutes:.1f} minutes"}
            except Exception as error:
                traceback.print_exc()
                text = str(error).strip().splitlines()
                failure = {"status": "failed", "reason": f"{type(error).__name__}: {text[0] if text else ''}"}
        signal.signal(signal.SIGTERM, previous)
        if failure is None:
            print(f"done after {time.monotonic() - started:.1f} s", file=stream)
            return
        print(failure["reason"], file=stream)
    write_json(failed, {**failure, "log": str(log)})
    sys.exit(f"{failure['reason']} [{failure['status']}; log: {log}]")
