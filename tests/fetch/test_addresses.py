from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.errors import FetchError
from morphobench.fetch import local_path
from morphobench.fetch.addresses import members_path, relative_path

ROOT = Path("/data/raw")


def test_address_becomes_folders():
    assert (
        local_path("https://Raw.Example.org/a/b%20c/d.csv.gz", ROOT) == ROOT / "raw.example.org/a/b%20c/d.csv.gz"
    )
    assert local_path("http://127.0.0.1:8000/x", ROOT) == ROOT / "127.0.0.1_8000/x"


def test_s3_lies_where_its_https_form_does():
    path = local_path("s3://bucket/key/of.parquet", ROOT)
    assert path == ROOT / "bucket.s3.amazonaws.com/key/of.parquet"
    assert path == local_path("https://bucket.s3.amazonaws.com/key/of.parquet", ROOT)


def test_members_of_a_unit_lie_beside_their_archive():
    url = "https://h.org/a/images.zip"
    assert members_path(url, "HUVEC-01", ROOT) == ROOT / "h.org/a/images.zip.members/HUVEC-01.zip"
    assert members_path(url, "a/../b", ROOT).parent == ROOT / "h.org/a/images.zip.members"
    assert members_path(url, "a/b", ROOT) != members_path(url, "a_b", ROOT)
    with pytest.raises(FetchError, match="unit"):
        members_path(url, "..", ROOT)


def test_queries_stay_apart():
    addresses = [
        "https://h.org/f",
        "https://h.org/f?id=1",
        "https://h.org/f?id=2",
        "https://h.org/f?id=1&format=original",
        "https://h.org/f@id=1",
        "https://h.org/f/?persistentId=doi:10.7910/DVN/X",
        "https://h.org/f/?persistentId=doi:10.7910/DVN/Y",
    ]
    paths = {local_path(a, ROOT) for a in addresses}
    assert len(paths) == len(addresses)


def test_very_long_query_gets_a_name_a_disk_can_hold():
    one, two = (local_path(f"https://h.org/f?q={'x' * 400}{i}", ROOT) for i in (1, 2))
    assert one != two
    assert len(one.name) < 200


@pytest.mark.parametrize(
    "url",
    [
        "https://h.org/../x",
        "https://h.org/a/../../x",
        "https://h.org/a/%2e%2e/x",
        "https://h.org/a/%2E%2E%2Fx",
        "https://h.org/a/./x",
        "https://h.org/a//x",
        "https://h.org/a/b%00c",
        "https://h.org/a\\..\\x",
        "https://../x",
        "https://user:word@h.org/x",
        "https://h.org/",
        "https://h.org",
        "https://h.org/x#part",
        "ftp://h.org/x",
        "http://[::1/x",
        "file:///etc/passwd",
        "x/y",
    ],
)
def test_unsafe_or_unusable_addresses_are_refused(url):
    with pytest.raises(FetchError, match="^" + url.replace("\\", r"\\").replace("?", r"\?")[:5]):
        local_path(url, ROOT)


_PART = st.text(st.sampled_from("ab.%2eE/\\?@=&:~ "), min_size=1, max_size=12)


@given(st.lists(_PART, min_size=1, max_size=6, unique=True))
@settings(deadline=None, max_examples=200)
def test_no_address_leads_out_of_the_root_and_no_two_share_a_file(tails):
    seen = {}
    for tail in tails:
        url = f"https://h.org/{tail}"
        try:
            relative = relative_path(url)
        except FetchError:
            continue
        assert relative.startswith("h.org/")
        assert ".." not in relative.split("/")
        assert "" not in relative.split("/")
        assert seen.setdefault(relative, url) == url or url.rstrip("?") == seen[relative].rstrip("?")
