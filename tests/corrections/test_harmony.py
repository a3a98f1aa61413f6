import dataclasses

import numpy as np
import pandas as pd
import pytest
from harmonypy import run_harmony

from morphobench.corrections.harmony import Harmony
from morphobench.errors import DataError

from .conftest import make_covariates, make_features


def test_equals_harmonypy_on_principal_components():
    """PCA by an SVD of our own; rows are already in canonical order."""
    covariates = make_covariates(batches=3, plates=2, wells=30)
    features = make_features(covariates, columns=12)
    result = Harmony(components=6).fit_transform(features, covariates)
    centred = features.astype(np.float64) - features.astype(np.float64).mean(0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    scores = (left * values)[:, :6]
    harmony = run_harmony(scores, pd.DataFrame({"b": covariates.batch}), "b", random_state=0, verbose=False)
    expected = np.asarray(harmony.Z_corr)
    assert expected.shape == result.shape
    sign = np.sign((expected * result).sum(0))
    # Signs of components are arbitrary and the clustering is not invariant to them bit by bit.
    np.testing.assert_allclose(result * sign, expected, atol=0.02 * expected.std())


def test_brings_batches_together():
    covariates = make_covariates(batches=2, plates=2, wells=60)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(len(covariates), 10)) + 5 * rng.normal(size=(3, 10))[np.arange(240) % 3]
    features = features.astype(np.float32)
    features[covariates.batch == "week1"] += 1.5

    def gap(x: np.ndarray) -> float:
        return float(
            np.linalg.norm(x[covariates.batch == "week0"].mean(0) - x[covariates.batch == "week1"].mean(0))
        )

    assert gap(Harmony().fit_transform(features, covariates)) < 0.3 * gap(features)


def test_records_version_and_size(features, covariates):
    correction = Harmony(components=50)
    assert correction.fit_transform(features, covariates).shape == (len(features), features.shape[1])
    assert correction.fitted["versions"]["harmonypy"].startswith("2.")
    assert correction.fitted["components"] == features.shape[1]


def test_one_batch(features, covariates):
    one = dataclasses.replace(covariates, batch=np.full(len(features), "week0"))
    with pytest.raises(DataError, match="Harmony needs two batches or more"):
        Harmony().fit(features, one)
