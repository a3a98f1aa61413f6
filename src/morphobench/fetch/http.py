"""Files over HTTP(S). Every try begins at the address asked for, so redirects are followed afresh."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import requests
import urllib3

from morphobench.errors import FetchError
from morphobench.fetch.checksums import announced_hashes
from morphobench.fetch.failures import (
    ChangedError,
    DamagedError,
    MissingError,
    RefusedError,
    TransientError,
    UnreachableError,
)
from morphobench.fetch.policy import RETRIED, Policy, retry_after
from morphobench.fetch.sources import BLOCK, Answer, Found

# Without the first a server may compress a .csv.gz once more, and sizes no longer mean anything.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "morphobench"}
_PAGE_STARTS = (b"<!doctype html", b"<html")


class HttpSource:
    """One http or https address.

    Parameters
    ----------
    url
        The address.
    session
        Returns the session of the calling thread.
    policy
        Time limits.
    redirects
        Whether to follow redirects; False for a mirror, so that no other host is contacted.
    """

    def __init__(
        self, url: str, session: Callable[[], requests.Session], policy: Policy, *, redirects: bool = True
    ) -> None:
        self.where = self.url = url
        self._session, self._policy, self._redirects = session, policy, redirects

    @contextmanager
    def open(self, start: int = 0, stop: int | None = None, validator: str | None = None) -> Iterator[Answer]:
        """See :class:`morphobench.fetch.sources.Source`."""
        headers = dict(_HEADERS)
        ranged = start > 0 or stop is not None
        if ranged:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            if validator is not None:
                headers["If-Range"] = validator
        with self._request("GET", headers) as answer:
            self._check_status(answer, ranged=ranged)
            self._check_kind(answer)
            yield self._answer(answer, start)

    def probe(self) -> Found:
        """See :class:`morphobench.fetch.sources.Source`."""
        with self._request("HEAD", _HEADERS) as answer:
            # Signed links and some servers allow GET alone.
            if answer.status_code not in (400, 401, 403, 405, 501):
                self._check_status(answer, ranged=False)
                self._check_kind(answer)
                length = answer.headers.get("Content-Length", "")
                return Found(int(length) if length.isdigit() else None, _validator(answer.headers))
        with self.open(0, 1) as ranged:
            return Found(ranged.total, ranged.validator)

    @contextmanager
    def _request(self, method: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        timeout = (self._policy.connect_seconds, self._policy.read_seconds)
        try:
            answer = self._session().request(
                method, self.url, stream=True, headers=headers, timeout=timeout, allow_redirects=self._redirects
            )
        except requests.exceptions.SSLError as error:
            raise UnreachableError(f"{self.url}: no secure connection ({_reason(error)})") from error
        except (requests.ConnectionError, requests.Timeout) as error:
            kind = "connect" if _never_connected(error) else "silent"
            raise TransientError(f"{self.url}: cannot be reached ({_reason(error)})", kind) from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise FetchError(f"{self.url}: cannot be fetched ({_reason(error)})") from error
        with answer:
            yield answer

    def _check_status(self, answer: requests.Response, *, ranged: bool) -> None:
        status = answer.status_code
        if status == 200 or (status == 206 and ranged):
            return
        if status in (404, 410):
            raise MissingError(f"{self.url}: the server answers {status} (no such file)")
        if status in (401, 403):
            raise RefusedError(f"{self.url}: the server answers {status} (not for everybody)")
        if status in (412, 416):
            raise ChangedError(f"{self.url}: the server no longer has the bytes asked for ({status})")
        text = f"{self.url}: the server answers {status} ({answer.reason}), expected 200"
        if status in RETRIED:
            raise TransientError(text, "status", status, retry_after(answer.headers))
        raise FetchError(text)

    def _check_kind(self, answer: requests.Response) -> None:
        kind = answer.headers.get("Content-Type", "").lower()
        if kind.startswith(("text/html", "multipart/byteranges")) and not self._is_page():
            what = "an HTML page" if "html" in kind else "several parts"
            raise DamagedError(f"{self.url}: the server sends {what} instead of the file")

    def _answer(self, answer: requests.Response, asked: int) -> Answer:
        headers = {k.lower(): v for k, v in answer.headers.items()}
        length = headers.get("content-length", "")
        announced = int(length) if length.isdigit() else None
        start, total = 0, announced
        if answer.status_code == 206:
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", headers.get("content-range", "").strip())
            if not match or int(match[1]) != asked:
                found = headers.get("content-range", "no Content-Range")
                raise FetchError(f"{self.url}: the server answers a range with {found}, expected one from {asked}")
            start, total = asked, None if match[3] == "*" else int(match[3])
            announced = int(match[2]) + 1 - asked
        if headers.get("content-encoding", "identity") != "identity":
            return self._encoded(answer)
        blocks = self._blocks(answer, start, announced, decode=False)
        return Answer(start, total, _validator(answer.headers), blocks, announced_hashes(headers))

    def _encoded(self, answer: requests.Response) -> Answer:
        """Take a body that was compressed for the way although asked not to; its length and hashes mean nothing.

        Of a .gz the encoding is the file's own, as servers that label .csv.gz so mean it.
        """
        own = urlsplit(self.url).path.lower().endswith((".gz", ".tgz"))
        return Answer(0, None, None, self._blocks(answer, 0, None, decode=not own))

    def _blocks(
        self, answer: requests.Response, start: int, announced: int | None, *, decode: bool
    ) -> Iterator[bytes]:
        got = 0
        try:
            for block in answer.raw.stream(BLOCK, decode_content=decode):
                if not (start or got or self._is_page()) and block.lstrip()[:20].lower().startswith(_PAGE_STARTS):
                    raise DamagedError(f"{self.url}: the server sends an HTML page instead of the file")
                got += len(block)
                yield block
        except (urllib3.exceptions.HTTPError, requests.RequestException, ConnectionError, TimeoutError) as error:
            raise TransientError(self._broken(start + got, start, announced), "broken") from error
        if announced is not None and got < announced:
            raise TransientError(self._broken(start + got, start, announced), "broken")

    def _broken(self, got: int, start: int, announced: int | None) -> str:
        return (
            f"{self.url}: broken off after {got} of {'unknown' if announced is None else start + announced} bytes"
        )

    def _is_page(self) -> bool:
        return urlsplit(self.url).path.lower().endswith((".html", ".htm"))


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return what If-Range takes: a strong ETag, else the date of the last change (RFC 9110, 13.1.5)."""
    etag = headers.get("ETag", "").strip()
    if etag.startswith('"'):
        return etag
    return headers.get("Last-Modified")


def _never_connected(error: Exception) -> bool:
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", inner)
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        reason, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError)
    )


def _reason(error: Exception) -> str:
    inner: BaseException = error
    while inner.args and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    inner = getattr(inner, "reason", None) or inner
    text = str(inner).splitlines()[0] if str(inner) else type(inner).__name__
    return text.partition(": ")[2] or text
