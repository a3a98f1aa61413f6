import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycytominer.operations import correlation_threshold
from pycytominer.operations.transform import RobustMAD
from scipy.stats import norm, rankdata

from morphobench.preprocessing.transforms import (
    average_ranks,
    clip,
    correlated_features,
    impute,
    inverse_normal,
    low_variation,
    mad_normalise,
    median_and_mad,
)

values = arrays(
    np.float32,
    st.tuples(st.integers(1, 15), st.integers(1, 3)),
    elements=st.one_of(st.integers(-800, 800).map(lambda i: i / 8), st.sampled_from([np.nan, 1.0, 2.0])),
)


def test_mad_normalise_is_that_of_pycytominer():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6)) * 7 + 3
    x[2, 3] = np.nan
    controls = x[:15]
    oracle = RobustMAD(epsilon=1e-6).fit(pd.DataFrame(controls))
    expected = oracle.transform(pd.DataFrame(x)).to_numpy()
    result = mad_normalise(x, *median_and_mad(controls), epsilon=1e-6)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-6, atol=1e-6)


def test_no_division_by_zero():
    x = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 4.0]])
    centre, spread = median_and_mad(x)
    assert spread[0] == 0
    with pytest.raises(ValueError, match="column 0 has no spread"):
        mad_normalise(x, centre, spread)
    np.testing.assert_array_equal(mad_normalise(x, centre, spread, epsilon=1e-6)[:, 0], 0)


@settings(deadline=None, max_examples=60)
@given(values)
def test_ranks_are_those_of_scipy(x):
    expected = np.column_stack([rankdata(c, nan_policy="omit") for c in x.T])
    np.testing.assert_array_equal(average_ranks(x), expected)


def test_inverse_normal_by_the_formula():
    x = np.array([[3.0, 5], [1, np.nan], [2, 5], [2, 1], [9, np.inf]], dtype=np.float32)
    ranks = [[4, 2.5], [1, None], [2.5, 2.5], [2.5, 1], [5, None]]
    counts = [5, 3]
    result = inverse_normal(x)
    for i in range(5):
        for j in range(2):
            if ranks[i][j] is None:
                np.testing.assert_equal(result[i, j], x[i, j])
            else:
                expected = norm.ppf((ranks[i][j] - 0.375) / (counts[j] - 0.75 + 1))
                assert result[i, j] == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(values)
def test_inverse_normal_ignores_monotone_changes(x):
    np.testing.assert_allclose(inverse_normal(x), inverse_normal(np.float64(x) ** 3 + 2), atol=1e-6)


def test_clip_leaves_missing_values():
    x = np.array([[1.0, np.nan], [5, np.inf], [9, -3]], dtype=np.float32)
    result = clip(x, np.array([2.0]), np.array([6.0]))
    np.testing.assert_array_equal(result, [[2, np.nan], [5, np.inf], [6, 2]])


@pytest.mark.parametrize(
    ("what", "expected", "count"),
    [(("nan",), [0, np.inf, -np.inf, 1], 1), (("inf",), [np.nan, 0, 0, 1], 2), (("nan", "inf"), [0, 0, 0, 1], 3)],
)
def test_impute(what, expected, count):
    x = np.array([[np.nan], [np.inf], [-np.inf], [1]], dtype=np.float32)
    result, found = impute(x, 0.0, what)
    np.testing.assert_array_equal(result[:, 0], expected)
    assert found == count


def test_low_variation_uses_the_absolute_coefficient():
    mean = np.array([-1000.0, 1000, -1, 0, 0, np.nan, 5])
    std = np.array([0.5, 2, 1, 1e-9, 0, np.nan, 0])
    expected = [True, False, False, False, True, True, True]
    np.testing.assert_array_equal(low_variation(mean, std, 0.001), expected)


def correlated(seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, 12))
    groups = rng.integers(0, 12, 40)
    sign = np.where(rng.random(40) < 0.3, -1, 1)
    x = sign * (x[:, groups] + rng.uniform(0.05, 0.8, 40) * rng.normal(size=(200, 40)))
    return pd.DataFrame(x, columns=[f"Cells_{i:02d}" for i in range(40)])


@pytest.mark.parametrize("seed", range(5))
def test_selection_is_that_of_pycytominer_on_signed_correlations(seed):
    frame = correlated(seed)
    dropped = correlated_features(np.corrcoef(frame.T), tuple(frame.columns), 0.9, absolute=False)
    expected = correlation_threshold(frame, features=list(frame.columns), threshold=0.9)
    assert sorted(dropped) == sorted(expected)
    assert dropped


@pytest.mark.parametrize("seed", range(5))
def test_no_redundant_pair_is_left_and_order_does_not_matter(seed):
    frame = correlated(seed)
    frame["copy"] = frame["Cells_07"]
    dropped = correlated_features(np.corrcoef(frame.T), tuple(frame.columns), 0.9)
    left = np.abs(np.corrcoef(frame.drop(columns=list(dropped)).T))
    assert (left - np.eye(len(left))).max() <= 0.9
    shuffled = frame[np.random.default_rng(9).permutation(frame.columns)]
    again = correlated_features(np.corrcoef(shuffled.T), tuple(shuffled.columns), 0.9)
    assert set(again) == set(dropped)


def test_tie_is_broken_by_name():
    correlation = np.array([[1.0, 0.95], [0.95, 1.0]])
    dropped = correlated_features(correlation, ("b", "a"), 0.9)
    assert dropped == {"b": "correlation 0.950 with a"}
    assert correlated_features(correlation, ("a", "b"), 0.95) == {}
