"""Why a file could not be had. All but the last two may reach the user, each as one sentence."""

from __future__ import annotations

from morphobench.errors import FetchError


class UnreachableError(FetchError):
    """Nobody answered at the address: no network, no such host, connection refused or timed out."""


class MissingError(FetchError):
    """The server, or the mirror, says that it does not have this file."""


class RefusedError(FetchError):
    """The server says that this file is not for everybody (401, 403)."""


class DamagedError(FetchError):
    """What arrives is not the file: other bytes than expected, an HTML page, or never all of it."""


class GivenUpError(FetchError):
    """The server answered every try with a passing fault.

    Parameters
    ----------
    message
        The sentence for the user.
    status
        The HTTP status of the last answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class DifferentError(FetchError):
    """The server announces another size than expected; the message says only how the two differ."""


class ChangedError(FetchError):
    """The file at the address is no longer the one that was begun with."""


class TransientError(FetchError):
    """A fault that may pass: worth another try.

    Parameters
    ----------
    message
        One sentence, in case no try is left.
    kind
        ``connect`` (no connection), ``silent`` (connected, no answer), ``status`` (an answer that asks to come
        back) or ``broken`` (the body ended early).
    status
        The HTTP status, for kind ``status``.
    wait
        Seconds that the server asks to wait, if it does.
    """

    def __init__(self, message: str, kind: str, status: int = 0, wait: float | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.wait = wait
