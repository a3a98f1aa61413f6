"""Images to profiles, with a network whose features are known: means of channels."""

import numpy as np
import pytest
import torch
from torch import nn

from morphobench.errors import DataError
from morphobench.learning.augment import CentreCrop
from morphobench.learning.embed import embed, features_of
from morphobench.learning.normalise import Normalisation
from morphobench.profiles import read_profiles, write_profiles


class Means(nn.Module):
    """Mean of each channel; dropout in between shows whether the mode is evaluation."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.drop(x * self.weight).mean((2, 3))


def expected_means(store, rows, crop):
    norm = Normalisation.of_store(store)
    plates = norm.codes(store.samples["Metadata_Plate"].iloc[rows].tolist())
    start = (16 - crop) // 2
    pixels = store.take(rows)[:, :, start : start + crop, start : start + crop] / 255
    return (pixels.mean(axis=(2, 3)) - norm.mean[plates]) / norm.std[plates]


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_features_are_of_the_normalised_centre_in_evaluation_mode(store, batch_size):
    encoder, rows = Means().train(), np.array([5, 90, 3, 3, 41, 60, 61, 62, 63])
    view = CentreCrop(Normalisation.of_store(store), size=10)
    found = features_of(encoder, store, rows, view, batch_size=batch_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_means(store, rows, 10), rtol=1e-4, atol=1e-5)
    assert encoder.training
    assert encoder.drop.training
    assert encoder.weight.grad is None


def test_profiles_have_the_stores_metadata_and_the_folds_split(store, tmp_path):
    view = CentreCrop(Normalisation.of_store(store))
    profiles = embed(Means(), store, 1, view, provenance={"method": "means"})
    assert len(profiles) == 96
    assert profiles.names == ("feature_0000", "feature_0001", "feature_0002")
    assert profiles.metadata["Metadata_Split"].tolist() == store.folds["fold1"].tolist()
    for column in ("Metadata_Well", "Metadata_Batch", "Metadata_Perturbation"):
        assert profiles.metadata[column].tolist() == store.samples[column].tolist()
    np.testing.assert_allclose(profiles.features, expected_means(store, np.arange(96), 16), rtol=1e-4, atol=1e-5)
    assert profiles.provenance == {"method": "means", "fold": 1, "unused_images": 0}
    write_profiles(profiles, tmp_path / "profiles.parquet")
    np.testing.assert_array_equal(read_profiles(tmp_path / "profiles.parquet").features, profiles.features)


def test_images_that_a_fold_does_not_use_are_left_out_and_counted(store, monkeypatch):
    folds = store.folds.copy()
    folds.loc[[0, 50], "fold0"] = "unused"
    monkeypatch.setitem(store.__dict__, "folds", folds)
    profiles = embed(Means(), store, 0, CentreCrop(Normalisation.of_store(store)))
    assert len(profiles) == 94
    assert profiles.provenance["unused_images"] == 2
    kept = np.setdiff1d(np.arange(96), [0, 50])
    assert profiles.metadata["Metadata_Well"].tolist() == store.samples["Metadata_Well"].iloc[kept].tolist()


def test_bad_input(store):
    norm = Normalisation.of_store(store)
    with pytest.raises(DataError, match="centre crop of 17 x 17 pixels is larger than the images"):
        features_of(Means(), store, np.arange(4), CentreCrop(norm, size=17))
    with pytest.raises(DataError, match="no images to embed"):
        features_of(Means(), store, np.arange(0), CentreCrop(norm))
    broken = Means()
    broken.weight.data[:] = float("nan")
    with pytest.raises(DataError, match="features of image 2 are not finite"):
        features_of(broken, store, np.array([2, 3]), CentreCrop(norm))
