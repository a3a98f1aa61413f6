"""The contract that every correction keeps, over all specs."""

import dataclasses
import inspect
import json
import warnings

import numpy as np
import pytest

from morphobench.corrections.apply import build, resolve_class
from morphobench.corrections.base import Correction, Covariates, TransductiveCorrection
from morphobench.errors import DataError

from .conftest import correction_specs, make_covariates, make_features

SPECS = {spec["id"]: spec for spec in correction_specs()}
pytestmark = pytest.mark.parametrize("name", sorted(SPECS))


def take(covariates: Covariates, rows: np.ndarray) -> Covariates:
    values = {f.name: getattr(covariates, f.name) for f in dataclasses.fields(covariates)}
    return Covariates(**{k: None if v is None else v[rows] for k, v in values.items()})


def new(name: str, seed: int = 0) -> Correction:
    return build(SPECS[name], Correction, seed)


def test_shape_type_and_finiteness(name, features, covariates):
    correction = new(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        result = correction.fit_transform(features, covariates)
    assert result.dtype == np.float32
    assert result.flags["C_CONTIGUOUS"]
    assert len(result) == len(features)
    assert np.isfinite(result).all()
    if correction.component is None:
        assert result.shape == features.shape


def test_input_is_not_modified(name, features, covariates):
    before = features.copy()
    new(name).fit_transform(features, covariates)
    np.testing.assert_array_equal(features, before)


def test_rows_keep_their_order(name, features, covariates):
    """Permuting the input permutes the output: no row takes the place of another."""
    order = np.random.default_rng(1).permutation(len(features))
    direct = new(name).fit_transform(features, covariates)
    permuted = new(name).fit_transform(features[order], take(covariates, order))
    np.testing.assert_allclose(permuted, direct[order], rtol=1e-3, atol=2e-4)


def test_same_seed_same_output(name, features, covariates):
    first = new(name, seed=3).fit_transform(features, covariates)
    np.testing.assert_array_equal(new(name, seed=3).fit_transform(features, covariates), first)


def test_fewer_controls_than_features(name):
    covariates = make_covariates(batches=2, plates=2, wells=12, controls=3)
    features = make_features(covariates, columns=40)
    assert np.isfinite(new(name).fit_transform(features, covariates)).all()


def test_constant_feature_gives_no_infinity(name, features, covariates):
    features[:, 2] = 7.0
    assert np.isfinite(new(name).fit_transform(features, covariates)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_missing_value_is_named(name, features, covariates, bad):
    features[5, 3] = bad
    with pytest.raises(DataError, match=r"feature 3 is (nan|inf) in row 5 .*A05"):
        new(name).fit_transform(features, covariates)


def test_missing_value_at_transform_is_named(name, features, covariates):
    correction = new(name).fit(features, covariates)
    broken = features.copy()
    broken[1, 0] = np.nan
    with pytest.raises(DataError, match="feature 0 is nan in row 1"):
        correction.transform(broken, covariates)


def test_unseen_batch_works_or_is_named(name, features, covariates):
    correction = new(name).fit(features, covariates)
    batch = covariates.batch.astype(object)
    batch[:16] = "week99"
    other = dataclasses.replace(covariates, batch=batch.astype(str))
    if isinstance(correction, TransductiveCorrection):
        with pytest.raises(DataError, match="can only correct the rows it was fitted on"):
            correction.transform(features, other)
        with pytest.raises(DataError, match="can only correct the rows it was fitted on"):
            correction.transform(features[:20], take(covariates, np.arange(20)))
    elif name in ("znorm", "znorm_published", "tvn"):
        with pytest.raises(DataError, match="batch week99 was not among the 3 batches"):
            correction.transform(features, other)
    else:
        np.testing.assert_array_equal(
            correction.transform(features, other), correction.transform(features, covariates)
        )


def test_subset_of_rows_is_corrected_alike(name, features, covariates):
    """An inductive correction treats a row the same whatever rows come with it."""
    correction = new(name)
    if correction.transductive:
        pytest.skip("transductive")
    whole = correction.fit_transform(features, covariates)
    rows = np.arange(3, 40, 2)
    part = correction.transform(features[rows], take(covariates, rows))
    np.testing.assert_allclose(part, whole[rows], rtol=1e-4, atol=1e-5)


def test_fitted_is_json(name, features, covariates):
    correction = new(name)
    correction.fit(features, covariates)
    assert json.loads(json.dumps(correction.fitted, allow_nan=False)) == correction.fitted


def test_no_label_is_within_reach(name):
    """The signatures admit features and covariates, and covariates hold no label."""
    cls = resolve_class(SPECS[name], Correction)
    for method in ("fit", "transform", "fit_transform"):
        assert list(inspect.signature(getattr(cls, method)).parameters) == ["self", "features", "covariates"]
    allowed = {"batch", "plate", "well", "control", "split", "source"}
    assert {field.name for field in dataclasses.fields(Covariates)} == allowed
    assert "Perturbation" not in inspect.getsource(inspect.getmodule(cls))


def test_wrong_number_of_rows(name, features, covariates):
    with pytest.raises(DataError, match="expected 96 rows"):
        new(name).fit(features[:-1], covariates)
