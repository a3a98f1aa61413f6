import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import median_abs_deviation

from morphobench.preprocessing.statistics import (
    CrossProducts,
    Moments,
    column_mad,
    column_median,
    column_quantiles,
    stream_quantiles,
)

PROBABILITIES = np.array([0.0, 0.01, 0.3, 0.5, 0.99, 1.0])
matrices = arrays(
    np.float32,
    st.tuples(st.integers(1, 12), st.integers(1, 3)),
    elements=st.one_of(
        st.floats(-(2.0**100), 2.0**100, width=32), st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0])
    ),
)


def nanquantile(x: np.ndarray) -> np.ndarray:
    clean = np.where(np.isfinite(x), x, np.nan).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanquantile(clean, PROBABILITIES, axis=0)


@settings(deadline=None, max_examples=60)
@given(matrices)
def test_quantiles_are_those_of_numpy(x):
    """Of one block and of many: exact order statistics, interpolated; rounding of the interpolation only."""
    expected = nanquantile(x)
    np.testing.assert_allclose(column_quantiles(x, PROBABILITIES), expected, rtol=1e-12, atol=1e-12)
    streamed = stream_quantiles(lambda: np.array_split(x, 3), x.shape[1], PROBABILITIES)
    np.testing.assert_allclose(streamed, expected, rtol=1e-12, atol=1e-12)


def test_streamed_quantiles_of_many_rows():
    rng = np.random.default_rng(0)
    x = (rng.standard_cauchy((5000, 6)) * 10.0 ** np.arange(-3, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    streamed = stream_quantiles(lambda: np.array_split(x, 7), 6, PROBABILITIES)
    np.testing.assert_allclose(streamed, nanquantile(x), rtol=1e-12)


def test_mad_is_that_of_scipy():
    x = np.random.default_rng(0).normal(size=(31, 5))
    x[3, 1] = np.nan
    centre = column_median(x)
    np.testing.assert_allclose(centre, np.nanmedian(x, axis=0))
    np.testing.assert_allclose(column_mad(x, centre), median_abs_deviation(x, axis=0, nan_policy="omit"))


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.integers(1, 5), st.floats(-1e6, 1e6))
def test_moments_do_not_depend_on_blocks(rows, blocks, shift):
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, 4)) + shift
    x[rng.random(x.shape) < 0.2] = np.nan
    moments = Moments(4)
    for block in np.array_split(x, blocks):
        moments.update(block)
    frame = pd.DataFrame(x)
    np.testing.assert_array_equal(moments.count, frame.count())
    present = moments.count > 0
    np.testing.assert_allclose(moments.mean[present], frame.mean()[present], rtol=1e-12)
    np.testing.assert_allclose(moments.std(), frame.std(ddof=0), rtol=1e-6, atol=1e-9)
    assert moments.rows == rows


@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_correlation_is_that_of_pandas(gaps):
    """Pairwise complete observations; columns of very different size; more columns than one block of the sum."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3)) @ rng.normal(size=(3, 300)) + rng.normal(size=(200, 300))
    x = (x * 10.0 ** rng.integers(-3, 4, 300) + 1000).astype(np.float32).astype(np.float64)
    x[:, 20:][rng.random((200, 280)) < gaps] = np.nan
    x[:, 7] = 4
    x[:, 8] = np.nan
    x[1:, 9] = np.nan
    moments = Moments(300)
    for block in np.array_split(x, 5):
        moments.update(block)
    products = CrossProducts(moments)
    for block in np.array_split(x, 5):
        products.update(block)
    expected = pd.DataFrame(x).corr(min_periods=2).fillna(0).to_numpy()
    np.testing.assert_allclose(products.correlation(), expected, atol=1e-9)
