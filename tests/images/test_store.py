"""Reading stores: the same pixels as were written, in every way of asking for them."""

from __future__ import annotations

import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.errors import DataError
from morphobench.images.store import ImageDataset, ImageStore
from tests.images.screens import SHAPE, UNITS, make_store, pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"), pixel_size_um=0.5)


def expected(store: ImageStore) -> np.ndarray:
    rows = store.samples[["Metadata_Plate", "Metadata_Well", "Metadata_Site"]].itertuples(index=False)
    return np.stack([pixels(*row) for row in rows])


def test_every_image_is_the_one_written(folder):
    store = ImageStore(folder)
    images = expected(store)
    assert len(store) == len(images) == 33
    assert store.shape == SHAPE
    assert store.channels == ("DNA", "Actin")
    for index, image in enumerate(images):
        np.testing.assert_array_equal(store[index], image)
    np.testing.assert_array_equal(store[-1], images[-1])
    assert store.samples["Metadata_Unit"].unique().tolist() == list(UNITS)
    assert store.samples["Metadata_Row"].tolist() == [*range(11)] * 3
    for index in (33, -34):
        with pytest.raises(IndexError):
            store[index]
        with pytest.raises(IndexError):
            store.take([0, index])


def test_images_are_views_that_cannot_be_written(folder):
    image = ImageStore(folder)[3]
    assert not image.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        image[0] = 1


@settings(deadline=None, max_examples=30)
@given(indices=st.lists(st.integers(-33, 32), max_size=40))
def test_take_is_fancy_indexing(folder, indices):
    store = ImageStore(folder)
    images = expected(store)
    found = store.take(indices)
    np.testing.assert_array_equal(found, images[np.array(indices, dtype=int)])
    assert found.dtype == store.dtype
    out = np.empty((len(indices), *SHAPE), np.uint8)
    assert store.take(np.array(indices, dtype=np.int32), out) is out


def test_nothing_is_unpickled(folder, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    store = ImageStore(folder)
    assert store.take([0, 20]).shape == (2, *SHAPE)
    assert len(store.folds) == len(store.samples) == 33
    np.save(folder / "objects.npy", np.array([{}], dtype=object))
    store._units = ["objects", *store._units[1:]]
    store._maps = {}
    with pytest.raises(DataError, match="cannot be opened"):
        store[0]


def test_folds_and_rows(folder):
    store = ImageStore(folder)
    for split, plate in (("train", UNITS[1]), ("val", UNITS[2]), ("test", UNITS[0])):
        rows = store.rows(1, split)
        assert set(store.samples["Metadata_Plate"].iloc[rows]) == {plate}
        assert len(rows) == 11
    for fold, split in ((3, "train"), (0, "holdout")):
        with pytest.raises(DataError, match="folds are fold0, fold1, fold2"):
            store.rows(fold, split)


def test_dataset_items_batches_and_lists(folder):
    store = ImageStore(folder)
    images, rows = expected(store), np.array([30, 2, 11, 2])
    dataset = ImageDataset(store, rows)
    assert len(dataset) == 4
    assert len(ImageDataset(folder)) == 33
    image, row = dataset[2]
    assert row == 11
    np.testing.assert_array_equal(image, images[11])
    image[0] = 0
    np.testing.assert_array_equal(store[11], images[11])
    batch, samples = dataset[[3, 0]]
    np.testing.assert_array_equal(samples, [2, 30])
    np.testing.assert_array_equal(batch, images[[2, 30]])
    items = dataset.__getitems__([3, 0])
    assert [row for _, row in items] == [2, 30]
    np.testing.assert_array_equal(items[1][0], images[30])
    with pytest.raises(DataError, match="rows 0 to 33 of 33"):
        ImageDataset(store, [0, 33])


def _sum(dataset: ImageDataset) -> tuple[int, int]:
    return len(dataset.store._maps), int(dataset[[0, 1]][0].astype(int).sum())


def test_a_dataset_goes_to_spawned_workers_without_its_maps(folder):
    dataset = ImageDataset(folder, [5, 25])
    total = int(dataset[[0, 1]][0].astype(int).sum())
    assert len(dataset.store.samples) == 33
    assert len(dataset.store._maps) == 2
    assert len(pickle.dumps(dataset)) < 5000
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_sum, (dataset,)) == (0, total)


def test_no_store_or_another_format(tmp_path):
    with pytest.raises(DataError, match=r"store\.json: no such file; expected a finished image store"):
        ImageStore(tmp_path)
    make_store(tmp_path, format=1)
    text = (tmp_path / "store.json").read_text()
    (tmp_path / "store.json").write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(DataError, match="format 99, expected 1"):
        ImageStore(tmp_path)


def test_a_unit_of_another_run(tmp_path):
    store = ImageStore(make_store(tmp_path))
    np.save(tmp_path / "plate-2.npy", np.zeros((3, *SHAPE), np.uint8))
    with pytest.raises(DataError, match=r"plate-2\.npy: \(3, 2, 24, 24\) uint8, expected \(11, 2, 24, 24\) uint8"):
        store[12]
