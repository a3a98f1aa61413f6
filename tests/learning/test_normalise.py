"""Normalisation by plates, against numpy on the pixels themselves."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from morphobench.errors import DataError
from morphobench.learning.normalise import Normalisation


@pytest.mark.parametrize("source", ["controls", "images"])
def test_statistics_are_those_of_the_plates_pixels_on_the_unit_scale(store, source):
    normalisation = Normalisation.of_store(store, source)
    samples = store.samples
    for p, plate in enumerate(normalisation.plates):
        which = samples["Metadata_Plate"] == plate
        if source == "controls":
            which &= samples["Metadata_Control"] == "negcon"
        pixels = store.take(np.flatnonzero(which)) / 255
        np.testing.assert_allclose(normalisation.mean[p], pixels.mean(axis=(0, 2, 3)), rtol=1e-9)
        np.testing.assert_allclose(normalisation.std[p], pixels.std(axis=(0, 2, 3)), rtol=1e-9)
    assert normalisation.replaced == ()
    assert normalisation.maximum == 255


def test_none_only_brings_to_the_unit_scale(store):
    normalisation = Normalisation.of_store(store, "none")
    assert not normalisation.mean.any()
    assert (normalisation.std == 1).all()


def made_up(std=(2.0, 4.0, 0.0), mean=(1.0, 3.0, 7.0), dtype=np.uint16):
    plates = ["P1", "P2", "P3"]
    table = pd.DataFrame({"Metadata_Plate": plates, "channel": "DNA", "control_mean": mean, "control_std": std})
    return SimpleNamespace(statistics=table, channels=("DNA",), dtype=np.dtype(dtype), folder="some/store")


def test_a_plate_without_usable_controls_has_the_mean_of_the_others_and_is_listed():
    normalisation = Normalisation.of_store(made_up())
    np.testing.assert_allclose(normalisation.std[:, 0] * 65535, [2, 4, 3])
    np.testing.assert_allclose(normalisation.mean[:, 0] * 65535, [1, 3, 2])
    assert normalisation.replaced == ("P3/DNA",)
    normalisation = Normalisation.of_store(made_up(std=(2.0, np.nan, 4.0), mean=(1.0, np.nan, 3.0)))
    assert normalisation.replaced == ("P2/DNA",)


def test_no_plate_with_controls_is_an_error():
    with pytest.raises(DataError, match="no plate has a mean and a standard deviation above 0 of channel DNA"):
        Normalisation.of_store(made_up(std=(0.0, np.nan, 0.0)))


def test_unknown_source_and_plate(store):
    with pytest.raises(DataError, match="expected one of controls, images, none"):
        Normalisation.of_store(store, "wells")
    normalisation = Normalisation.of_store(store)
    assert normalisation.codes([normalisation.plates[3], normalisation.plates[0]]).tolist() == [3, 0]
    with pytest.raises(DataError, match="plate Q has no statistics"):
        normalisation.codes(["Q"])


def test_saved_and_read_again(store, tmp_path):
    for normalisation in (Normalisation.of_store(store), Normalisation.of_store(made_up())):
        normalisation.save(tmp_path / "normalisation.parquet")
        again = Normalisation.read(tmp_path / "normalisation.parquet")
        for name in ("plates", "channels", "maximum", "source", "replaced"):
            assert getattr(again, name) == getattr(normalisation, name)
        np.testing.assert_array_equal(again.mean, normalisation.mean)
        np.testing.assert_array_equal(again.std, normalisation.std)
    with pytest.raises(DataError, match="cannot be read"):
        Normalisation.read(tmp_path / "nothing.parquet")
