import hashlib
import json
from urllib.parse import urlsplit

import pytest

from morphobench.errors import FetchError
from morphobench.fetch import fetch
from morphobench.fetch.dataverse import dataset_address, list_dataverse

CONTENT = bytes(range(256)) * 1000
DOI = "doi:10.7910/DVN/VYKTI5"


def listing():
    """As the native API answers, shortened."""
    parts = [
        {
            "label": f"part.{i}.parquet",
            "restricted": False,
            "directoryLabel": "interphase-reclassified_cp_phenotype_normalized.parquet",
            "version": 1,
            "dataFile": {
                "id": 4900 + i,
                "persistentId": "",
                "filename": f"part.{i}.parquet",
                "contentType": "application/octet-stream",
                "filesize": len(CONTENT),
                "storageIdentifier": "s3://dvn-cloud:17d-abc",
                "md5": hashlib.md5(CONTENT).hexdigest(),
                "checksum": {"type": "MD5", "value": hashlib.md5(CONTENT).hexdigest()},
            },
        }
        for i in range(2)
    ]
    table = {
        "label": "groups.tab",
        "dataFile": {
            "id": 4910,
            "filename": "groups.tab",
            "filesize": 900,
            "originalFileFormat": "text/csv",
            "originalFileName": "groups.csv",
            "originalFileSize": 1000,
            "checksum": {"type": "MD5", "value": "AB" * 16},
        },
    }
    other = {
        "label": "x.txt",
        "dataFile": {"id": 4911, "filename": "x.txt", "checksum": {"type": "SHA-1", "value": "1"}},
    }
    return {"status": "OK", "data": {"id": 1, "latestVersion": {"files": [*parts, table, other]}}}


def put_listing(faulty, answer):
    address = urlsplit(dataset_address(faulty.base, DOI))
    faulty.put(f"{address.path}?{address.query}", json.dumps(answer).encode())


def test_address():
    assert dataset_address("https://dataverse.harvard.edu/", "10.7910/DVN/VYKTI5") == (
        "https://dataverse.harvard.edu/api/datasets/:persistentId/?persistentId=doi:10.7910/DVN/VYKTI5"
    )


def test_files_are_listed(faulty):
    put_listing(faulty, listing())
    files = list_dataverse(faulty.base, DOI)
    assert [f.path for f in files] == [
        "interphase-reclassified_cp_phenotype_normalized.parquet/part.0.parquet",
        "interphase-reclassified_cp_phenotype_normalized.parquet/part.1.parquet",
        "groups.csv",
        "x.txt",
    ]
    assert [f.url.removeprefix(faulty.base) for f in files] == [
        "/api/access/datafile/4900",
        "/api/access/datafile/4901",
        "/api/access/datafile/4910?format=original",
        "/api/access/datafile/4911",
    ]
    assert [f.size for f in files] == [len(CONTENT), len(CONTENT), 1000, None]
    assert [f.md5 for f in files] == [*[hashlib.md5(CONTENT).hexdigest()] * 2, "ab" * 16, None]


def test_listed_file_is_fetched_through_links_that_are_good_once(faulty, tmp_path):
    put_listing(faulty, listing())
    made = []

    def api(path):
        made.append(f"/bucket/17d-abc?X-Amz-Signature={len(made)}")
        faults = [{"drop": 50_000}] if len(made) < 3 else []
        faulty.put(made[-1], CONTENT, once=True, faults=faults)
        return made[-1]

    faulty.have["/api/access/datafile/4900"] = api
    listed = list_dataverse(faulty.base, DOI)[0]
    fetch(listed.url, tmp_path / "f", size=listed.size, checksum=f"md5:{listed.md5}")
    assert (tmp_path / "f").read_bytes() == CONTENT
    paths = [r.path for r in faulty.seen[1:]]
    assert paths[::2] == ["/api/access/datafile/4900"] * 3
    assert paths[1::2] == made
    assert len(set(made)) == 3


def test_passing_fault_while_listing(faulty):
    put_listing(faulty, listing())
    address = urlsplit(dataset_address(faulty.base, DOI))
    faulty.have[f"{address.path}?{address.query}"].faults[:] = [{"status": 503}]
    assert len(list_dataverse(faulty.base, DOI)) == 4


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": "ERROR", "message": "not found"}, "answers ERROR .not found"),
        ({"status": "OK", "data": {}}, "latestVersion"),
        ({"status": "OK", "data": {"latestVersion": {"files": [{}]}}}, "dataFile"),
        ([], "not the description"),
    ],
)
def test_answers_that_are_no_listing(faulty, answer, words):
    put_listing(faulty, answer)
    with pytest.raises(FetchError, match=words):
        list_dataverse(faulty.base, DOI)
