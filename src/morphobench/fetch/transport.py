"""The transport: one address to one local file over HTTP(S). The only module that touches the network.

A richer engine (resume by range, retries, S3) replaces :func:`download` and nothing else: callers hand it an
address and a temporary file, and check size and checksum themselves.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import requests

from morphobench.errors import FetchError

CONNECT_SECONDS = 15
READ_SECONDS = 60
_BLOCK = 1 << 20
_PAGE_STARTS = (b"<!doctype html", b"<html")


class UnreachableError(FetchError):
    """Nobody answered at the address: no network, no such host, connection refused or timed out."""


class MissingError(FetchError):
    """The server, or the mirror, says that it does not have this file."""


def download(url: str, part: Path, *, redirects: bool = True, timeout: tuple[float, float] | None = None) -> None:
    """Stream the body at ``url`` into ``part``.

    Parameters
    ----------
    url
        An http or https address.
    part
        The temporary file; overwritten.
    redirects
        Whether to follow redirects; False for a mirror, so that no other host is contacted.
    timeout
        Seconds to wait for a connection and between two blocks.

    Raises
    ------
    UnreachableError
        If no connection comes about.
    MissingError
        If the answer is 404 or 410.
    FetchError
        If the status is another than 200, the body is an HTML page where a file was asked for, or the body ends
        before its announced length.
    """
    if urlsplit(url).scheme.lower() not in ("http", "https"):
        raise FetchError(f"{url}: only http and https can be fetched over the network; use a mirror")
    # Without this header a server may compress a .csv.gz once more, and sizes no longer mean anything.
    headers = {"Accept-Encoding": "identity", "User-Agent": "morphobench"}
    timeout = timeout or (CONNECT_SECONDS, READ_SECONDS)
    try:
        with requests.get(url, stream=True, headers=headers, timeout=timeout, allow_redirects=redirects) as answer:
            _check_answer(url, answer)
            _save(url, answer, part)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise UnreachableError(f"{url}: cannot be reached ({_reason(error)})") from error
    except requests.RequestException as error:
        raise FetchError(f"{url}: broken off ({_reason(error)})") from error


def _check_answer(url: str, answer: requests.Response) -> None:
    if answer.status_code in (404, 410):
        raise MissingError(f"{url}: the server answers {answer.status_code} (no such file)")
    if answer.status_code != 200:
        raise FetchError(f"{url}: the server answers {answer.status_code} ({answer.reason}), expected 200")
    kind = answer.headers.get("Content-Type", "").lower()
    if kind.startswith("text/html") and not _is_page(url):
        raise FetchError(f"{url}: the server sends an HTML page instead of the file")


def _save(url: str, answer: requests.Response, part: Path) -> None:
    size = 0
    with open(part, "wb") as stream:
        for block in answer.iter_content(_BLOCK):
            if not size and not _is_page(url) and block.lstrip()[:20].lower().startswith(_PAGE_STARTS):
                raise FetchError(f"{url}: the server sends an HTML page instead of the file")
            stream.write(block)
            size += len(block)
    announced = answer.headers.get("Content-Length")
    if announced and "Content-Encoding" not in answer.headers and size != int(announced):
        raise FetchError(f"{url}: broken off after {size} of {announced} bytes")


def _is_page(url: str) -> bool:
    return urlsplit(url).path.lower().endswith((".html", ".htm"))


def _reason(error: Exception) -> str:
    inner: BaseException = error
    while inner.args and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    inner = getattr(inner, "reason", None) or inner
    text = str(inner).splitlines()[0] if str(inner) else type(inner).__name__
    return text.partition(": ")[2] or text
