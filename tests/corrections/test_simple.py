import dataclasses

import numpy as np
import pytest

from morphobench.corrections.simple import HarmonyPublished, NoCorrection, ZNorm, ZNormPublished
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


def test_published_znorm_is_the_closed_form_over_all_rows_of_the_batch(features, covariates):
    correction = ZNormPublished()
    result = correction.fit_transform(features, covariates)
    rows = features.astype(np.float64)
    rows = np.array([row / np.sqrt((row**2).sum()) for row in rows])
    expected = np.empty_like(rows)
    for i, row in enumerate(rows):
        mates = rows[covariates.batch == covariates.batch[i]]
        spread = np.sqrt(((mates - mates.mean(0)) ** 2).mean(0)) + 1e-8
        expected[i] = (row - mates.mean(0)) / spread
        expected[i] /= np.sqrt((expected[i] ** 2).sum())
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), 1, rtol=1e-6)
    assert correction.fitted == {"rows": {"week0": 32, "week1": 32, "week2": 32}, "constant_features": {}}


def test_published_znorm_needs_no_controls_and_makes_no_direction_of_rounding(features, covariates):
    control = dataclasses.replace(covariates, control=np.full(len(features), "trt"))
    assert np.isfinite(ZNormPublished().fit_transform(features, control)).all()
    flat = np.full_like(features, 0.1)
    correction = ZNormPublished()
    np.testing.assert_array_equal(correction.fit_transform(flat, covariates), 0)
    assert correction.fitted["constant_features"] == dict.fromkeys(["week0", "week1", "week2"], 8)
