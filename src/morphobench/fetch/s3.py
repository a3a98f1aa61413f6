"""Objects of public S3 buckets, asked for without credentials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
import urllib3
from botocore import UNSIGNED
from botocore import exceptions as problems
from botocore.config import Config

from morphobench.errors import FetchError
from morphobench.fetch.checksums import announced_hashes
from morphobench.fetch.failures import ChangedError, MissingError, RefusedError, TransientError
from morphobench.fetch.policy import RETRIED, Policy, retry_after
from morphobench.fetch.sources import BLOCK, Answer, Found

_NO_CONNECTION = (problems.EndpointConnectionError, problems.ConnectTimeoutError)
_BROKEN = (
    problems.HTTPClientError,
    problems.IncompleteReadError,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
)
_SLOW_DOWN = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"}


def anonymous_client(policy: Policy, connections: int = 32) -> Any:
    """Return a client that signs nothing and retries nothing by itself.

    The endpoint is Amazon's unless the environment variable ``AWS_ENDPOINT_URL_S3`` names another.
    """
    return boto3.client(
        "s3",
        region_name="us-east-1",
        config=Config(
            signature_version=UNSIGNED,
            retries={"total_max_attempts": 1},
            connect_timeout=policy.connect_seconds,
            read_timeout=policy.read_seconds,
            max_pool_connections=connections,
            response_checksum_validation="when_required",
        ),
    )


class S3Source:
    """One object ``s3://bucket/key``.

    Parameters
    ----------
    url
        The address.
    client
        See :func:`anonymous_client`.
    """

    def __init__(self, url: str, client: Any) -> None:
        self.where = url
        parts = urlsplit(url)
        # A key may hold what in an address would begin a query.
        self._object = {"Bucket": parts.netloc, "Key": url.split("/", 3)[3] if url.count("/") > 2 else ""}
        self._client = client

    @contextmanager
    def open(self, start: int = 0, stop: int | None = None, validator: str | None = None) -> Iterator[Answer]:
        """See :class:`morphobench.fetch.sources.Source`."""
        options: dict[str, str] = {}
        if start > 0 or stop is not None:
            options["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
            if validator is not None:
                options["IfMatch"] = validator
        answer = self._ask(self._client.get_object, **options)
        meta = answer["ResponseMetadata"]
        ranged = meta["HTTPStatusCode"] == 206
        length = answer["ContentLength"]
        total = int(answer["ContentRange"].rpartition("/")[2]) if ranged else length
        first = start if ranged else 0
        try:
            yield Answer(
                first,
                total,
                answer.get("ETag"),
                self._blocks(answer["Body"], first, length),
                announced_hashes({**meta["HTTPHeaders"], "server": "AmazonS3"}),
            )
        finally:
            answer["Body"].close()

    def probe(self) -> Found:
        """See :class:`morphobench.fetch.sources.Source`."""
        answer = self._ask(self._client.head_object)
        return Found(answer["ContentLength"], answer.get("ETag"))

    def _ask(self, call: Any, **options: str) -> dict[str, Any]:
        try:
            return call(**self._object, **options)
        except problems.ClientError as error:
            raise self._refusal(error) from error
        except _NO_CONNECTION as error:
            raise TransientError(f"{self.where}: cannot be reached ({error})", "connect") from error
        except _BROKEN as error:
            raise TransientError(f"{self.where}: cannot be reached ({error})", "silent") from error
        except problems.BotoCoreError as error:
            raise FetchError(f"{self.where}: cannot be fetched ({error})") from error

    def _refusal(self, error: problems.ClientError) -> FetchError:
        meta = error.response.get("ResponseMetadata", {})
        status, code = meta.get("HTTPStatusCode", 0), error.response.get("Error", {}).get("Code", "")
        if status in (404, 410):
            return MissingError(f"{self.where}: the server answers {status} (no such file)")
        if status in (401, 403):
            return RefusedError(f"{self.where}: the server answers {status} (not for everybody)")
        if status in (412, 416):
            return ChangedError(f"{self.where}: the server no longer has the bytes asked for ({status})")
        text = f"{self.where}: the server answers {status} ({code}), expected 200"
        if status in RETRIED or code in _SLOW_DOWN:
            return TransientError(text, "status", status, retry_after(meta.get("HTTPHeaders", {})))
        return FetchError(text)

    def _blocks(self, body: Any, start: int, length: int) -> Iterator[bytes]:
        got = 0
        text = f"{self.where}: broken off after {{}} of {start + length} bytes"
        try:
            for block in body.iter_chunks(BLOCK):
                got += len(block)
                yield block
        except _BROKEN as error:
            raise TransientError(text.format(start + got), "broken") from error
        if got < length:
            raise TransientError(text.format(start + got), "broken")
