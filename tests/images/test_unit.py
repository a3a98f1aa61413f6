"""What readers are given."""

import pytest

from morphobench.errors import DataError
from morphobench.images.unit import MissingImage, UnitFiles


def unit(tmp_path, **record):
    (tmp_path / "a.png").write_bytes(b"content")
    row = {"name": "p/a.png", "path": str(tmp_path / "a.png"), "member": None, "status": "fetched", "reason": None}
    return UnitFiles("u", {}, ({**row, **record},), {})


def test_read(tmp_path):
    files = unit(tmp_path)
    assert files.names() == ["p/a.png"]
    assert files.reason("p/a.png") == ""
    assert files.read("p/a.png") == b"content"


def test_missing_files_have_a_reason(tmp_path):
    files = unit(tmp_path, status="missing", reason="status 404")
    with pytest.raises(MissingImage, match=r"^p/a\.png is missing \(status 404\)$"):
        files.read("p/a.png")
    with pytest.raises(MissingImage, match=r"^p/b\.png is not among the files of unit u$"):
        files.read("p/b.png")
    files = unit(tmp_path)
    (tmp_path / "a.png").unlink()
    with pytest.raises(MissingImage, match=r"^p/a\.png cannot be read"):
        files.read("p/a.png")


def test_a_name_that_occurs_twice(tmp_path):
    row = unit(tmp_path).records[0]
    with pytest.raises(DataError, match=r"file p/a\.png is listed twice"):
        UnitFiles("u", {}, (row, row), {}).names()
