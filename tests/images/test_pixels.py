"""Pixel statistics against loops over images, and the splits of a fold."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.errors import DataError
from morphobench.images.pixels import of_fold, pixel_statistics, statistic_names
from morphobench.profiles import Profiles


def images(seed, b=3, c=3, h=5, w=7):
    return np.random.default_rng(seed).integers(0, 256, (b, c, h, w)).astype(np.uint8)


def test_statistics_are_those_of_a_loop():
    pictures, channels = images(0), ("DNA", "ER", "Actin")
    table = pd.DataFrame(pixel_statistics(pictures), columns=list(statistic_names(channels)))
    for b, picture in enumerate(pictures.astype(float)):
        for c, name in enumerate(channels):
            pixels = picture[c]
            row = table.loc[b]
            assert row[f"{name}_mean"] == pytest.approx(pixels.mean(), rel=1e-5)
            assert row[f"{name}_std"] == pytest.approx(pixels.std(), rel=1e-5)
            assert row[f"{name}_p75"] == pytest.approx(np.percentile(pixels, 75), rel=1e-5)
            down, right = np.abs(pixels[1:] - pixels[:-1]).mean(), np.abs(pixels[:, 1:] - pixels[:, :-1]).mean()
            assert row[f"{name}_gradient"] == pytest.approx((down + right) / 2, rel=1e-5)
        expected = np.corrcoef(picture[0].ravel(), picture[2].ravel())[0, 1]
        assert table.loc[b, "correlation_DNA_Actin"] == pytest.approx(expected, abs=1e-5)


def test_a_constant_channel_correlates_with_nothing():
    pictures = images(1)
    pictures[:, 1] = 7
    table = pd.DataFrame(pixel_statistics(pictures), columns=list(statistic_names(("a", "b", "c"))))
    assert (table["b_std"] == 0).all()
    assert (table[["correlation_a_b", "correlation_b_c"]] == 0).all(axis=None)
    assert np.isfinite(table.to_numpy()).all()


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 99), gain=st.sampled_from([2, 4]), flip=st.booleans())
def test_correlations_do_not_depend_on_gain_nor_anything_on_mirroring(seed, gain, flip):
    pictures = images(seed).astype(np.float32)
    names = np.array(statistic_names(("a", "b", "c")))
    plain = pixel_statistics(pictures)
    changed = pixel_statistics(pictures[..., ::-1] if flip else pictures * gain)
    same = slice(None) if flip else np.char.startswith(names, "correlation")
    np.testing.assert_allclose(changed[:, same], plain[:, same], rtol=1e-4, atol=1e-5)
    if not flip:
        np.testing.assert_allclose(changed[:, ~same], gain * plain[:, ~same], rtol=1e-4)


def profiles(n):
    metadata = pd.DataFrame({"Metadata_Split": ["train"] * n, "Metadata_Well": [f"A{i:02d}" for i in range(n)]})
    return Profiles(metadata, np.arange(2 * n, dtype=np.float32).reshape(n, 2), ("a", "b"))


def test_a_fold_keeps_what_it_uses_and_says_for_what():
    before = profiles(4)
    after = of_fold(before, pd.DataFrame({"fold0": ["train"] * 4, "fold1": ["test", "unused", "val", "train"]}), 1)
    assert after.metadata["Metadata_Split"].tolist() == ["test", "val", "train"]
    assert after.metadata["Metadata_Well"].tolist() == ["A00", "A02", "A03"]
    assert after.features[:, 0].tolist() == [0, 4, 6]
    assert before.metadata["Metadata_Split"].tolist() == ["train"] * 4


def test_folds_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="no fold 3"):
        of_fold(profiles(2), pd.DataFrame({"fold0": ["train", "test"]}), 3)
    with pytest.raises(DataError, match="2 rows, expected the 3"):
        of_fold(profiles(2), pd.DataFrame({"fold0": ["train", "test", "val"]}), 0)
