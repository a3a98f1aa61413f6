"""From a unit's manifest to its part of the store, as the workflow's jobs do it."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from morphobench.errors import DataError
from morphobench.fetch import RawFile, Variant, write_manifest, write_unit_manifest
from morphobench.images.prepare import prepare_unit
from morphobench.images.unit import Excluded, MissingImage, Sample
from tests.images import screens

SIDE = 8
NAMES = ("p/A01.raw", "p/A02.raw", "p/A03.raw", "p/table.raw")
URL = "https://screen.example/"
ZIP = URL + "images.zip"


def content(name):
    return np.random.default_rng(NAMES.index(name)).integers(1, 200, (2, SIDE, SIDE)).astype(np.uint8)


def list_files(unit, files, options):
    members = options.get("members")
    images = [RawFile(ZIP if members else URL + n, n, n if members else None) for n in NAMES[:3]]
    return [Variant("raw", (*images, RawFile(URL + NAMES[3], NAMES[3], shared=True)))]


def read_unit(unit):
    unit.read(NAMES[3])
    assert unit.files == {"plates": Path(unit.options["plates"])}
    for name in unit.names()[:3]:
        try:
            pixels = np.frombuffer(unit.read(name), np.uint8).reshape(2, SIDE, SIDE)
        except MissingImage as missing:
            yield Excluded("image", name, str(missing))
        else:
            yield Sample(screens.metadata("plate-1", Path(name).stem, 1), pixels)


def fails(unit):
    yield from read_unit(unit)
    raise DataError("plates.csv: well A03 is listed twice")


class Fetched:
    """The raw files of one unit, fetched; and how to prepare it."""

    def __init__(self, folder, reader="read_unit", **options):
        self.raw, self.store = folder / "raw", folder / "store"
        self.manifest, self.shared = folder / "u.tsv", folder / "files.tsv"
        write_manifest([self.row(None, folder / "plates.csv") | {"url": URL + "plates.csv"}], self.shared)
        self.spec = {
            "files": [{"name": "plates", "url": URL + "plates.csv"}],
            "images": {
                "lister": "tests.images.test_prepare:list_files",
                "reader": f"tests.images.test_prepare:{reader}",
                "options": {"plates": str(folder / "plates.csv"), **options},
                "channels": screens.CHANNELS,
            },
        }
        self.records = []
        for file in list_files("u", {}, options)[0].files:
            path = self.raw / ("u.zip" if file.member else file.local)
            path.parent.mkdir(parents=True, exist_ok=True)
            if file.member:
                with zipfile.ZipFile(path, "a") as archive:
                    archive.writestr(file.member, content(file.local).tobytes())
            else:
                path.write_bytes(content(file.local).tobytes())
            self.records.append(self.row(file, path))

    @staticmethod
    def row(file, path):
        facts = {"size": None, "sha256": None, "licence": "CC0-1.0", "status": "fetched", "reason": None}
        named = {"name": file.local, "url": file.url, "member": file.member, "variant": "raw"} if file else {}
        return {**facts, **named, "path": str(path)}

    def prepare(self, **options):
        write_unit_manifest(self.records, self.manifest)
        paths = {"files": self.shared, "manifest": self.manifest, "folder": self.store}
        return prepare_unit(self.spec, "u", **paths, **options)

    def there(self):
        return sorted(p.relative_to(self.raw).as_posix() for p in self.raw.rglob("*") if p.is_file())


@pytest.fixture
def unit(tmp_path):
    return Fetched(tmp_path)


def test_raw_files_become_a_unit_of_the_store_and_stay(unit):
    facts = unit.prepare()
    assert (facts["unit"], facts["samples"], facts["excluded"]) == ("u", 3, 0)
    assert facts["channels"] == ["DNA", "Actin"]
    stored = np.load(unit.store / "u.npy")
    np.testing.assert_array_equal(stored, [content(name) for name in NAMES[:3]])
    assert unit.there() == sorted(NAMES)
    assert unit.manifest.exists()


def test_a_missing_raw_file_is_a_row(unit):
    unit.records[1] |= {"status": "missing", "reason": "status 404"}
    Path(unit.records[1]["path"]).unlink()
    assert unit.prepare(keep_raw=False)["samples"] == 2
    rows = (unit.store / "u.excluded.csv").read_text().splitlines()[1:]
    assert rows == ["u,image,p/A02.raw,p/A02.raw is missing (status 404)"]


@pytest.mark.parametrize("status", ["fetched", "mirrored", "present", "local"])
def test_a_raw_file_that_is_gone_is_no_missing_image(unit, status):
    for record in unit.records:
        record["status"] = status
    Path(unit.records[1]["path"]).unlink()
    with pytest.raises(DataError, match=r"A02\.raw: was fetched and is gone; remove .*u\.tsv to fetch it again$"):
        unit.prepare()
    assert not unit.store.exists()


def test_a_manifest_that_lacks_a_shared_file(unit):
    write_manifest([], unit.shared)
    with pytest.raises(DataError, match=r"has no row for https://screen\.example/plates\.csv"):
        unit.prepare(keep_raw=False)
    assert unit.there() == sorted(NAMES)


@pytest.mark.parametrize("status", ["fetched", "mirrored", "present"])
def test_raw_files_go_but_what_other_units_need_stays(unit, status):
    for record in unit.records:
        record["status"] = status
    unit.prepare(keep_raw=False)
    assert unit.there() == ["p/table.raw"]


def test_the_zip_of_a_unit_goes(tmp_path):
    unit = Fetched(tmp_path, members=True)
    assert unit.there() == ["p/table.raw", "u.zip"]
    assert unit.prepare(keep_raw=False)["samples"] == 3
    assert unit.there() == ["p/table.raw"]


def test_a_users_own_files_are_never_removed(unit):
    for record in unit.records:
        record["status"] = "local"
    unit.prepare(keep_raw=False)
    assert unit.there() == sorted(NAMES)


def test_a_reader_that_fails_costs_no_raw_file(tmp_path):
    unit = Fetched(tmp_path, reader="fails")
    with pytest.raises(DataError, match="listed twice"):
        unit.prepare(keep_raw=False)
    assert unit.there() == sorted(NAMES)
    assert not list(unit.store.glob("u*"))


def test_a_removal_that_breaks_off_lets_the_next_run_fetch_again(unit, monkeypatch):
    removed = []

    def breaks_off(path, missing_ok=False):
        if path.parent.parent == unit.raw and removed.append(path) is None and len(removed) == 2:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        unit.prepare(keep_raw=False)
    # Without the manifest the workflow knows that the unit has to be fetched.
    assert not unit.manifest.exists()
    assert len(unit.there()) == 3
