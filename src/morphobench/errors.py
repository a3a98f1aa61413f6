"""The errors a user may see: each is one sentence that says what was found and what was expected."""

import difflib


class MorphobenchError(Exception):
    """Base of all errors whose message is meant for the user, without a traceback."""


class SpecError(MorphobenchError):
    """The configuration or a spec is wrong; the message names file, line and key."""


class DataError(MorphobenchError):
    """Data are not what they must be; the message names the file and the column or row."""


class FetchError(MorphobenchError):
    """A raw file could not be had or is not the one expected; the message names the address."""


class NotApplicable(MorphobenchError):  # noqa: N818 - a status of a cell, not a fault
    """A metric or method has no meaning for these data; becomes status ``not_applicable`` and its reason."""


def nearest(name: str, known: list[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest known name, or an empty string."""
    match = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.6)
    return f"; did you mean {match[0]!r}?" if match else ""
