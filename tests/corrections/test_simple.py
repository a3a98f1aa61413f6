import dataclasses

import numpy as np
import pytest

from morphobench.corrections.simple import HarmonyPublished, NoCorrection, ZNorm
from morphobench.errors import DataError


@pytest.mark.parametrize("correction", [NoCorrection, HarmonyPublished])
def test_identity(correction, features, covariates):
    np.testing.assert_array_equal(correction().fit_transform(features, covariates), features)


def test_znorm_is_the_closed_form(features, covariates):
    result = ZNorm().fit_transform(features, covariates)
    expected = np.empty_like(features, dtype=np.float64)
    for i, row in enumerate(features.astype(np.float64)):
        controls = features[(covariates.batch == covariates.batch[i]) & (covariates.control == "negcon")]
        controls = controls.astype(np.float64)
        expected[i] = (row - controls.mean(0)) / np.sqrt(((controls - controls.mean(0)) ** 2).mean(0))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_znorm_is_fitted_on_controls_only(features, covariates):
    changed = features.copy()
    changed[covariates.control == "trt"] += 100
    first, second = (ZNorm().fit(x, covariates).transform(features, covariates) for x in (features, changed))
    np.testing.assert_array_equal(first, second)


def test_znorm_names_the_batch_without_controls(features, covariates):
    control = np.where(covariates.batch == "week1", "trt", covariates.control)
    with pytest.raises(DataError, match="batch week1 has no negative control wells"):
        ZNorm().fit(features, dataclasses.replace(covariates, control=control))


def test_znorm_states_constant_features(features, covariates):
    rows = (covariates.batch == "week2") & (covariates.control == "negcon")
    features[rows, 4] = 2.5
    correction = ZNorm()
    result = correction.fit_transform(features, covariates)
    assert correction.fitted["constant_features"] == {"week2": 1}
    batch = covariates.batch == "week2"
    np.testing.assert_allclose(result[batch, 4], features[batch, 4] - 2.5, atol=1e-6)
