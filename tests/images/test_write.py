"""Writing units and finishing stores: bytes, interruptions, checks, statistics."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from morphobench.errors import DataError
from morphobench.files import sha256_of
from morphobench.images.finish import finish_store
from morphobench.images.npy import GrowingArray
from morphobench.images.store import ImageStore
from morphobench.images.unit import Excluded, Sample
from morphobench.images.write import write_unit
from tests.conftest import ROOT
from tests.images import screens
from tests.images.screens import CHANNELS, FOLDS, UNITS, make_store, metadata, pixels, read_unit, unit_files


def hashes(folder) -> dict[str, str]:
    return {p.name: sha256_of(p) for p in sorted(folder.iterdir())}


def test_growing_array_is_an_ordinary_npy_file(tmp_path):
    images = np.random.default_rng(0).integers(0, 60000, (5, 2, 3, 4), dtype=np.uint16)
    with GrowingArray(tmp_path / "x.npy", ((2, 0, 0), np.uint8)) as array:
        for image in images:
            array.append(image[:, ::-1])
        with pytest.raises(ValueError, match="expected"):
            array.append(images[0, :, :2])
    found = np.load(tmp_path / "x.npy", allow_pickle=False)
    np.testing.assert_array_equal(found, images[:, :, ::-1])
    assert found.dtype == np.uint16
    with GrowingArray(tmp_path / "y.npy", ((2, 0, 0), np.uint8)):
        pass
    assert np.load(tmp_path / "y.npy").shape == (0, 2, 0, 0)


def test_same_input_same_bytes_and_no_times_in_files(tmp_path, capsys):
    make_store(tmp_path / "a")
    make_store(tmp_path / "b")
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    assert "samples/s" in capsys.readouterr().out
    names = {f"{u}.{k}" for u in UNITS for k in ("npy", "parquet", "excluded.csv", "json")}
    whole = {"samples.parquet", "statistics.parquet", "folds.parquet", "excluded.csv", "store.json"}
    assert set(hashes(tmp_path / "a")) == names | whole


def test_killed_in_the_middle_and_restarted_gives_the_same_bytes(tmp_path):
    command = [sys.executable, "-m", "tests.images.killed", str(tmp_path / "killed")]
    process = subprocess.Popen([*command, "hang"], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    for line in process.stdout:
        if line == "hanging\n":
            break
    process.kill()
    process.wait()
    left = {p.name for p in (tmp_path / "killed").iterdir()}
    assert {"plate-1.npy", "plate-1.json"} <= left
    assert not [n for n in left if n.startswith("plate-2")]
    assert [n for n in left if n.startswith(".plate-2")]
    with pytest.raises(DataError, match="unit plate-2 is not prepared or was interrupted"):
        finish_store(tmp_path / "killed", UNITS, CHANNELS, FOLDS)
    subprocess.run([*command, "run"], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    make_store(tmp_path / "whole")
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")


def test_a_reader_that_fails_leaves_nothing(tmp_path):
    write_unit(read_unit, unit_files("plate-1"), tmp_path, channels=CHANNELS)

    def broken(unit):
        yield from read_unit(unit)
        raise DataError("well B07 is listed twice")

    with pytest.raises(DataError, match="B07"):
        write_unit(broken, unit_files("plate-1"), tmp_path, channels=CHANNELS)
    assert not list(tmp_path.iterdir())


def test_pixels_are_not_kept_in_memory(tmp_path):
    image = np.zeros((2, 256, 256), np.uint16)

    def many(unit):
        for i in range(300):
            yield Sample(metadata("p", f"A{i:02d}", 1), image)

    tracemalloc.start()
    write_unit(many, unit_files("many"), tmp_path, channels=CHANNELS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "many.npy").stat().st_size > 75e6
    assert peak < 10e6


def test_statistics_are_those_of_the_pixels(tmp_path):
    make_store(tmp_path)
    store = ImageStore(tmp_path)
    statistics = store.statistics.set_index(["Metadata_Plate", "channel"])
    assert len(statistics) == 6
    for plate in UNITS:
        rows = store.samples["Metadata_Plate"] == plate
        for mask, count, name in (
            (rows & (store.samples["Metadata_Control"] == "negcon"), "controls", "control"),
            (rows, "images", "image"),
        ):
            images = store.take(np.flatnonzero(mask)).astype(float)
            for index, channel in enumerate(store.channels):
                row = statistics.loc[(plate, channel)]
                assert row[count] == len(images) == (4 if count == "controls" else 11)
                np.testing.assert_allclose(row[f"{name}_mean"], images[:, index].mean(), rtol=1e-13)
                np.testing.assert_allclose(row[f"{name}_std"], images[:, index].std(), rtol=1e-12)


def test_statistics_of_16_bit_pixels_lose_no_digit(tmp_path):
    image = np.full((2, 128, 128), 65535, np.uint16)
    image[:, 0, 0] = 65534

    def reader(unit):
        for well in ("A01", "A02", "A03"):
            yield Sample(metadata("p", well, 1), image)

    write_unit(reader, unit_files("u"), tmp_path, channels=CHANNELS)
    finish_store(tmp_path, ["u"], CHANNELS, None)
    row = ImageStore(tmp_path).statistics.iloc[0]
    share = 1 / 128**2
    np.testing.assert_allclose(row["image_std"], np.sqrt(share * (1 - share)), rtol=1e-12)


def test_a_plate_may_span_units_and_lack_controls(tmp_path):
    def reader(unit):
        for well in unit.options["wells"]:
            yield Sample(metadata(unit.options["plate"], well, 1), pixels("p", well, 1))

    for unit, plate, wells in (("a", "p", ["A01", "A02"]), ("b", "p", ["B01"]), ("c", "q", ["A02", "B02"])):
        write_unit(reader, unit_files(unit, plate=plate, wells=wells), tmp_path, channels=CHANNELS)
    finish_store(tmp_path, ["a", "b", "c"], CHANNELS, None)
    store = ImageStore(tmp_path)
    statistics = store.statistics.set_index(["Metadata_Plate", "channel"])
    assert statistics.loc[("p", "DNA"), ["controls", "images"]].tolist() == [2, 3]
    np.testing.assert_allclose(statistics.loc[("p", "DNA"), "control_mean"], store.take([0, 2])[:, 0].mean())
    assert statistics.loc[("q", "DNA"), ["controls", "images"]].tolist() == [0, 2]
    assert statistics.loc["q", ["control_mean", "control_std"]].isna().all(axis=None)
    assert store.excluded.to_dict("records") == [
        {
            "unit": "",
            "what": "plate",
            "id": "q",
            "reason": "no negative controls: no control statistics of this plate",
        }
    ]


def test_what_readers_left_out_is_listed(tmp_path):
    excluded = ImageStore(make_store(tmp_path)).excluded
    assert excluded["id"].tolist() == [f"{u}/B03/s2" for u in UNITS]
    assert set(excluded["unit"]) == set(UNITS)


def test_a_unit_without_any_sample(tmp_path):
    def nothing(unit):
        yield Excluded("file", "x.tif", "missing, or not")

    write_unit(nothing, unit_files("empty"), tmp_path, channels=CHANNELS)
    with pytest.raises(DataError, match="none of the 1 units has a sample"):
        finish_store(tmp_path, ["empty"], CHANNELS, None)
    write_unit(read_unit, unit_files("plate-1"), tmp_path, channels=CHANNELS)
    finish_store(tmp_path, ["empty", "plate-1"], CHANNELS, None)
    store = ImageStore(tmp_path)
    assert len(store) == 11
    assert store[0].shape == screens.SHAPE
    assert store.excluded.iloc[0].tolist() == ["empty", "file", "x.tif", "missing, or not"]


def one(**changes):
    def reader(unit):
        yield Sample(metadata("p", "A01", 1), pixels("p", "A01", 1))
        made = {"shape": screens.SHAPE, "dtype": np.uint8, **changes.get("pixels", {})}
        row = metadata("p", "A02", 1, **changes.get("metadata", {}))
        for name in changes.get("without", ()):
            del row[name]
        yield Sample(row, pixels("p", "A02", 1, **made))

    return reader


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"pixels": {"shape": (2, 24, 20)}},
            r"well A02, site 1: pixels are \(2, 24, 20\) uint8, expected \(2, 24, 24",
        ),
        ({"pixels": {"dtype": np.uint16}}, "pixels are .* uint16, expected .* uint8 as of the samples before"),
        ({"pixels": {"shape": (3, 24, 24)}}, r"pixels have shape \(3, 24, 24\), expected \(2, H, W\)"),
        ({"pixels": {"dtype": np.float32}}, "pixels are float32, expected uint8 or uint16"),
        (
            {"metadata": {"Metadata_Control": "DMSO"}},
            "Metadata_Control has 'DMSO' in row 1, expected one of negcon",
        ),
        ({"metadata": {"Metadata_Well": ""}}, "Metadata_Well is empty in row 1"),
        ({"without": ["Metadata_Batch"]}, "Metadata_Batch is empty in row 1"),
        ({"metadata": {"Metadata_Site": 3}}, "Metadata_Site has 3 .* in row 1, expected text"),
        ({"metadata": {"Intensity": 3}}, "column Intensity of the samples does not start with Metadata_"),
        (
            {"metadata": {"Metadata_Concentration": "high"}},
            "Metadata_Concentration has type object, expected numbers",
        ),
    ],
)
def test_bad_samples(tmp_path, changes, sentence):
    with pytest.raises(DataError, match=f"unit u.*{sentence}"):
        write_unit(one(**changes), unit_files("u"), tmp_path, channels=CHANNELS)
    assert not list(tmp_path.iterdir())


def test_units_must_agree(tmp_path):
    def reader(unit):
        yield Sample(metadata(unit.unit, "A01", 1), pixels("p", "A01", 1, **unit.options))

    for unit, options in (("a", {}), ("b", {"shape": (2, 8, 8)}), ("c", {"dtype": np.uint16})):
        write_unit(reader, unit_files(unit, **options), tmp_path, channels=CHANNELS)
    with pytest.raises(DataError, match=r"unit b have shape \[2, 8, 8\], those of unit a \[2, 24, 24\]"):
        finish_store(tmp_path, ["a", "b"], CHANNELS, None)
    with pytest.raises(DataError, match="unit c have dtype uint16, those of unit a uint8"):
        finish_store(tmp_path, ["a", "c"], CHANNELS, None)
    with pytest.raises(DataError, match="unit a has channels DNA, Actin, expected DNA, ER"):
        finish_store(tmp_path, ["a"], ["DNA", "ER"], None)


def test_duplicates_within_and_across_units(tmp_path):
    def reader(unit):
        for cell in unit.options["cells"]:
            yield Sample(metadata("p", "A01", 1, Metadata_Cell=cell), pixels("p", "A01", 1))

    write_unit(reader, unit_files("a", cells=[1, 2]), tmp_path, channels=CHANNELS)
    write_unit(reader, unit_files("b", cells=[2.0, 3.0]), tmp_path, channels=CHANNELS)
    with pytest.raises(DataError, match=r"plate p, well A01, site 1, cell 2.*: 2 samples, in unit a and b"):
        finish_store(tmp_path, ["a", "b"], CHANNELS, None)
    assert not (tmp_path / "store.json").exists()
    assert not (tmp_path / "samples.parquet").exists()
    write_unit(reader, unit_files("b", cells=[3, 4]), tmp_path, channels=CHANNELS)
    assert finish_store(tmp_path, ["a", "b"], CHANNELS, None)["samples"] == 4


def test_columns_that_only_some_units_have(tmp_path):
    def reader(unit):
        yield Sample(metadata(unit.unit, "A01", 1, **unit.options), pixels("p", "A01", 1))

    options = (
        {},
        {"Metadata_Passage": None},
        {"Metadata_Passage": 2, "Metadata_MoA": "x"},
        {"Metadata_Passage": 0.5},
    )
    for unit, more in zip("abcd", options, strict=True):
        write_unit(reader, unit_files(unit, **more), tmp_path, channels=CHANNELS)
    finish_store(tmp_path, list("abcd"), CHANNELS, None)
    samples = ImageStore(tmp_path).samples
    np.testing.assert_array_equal(samples["Metadata_Passage"], [np.nan, np.nan, 2, 0.5])
    assert samples["Metadata_MoA"].isna().tolist() == [True, True, False, True]
    assert samples["Metadata_Unit"].tolist() == list("abcd")
    write_unit(reader, unit_files("e", Metadata_Passage="noon"), tmp_path, channels=CHANNELS)
    with pytest.raises(DataError, match=r"e\.parquet: columns differ in type"):
        finish_store(tmp_path, list("abcde"), CHANNELS, None)


def test_a_unit_that_was_changed_afterwards(tmp_path):
    make_store(tmp_path)
    with open(tmp_path / "plate-2.npy", "r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(
        DataError, match=r"plate-2\.npy: 5000 bytes of \(11, 2, 24, 24\) uint8, expected 12800 bytes"
    ):
        finish_store(tmp_path, UNITS, CHANNELS, FOLDS)
    make_store(tmp_path)
    pd.read_parquet(tmp_path / "plate-2.parquet").iloc[1:].to_parquet(tmp_path / "plate-2.parquet")
    with pytest.raises(DataError, match="10 rows, expected one for each of 11 samples"):
        finish_store(tmp_path, UNITS, CHANNELS, FOLDS)


def test_full_disk(tmp_path, monkeypatch):
    def full(self, row):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(GrowingArray, "append", full)
    with pytest.raises(DataError, match=r"u\.npy: the disk is full"):
        write_unit(one(), unit_files("u"), tmp_path, channels=CHANNELS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a/b", "../a", "", "samples", ".a"])
def test_names_that_are_no_files(tmp_path, name):
    with pytest.raises(DataError, match="cannot name a file"):
        write_unit(read_unit, unit_files(name), tmp_path, channels=CHANNELS)


def test_facts_are_kept(tmp_path):
    facts = json.loads((make_store(tmp_path, pixel_size_um=0.65) / "store.json").read_text())
    assert facts["pixel_size_um"] == 0.65
    assert facts["channels"] == CHANNELS
    assert (facts["samples"], facts["shape"], facts["dtype"]) == (33, [2, 24, 24], "uint8")
