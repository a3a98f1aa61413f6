import dataclasses

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power

from morphobench.corrections.tvn import TVN
from morphobench.errors import DataError

from .conftest import make_covariates, make_features


def test_is_whitening_then_coral(features, covariates):
    """The two steps with dense matrix powers; components agree up to sign."""
    x = features.astype(np.float64)
    controls = x[covariates.negcon]
    standard = (x - controls.mean(0)) / controls.std(0)
    _, values, axes = np.linalg.svd(standard[covariates.negcon], full_matrices=False)
    white = standard @ axes.T / (values / np.sqrt(len(controls)))
    expected = np.empty_like(white)
    eye = np.eye(white.shape[1])
    for batch in np.unique(covariates.batch):
        rows = covariates.batch == batch
        own = white[rows & covariates.negcon]
        inverse = fractional_matrix_power(np.cov(own.T, ddof=0) + 0.5 * eye, -0.5)
        expected[rows] = (white[rows] - own.mean(0)) @ inverse @ fractional_matrix_power(1.5 * eye, 0.5)
    result = TVN().fit_transform(features, covariates)
    sign = np.sign((expected * result).sum(0))
    np.testing.assert_allclose(result * sign, expected, rtol=1e-3, atol=1e-3)


def test_small_epsilon_makes_each_batch_white():
    covariates = make_covariates(wells=60, controls=50)
    features = make_features(covariates)
    result = TVN(epsilon=1e-9).fit_transform(features, covariates).astype(np.float64)
    for batch in np.unique(covariates.batch):
        own = result[(covariates.batch == batch) & covariates.negcon]
        np.testing.assert_allclose(own.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(np.cov(own.T, ddof=0), np.eye(features.shape[1]), atol=1e-3)


def test_fitted_on_controls_only(features, covariates):
    changed = features.copy()
    changed[~covariates.negcon] *= -9
    first, second = (TVN().fit(x, covariates).transform(features, covariates) for x in (features, changed))
    np.testing.assert_array_equal(first, second)


def test_few_controls_are_recorded():
    covariates = make_covariates(batches=2, plates=1, wells=20, controls=8)
    control = covariates.control.copy()
    control[20:27] = "trt"
    covariates = dataclasses.replace(covariates, control=control)
    correction = TVN()
    result = correction.fit_transform(make_features(covariates, columns=6), covariates)
    assert correction.fitted["rank_deficient_batches"] == {"week1": 1}
    assert np.isfinite(result).all()


def test_batch_without_controls(features, covariates):
    control = np.where(covariates.batch == "week1", "trt", covariates.control)
    with pytest.raises(
        DataError, match="batch week1 has no negative control wells; TVN needs some in every batch"
    ):
        TVN().fit(features, dataclasses.replace(covariates, control=control))


def test_identical_controls(features, covariates):
    features[covariates.negcon] = 1
    with pytest.raises(DataError, match="negative controls do not differ"):
        TVN().fit(features, covariates)
