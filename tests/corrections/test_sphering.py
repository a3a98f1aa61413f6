import dataclasses

import numpy as np
import pandas as pd
import pytest
from pycytominer.operations.transform import Spherize
from scipy.linalg import fractional_matrix_power
from scipy.stats import multivariate_normal

from morphobench.corrections.sphering import Sphering, SpheringAll, cross_validate, fold_of
from morphobench.errors import DataError

from .conftest import make_covariates, make_features


def training_controls(features, covariates):
    return features[(covariates.control == "negcon") & (covariates.split == "train")].astype(np.float64)


def test_equals_pycytominer_without_regularisation(features, covariates):
    """pycytominer adds its epsilon to singular values, so conventions meet at 0; it divides by n - 1, we by n."""
    controls = training_controls(features, covariates)
    oracle = Spherize(epsilon=0.0, method="ZCA-cor", return_numpy=True).fit(pd.DataFrame(controls))
    expected = oracle.transform(pd.DataFrame(features.astype(np.float64)))
    result = Sphering(regularisation=0.0).fit_transform(features, covariates)
    n = len(controls)
    np.testing.assert_allclose(result * np.sqrt((n - 1) / n), expected, rtol=1e-4, atol=1e-4)


def test_is_the_regularised_inverse_root(features, covariates):
    controls = training_controls(features, covariates)
    correlation = np.corrcoef(controls.T)
    shrunk = (correlation + 0.2 * np.eye(len(correlation))) / 1.2
    standard = (features - controls.mean(0)) / controls.std(0)
    expected = standard @ fractional_matrix_power(shrunk, -0.5)
    result = Sphering(regularisation=0.2).fit_transform(features, covariates)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_more_features_than_controls_is_the_dense_formula():
    covariates = make_covariates(batches=2, plates=2, wells=10, controls=3)
    features = make_features(covariates, columns=30)
    controls = training_controls(features, covariates)
    assert len(controls) < 30
    shrunk = (np.corrcoef(controls.T) + 0.1 * np.eye(30)) / 1.1
    expected = (features - controls.mean(0)) / controls.std(0) @ fractional_matrix_power(shrunk, -0.5).real
    result = Sphering(regularisation=0.1).fit_transform(features, covariates)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("count", "columns"), [(40, 5), (12, 20)])
def test_likelihood_is_that_of_scipy(count, columns):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(count, columns)) @ rng.normal(size=(columns, columns))
    fold, grid = fold_of(np.arange(count), 4), np.array([0.01, 1.0, 50.0])
    expected = np.zeros(3)
    for held in range(4):
        inside = x[fold != held]
        scale = inside.std(0)
        for i, penalty in enumerate(grid):
            shrunk = (np.corrcoef(inside.T) + penalty * np.eye(columns)) / (1 + penalty)
            model = multivariate_normal(inside.mean(0), shrunk * np.outer(scale, scale))
            expected[i] += model.logpdf(x[fold == held]).sum()
    np.testing.assert_allclose(cross_validate(x, fold, grid), expected / count, rtol=1e-6)


def test_folds_keep_groups_whole_and_ignore_row_order():
    groups = np.array(["p3", "p1", "p1", "p2", "p3", "p4"])
    fold = fold_of(groups, 3)
    assert len(np.unique(fold)) == 3
    assert all(len(np.unique(fold[groups == g])) == 1 for g in groups)
    order = np.array([5, 4, 3, 2, 1, 0])
    np.testing.assert_array_equal(fold_of(groups[order], 3), fold[order])


def test_fitted_on_training_controls_only(features, covariates):
    changed = features.copy()
    changed[(covariates.control != "negcon") | (covariates.split != "train")] *= -9
    first, second = Sphering().fit(features, covariates), Sphering().fit(changed, covariates)
    assert first.fitted == second.fitted
    np.testing.assert_array_equal(first.transform(features, covariates), second.transform(features, covariates))


def test_choice_is_recorded_and_best(features, covariates):
    correction = Sphering().fit(features, covariates)
    candidates = correction.fitted["candidates"]
    assert len(candidates) == 25
    assert candidates[0]["regularisation"] == pytest.approx(1e-5)
    assert candidates[-1]["regularisation"] == pytest.approx(1e3)
    best = max(candidates, key=lambda c: c["score"])
    assert correction.fitted["regularisation"] == best["regularisation"]
    assert correction.fitted["criterion"].endswith("over plates")
    assert correction.fitted["split"] == "train"


def test_strong_correlations_want_little_regularisation():
    """Controls from a known covariance: many wells choose to whiten, independent features choose not to."""
    covariates = make_covariates(batches=4, plates=3, wells=60, controls=60)
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(len(covariates), 1))
    correlated = (factor + 0.3 * rng.normal(size=(len(covariates), 6))).astype(np.float32)
    independent = rng.normal(size=(len(covariates), 6)).astype(np.float32)
    low = Sphering().fit(correlated, covariates).fitted["regularisation"]
    high = Sphering().fit(independent, covariates).fitted["regularisation"]
    assert low < 0.05 < 1 < high


def test_one_plate_folds_over_wells():
    covariates = make_covariates(batches=1, plates=1)
    correction = Sphering().fit(make_features(covariates), covariates)
    assert correction.fitted["criterion"].endswith("over wells")


def test_without_a_training_split_all_controls_are_used(features, covariates):
    testing = dataclasses.replace(covariates, split=np.full(len(features), "test"))
    correction = Sphering().fit(features, testing)
    assert correction.fitted["split"] == "all"
    assert correction.fitted["controls"] == covariates.negcon.sum()


def test_no_controls(features, covariates):
    none = dataclasses.replace(covariates, control=np.full(len(features), "trt"))
    with pytest.raises(DataError, match="needs two negative control wells or more in the train split, found 0"):
        Sphering().fit(features, none)


def test_all_wells_become_white(features, covariates):
    correction = SpheringAll()
    result = correction.fit_transform(features, covariates).astype(np.float64)
    np.testing.assert_allclose(result.T @ result / len(result), np.eye(features.shape[1]), atol=1e-4)
    assert correction.fitted["pseudo_inverse"] is False


def test_all_wells_rank_deficient_is_the_pseudo_inverse(features, covariates):
    wide = np.concatenate([features, features[:, :3]], axis=1)
    correction = SpheringAll()
    result = correction.fit_transform(wide, covariates)
    assert correction.fitted["rank"] == features.shape[1]
    assert correction.fitted["pseudo_inverse"] is True
    standard = (wide - wide.astype(np.float64).mean(0)) / wide.astype(np.float64).std(0)
    values, vectors = np.linalg.eigh(np.corrcoef(wide.astype(np.float64).T))
    inverse = np.where(values > 1e-9, 1 / np.sqrt(np.maximum(values, 1e-9)), 0)
    np.testing.assert_allclose(result, standard @ (vectors * inverse) @ vectors.T, rtol=1e-3, atol=1e-3)
