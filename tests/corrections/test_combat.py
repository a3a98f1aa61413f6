import dataclasses

import numpy as np
import pytest

from morphobench.corrections.combat import ComBat
from morphobench.errors import DataError

from .conftest import make_covariates, make_features


def reference_combat(data: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Johnson, Li and Rabinovic (2007), section 3, feature by feature, iterated beyond scanpy's 1e-4."""
    names = np.unique(batch)
    n, features = data.shape
    batch_mean = {b: data[batch == b].mean(0) for b in names}
    alpha = sum((batch == b).sum() / n * batch_mean[b] for b in names)
    fitted = np.stack([batch_mean[b] for b in batch])
    sigma = np.sqrt(((data - fitted) ** 2).sum(0) / n)
    z = (data - alpha) / sigma
    result = np.empty_like(z)
    for b in names:
        rows = z[batch == b]
        count = len(rows)
        gamma_hat, delta_hat = rows.mean(0), rows.var(0, ddof=1)
        gamma_bar, tau2 = gamma_hat.mean(), gamma_hat.var()
        m, s2 = delta_hat.mean(), delta_hat.var(ddof=1)
        shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
        for g in range(features):
            gamma, delta = gamma_hat[g], delta_hat[g]
            for _ in range(200):
                gamma = (count * tau2 * gamma_hat[g] + delta * gamma_bar) / (count * tau2 + delta)
                delta = (rate + 0.5 * ((rows[:, g] - gamma) ** 2).sum()) / (count / 2 + shape - 1)
            result[batch == b, g] = (rows[:, g] - gamma) / np.sqrt(delta)
    return result * sigma + alpha


def test_equals_the_published_formulas(features, covariates):
    """scanpy stops at a relative change of 1e-4, hence the tolerance."""
    result = ComBat().fit_transform(features, covariates)
    expected = reference_combat(features.astype(np.float64), covariates.batch)
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=2e-3 * features.std())
    assert np.abs(result - features).max() > 1


def test_batches_of_unequal_size():
    covariates = make_covariates()
    rows = np.flatnonzero((covariates.batch != "week1") | (covariates.well < "A05"))
    covariates = dataclasses.replace(
        covariates, **{k: getattr(covariates, k)[rows] for k in ("batch", "plate", "well", "control", "split")}
    )
    features = make_features(covariates, seed=4)
    expected = reference_combat(features.astype(np.float64), covariates.batch)
    np.testing.assert_allclose(
        ComBat().fit_transform(features, covariates), expected, rtol=1e-3, atol=2e-3 * features.std()
    )


def test_constant_feature_does_not_disturb_the_others(features, covariates):
    alone = ComBat().fit_transform(features, covariates)
    wide = np.concatenate([np.full((len(features), 1), 4.0, np.float32), features], axis=1)
    correction = ComBat()
    result = correction.fit_transform(wide, covariates)
    np.testing.assert_array_equal(result[:, 1:], alone)
    np.testing.assert_array_equal(result[:, 0], 4.0)
    assert correction.fitted["constant_features"] == 1
    assert "scanpy" in correction.fitted["versions"]


def test_one_batch(features, covariates):
    one = dataclasses.replace(covariates, batch=np.full(len(features), "week0"))
    with pytest.raises(DataError, match=r"ComBat needs two batches or more, found one \(week0\)"):
        ComBat().fit(features, one)


def test_batch_of_one_well(features, covariates):
    batch = covariates.batch.copy()
    batch[0] = "solo"
    with pytest.raises(DataError, match="batch solo has one well"):
        ComBat().fit(features, dataclasses.replace(covariates, batch=batch))


def test_key_without_column(features, covariates):
    with pytest.raises(DataError, match="Metadata_Source"):
        ComBat(key="source").fit(features, covariates)
