"""The numbers behind the pictures of a store."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from morphobench.images.store import ImageStore
from morphobench.images.unit import Sample
from morphobench.images.views import (
    choose_treatments,
    count_nuclei,
    merge_channels,
    plate_values,
    spread,
    stretch_limits,
    well_place,
)
from tests.images.screens import CHANNELS, make_store, metadata, pixels


def test_spread():
    assert spread([1, 2, 3], 5) == [1, 2, 3]
    assert spread(range(11), 3) == [0, 5, 10]
    assert spread([1, 2], 0) == []


def test_stretch_is_per_channel_over_all_images():
    images = np.zeros((4, 2, 10, 10), np.uint16)
    images[:, 1] = np.arange(400).reshape(4, 10, 10)
    limits = stretch_limits(images)
    np.testing.assert_allclose(limits[1], np.percentile(np.arange(400), [0.5, 99.7]))
    assert limits[0, 1] > limits[0, 0] == 0


def test_merged_colours():
    limits = np.array([[0, 100], [0, 100]])
    colours = np.array([[1, 0, 0], [0, 0, 0.5]])
    image = np.array([[[0, 100, 200]], [[100, 100, 0]]], float)
    np.testing.assert_allclose(merge_channels(image, colours, limits)[0], [[0, 0, 0.5], [1, 0, 0.5], [1, 0, 0]])
    half = merge_channels(np.full((2, 1, 1), 50.0), np.ones((2, 3)), limits)
    np.testing.assert_allclose(half, 1 - (1 - 0.5**1.3) ** 2)
    grey = merge_channels(np.full((3, 1, 1, 1), 25.0), np.ones((1, 3)), limits[:1])
    np.testing.assert_allclose(grey, np.full((3, 1, 1, 3), 0.25))


def test_treatments_of_most_batches_come_first():
    rows = [("neg", "negcon", b) for b in "abc"] + [("neg2", "negcon", "a")]
    rows += [("t10", "trt", b) for b in "abc"] + [("t9", "trt", b) for b in "abc"] + [("one", "trt", "a")] * 5
    samples = pd.DataFrame(rows, columns=["label", "Metadata_Control", "batch"])
    assert choose_treatments(samples, "label", "batch", 3) == ["neg", "t9", "t10"]
    assert choose_treatments(samples, "label", "batch", 9) == ["neg", "t9", "t10", "one"]
    assert choose_treatments(samples.iloc[::-1], "label", "batch", 2) == ["neg", "t9"]
    assert choose_treatments(samples[samples["Metadata_Control"] == "trt"], "label", "batch", 2) == ["t9", "t10"]


@pytest.mark.parametrize(
    ("well", "place"),
    [
        ("A01", (0, 0)),
        ("P24", (15, 23)),
        ("b7", (1, 6)),
        ("AF48", (31, 47)),
        ("TUBB", None),
        ("A0", None),
        ("7", None),
    ],
)
def test_well_places(well, place):
    assert well_place(well) == place


def test_count_nuclei():
    y, x = np.mgrid[:100, :100]
    image = np.random.default_rng(0).normal(20, 3, (100, 100))
    for i, j in ((20, 20), (20, 70), (60, 40), (80, 85)):
        image += 150 * ((y - i) ** 2 + (x - j) ** 2 < 49)
    image[50, 90] = 250
    assert count_nuclei(image.clip(0, 255).astype(np.uint8)) == 4
    assert count_nuclei(np.full((10, 10), 7, np.uint8)) == 0


def test_values_of_wells(tmp_path):
    store = ImageStore(make_store(tmp_path))
    table, unit = plate_values(store, "plate-2", CHANNELS)
    assert unit == "nuclei per image"
    assert table.index.tolist() == ["A01", "A02", "A03", "B01", "B02", "B03"]
    assert table["negcon"].tolist() == [True, False, False] * 2
    expected = np.mean([pixels("plate-2", "B02", s)[1].mean() for s in (1, 2)])
    np.testing.assert_allclose(table.loc["B02", "Actin"], expected)
    np.testing.assert_allclose(
        plate_values(store, "plate-2", CHANNELS, 1)[0].loc["B02", "DNA"], pixels("plate-2", "B02", 1)[0].mean()
    )


def test_counts_that_samples_bring(tmp_path):
    def reader(unit):
        for site, count in ((1, 10), (2, 20)):
            yield Sample(metadata("p", "A01", site, Metadata_CellCount=count), pixels("p", "A01", site))

    table, unit = plate_values(ImageStore(make_store(tmp_path, ["p"], reader, None)), "p", CHANNELS)
    assert (unit, table.loc["A01", "count"]) == ("cells per image", 15)

    def cells(unit):
        for cell in range(5):
            yield Sample(metadata("p", "A01", 1, Metadata_Cell=cell), pixels("p", "A01", cell))

    table, unit = plate_values(ImageStore(make_store(tmp_path, ["p"], cells, None)), "p", CHANNELS)
    assert (unit, table.loc["A01", "count"]) == ("cells", 5)
    grey = [{"name": "phase"}, {"name": "red"}]
    table, unit = plate_values(ImageStore(make_store(tmp_path, ["p"], folds=None)), "p", grey)
    assert unit == ""
    assert "count" not in table
