import hashlib
import os

import numpy as np
import pytest

from morphobench.fetch import fetch, local_path
from morphobench.fetch.failures import ChangedError, DamagedError
from morphobench.fetch.sources import read_all
from morphobench.fetch.transport import MissingError, RefusedError, Transport, UnreachableError

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def bucket():
    """A bucket ``gallery`` on moto's server; the endpoint is set as a user would, by the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    keep = {k: os.environ.get(k) for k in ("AWS_ENDPOINT_URL_S3", "NO_PROXY", "AWS_ACCESS_KEY_ID")}
    os.environ.update(AWS_ENDPOINT_URL_S3=endpoint, NO_PROXY="127.0.0.1")
    os.environ.pop("AWS_ACCESS_KEY_ID", None)
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    client.create_bucket(Bucket="gallery")
    client.put_object(Bucket="gallery", Key="plate/f 1.bin", Body=CONTENT, ACL="public-read")
    yield client
    server.stop()
    for key, value in keep.items():
        os.environ.pop(key, None) if value is None else os.environ.update({key: value})


@pytest.fixture
def sent(bucket):
    """The requests that a transport of the test sends; ``transport`` is that transport."""
    transport = Transport()
    source = transport.source("s3://gallery/x")
    requests = []
    source._client.meta.events.register("before-send.s3", lambda request, **_: requests.append(request))
    requests_and_transport = type("Sent", (), {"requests": requests, "transport": transport})
    yield requests_and_transport
    source._client.close()


def test_object_is_fetched_without_credentials(sent, tmp_path):
    url = "s3://gallery/plate/f 1.bin"
    record = fetch(url, local_path(url, tmp_path), transport=sent.transport)
    path = tmp_path / "gallery.s3.amazonaws.com/plate/f 1.bin"
    assert path.read_bytes() == CONTENT
    assert (record["path"], record["sha256"]) == (str(path), SHA256)
    assert len(sent.requests) == 1
    for request in sent.requests:
        assert "Authorization" not in request.headers
        assert "X-Amz-Signature" not in request.url


def test_object_that_is_not_there(sent, tmp_path):
    with pytest.raises(MissingError, match="s3://gallery/none: the server answers 404"):
        fetch("s3://gallery/none", tmp_path / "x", transport=sent.transport)
    with pytest.raises(MissingError):
        sent.transport.probe(sent.transport.source("s3://gallery/none"))
    assert len(sent.requests) == 2


def test_object_that_is_not_for_everybody(bucket, sent, tmp_path):
    bucket.put_object(Bucket="gallery", Key="private", Body=CONTENT)
    with pytest.raises(RefusedError, match="403"):
        fetch("s3://gallery/private", tmp_path / "x", transport=sent.transport)


def test_probe_and_ranges(sent):
    source = sent.transport.source("s3://gallery/plate/f 1.bin")
    found = sent.transport.probe(source)
    assert (found.size, found.validator) == (300_000, f'"{hashlib.md5(CONTENT).hexdigest()}"')
    assert sent.transport.read(source, 1000, 2000, found.validator) == CONTENT[1000:2000]
    assert sent.transport.read(source, 299_990) == CONTENT[299_990:]


def test_object_that_changes_between_two_ranges(bucket, sent):
    bucket.put_object(Bucket="gallery", Key="moving", Body=CONTENT, ACL="public-read")
    source = sent.transport.source("s3://gallery/moving")
    found = sent.transport.probe(source)
    bucket.put_object(Bucket="gallery", Key="moving", Body=CONTENT[::-1], ACL="public-read")
    with pytest.raises(ChangedError):
        read_all(source, 10, 20, found.validator)


def test_broken_transfer_is_resumed(sent, tmp_path, monkeypatch, waits):
    from morphobench.fetch import s3
    from morphobench.fetch.failures import TransientError

    whole = s3.S3Source._blocks

    def breaks(self, body, start, length):
        for block in whole(self, body, start, length):
            yield block
            if len(waits) < 2:
                raise TransientError("s3: broken off", "broken")

    monkeypatch.setattr(s3.S3Source, "_blocks", breaks)
    fetch("s3://gallery/plate/f 1.bin", tmp_path / "f", sha256=SHA256, transport=sent.transport)
    ranges = [r.headers.get("Range") for r in sent.requests]
    assert ranges[0] is None
    assert [bool(r) for r in ranges] == [False, True, True]
    assert len(set(ranges)) == 3
    assert all(r.headers["If-Match"] for r in sent.requests[1:])


def test_wrong_bytes_against_a_plain_etag(sent, tmp_path, monkeypatch):
    from morphobench.fetch import s3

    whole = s3.S3Source._blocks

    def flips(self, body, start, length):
        for block in whole(self, body, start, length):
            yield bytes([block[0] ^ 1]) + block[1:]

    monkeypatch.setattr(s3.S3Source, "_blocks", flips)
    with pytest.raises(DamagedError, match="not what the server announces: expected md5"):
        fetch("s3://gallery/plate/f 1.bin", tmp_path / "f", transport=sent.transport)
    assert len(sent.requests) == 2
    assert list(tmp_path.iterdir()) == []


def test_upload_in_parts_has_no_md5(bucket, sent, tmp_path):
    upload = bucket.create_multipart_upload(Bucket="gallery", Key="parts", ACL="public-read")["UploadId"]
    body = b"x" * (5 << 20)
    parts = []
    for number, content in enumerate((body, b"end"), start=1):
        answer = bucket.upload_part(
            Bucket="gallery", Key="parts", PartNumber=number, UploadId=upload, Body=content
        )
        parts.append({"ETag": answer["ETag"], "PartNumber": number})
    bucket.complete_multipart_upload(
        Bucket="gallery", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts}
    )
    source = sent.transport.source("s3://gallery/parts")
    assert sent.transport.probe(source).validator.endswith('-2"')
    record = fetch("s3://gallery/parts", tmp_path / "f", transport=sent.transport)
    assert record["sha256"] == hashlib.sha256(body + b"end").hexdigest()


def test_nobody_at_the_endpoint(closed_port, tmp_path, monkeypatch, waits):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", closed_port)
    with pytest.raises(UnreachableError, match="s3://gallery/f: cannot be reached"):
        fetch("s3://gallery/f", tmp_path / "f", transport=Transport())
    assert len(waits) == 2
