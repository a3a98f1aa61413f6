import numpy as np
import pytest
import yaml

from morphobench.errors import DataError, SpecError
from morphobench.preprocessing.pipeline import preprocess
from morphobench.preprocessing.steps import STEPS, build_steps

from .conftest import STEPS as ALL_STEPS
from .conftest import Plate, together

FILL = {"step": "impute", "scope": "all"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"step": "mad_normalize", "scope": "plate"},
            "unknown step 'mad_normalize', did you mean 'mad_normalise'",
        ),
        ({"step": "impute", "scope": "all", "vaule": 1}, r"\(impute\): unknown key 'vaule', did you mean 'value'"),
        ({"step": "impute"}, "scope is missing, expected plate or batch or all"),
        ({"step": "inverse_normal", "scope": "batch"}, "scope is 'batch', expected plate"),
        ({"step": "mad_normalise", "scope": "plate", "on": "dmso"}, "on is 'dmso', expected negcon or all"),
        ({"step": "impute", "scope": "all", "what": ["zero"]}, "expected nan, inf or both"),
        ({"step": "clip_quantiles", "scope": "all", "low": 0.9, "high": 0.1}, "expected 0 <= low <= high <= 1"),
    ],
)
def test_wrong_spec_gets_one_sentence(spec, message):
    with pytest.raises(SpecError, match=message):
        build_steps([spec])


def test_key_on_may_stand_without_quotes():
    spec = yaml.safe_load("{step: mad_normalise, scope: plate, on: all}")
    assert build_steps([spec])[0].on == "all"


def test_every_step_can_be_built():
    assert {type(step).step for step in build_steps(ALL_STEPS)} == set(STEPS)


def clean(plates, **changes) -> np.ndarray:
    return np.where(np.isfinite(x := together(plates).features), x, np.nan).astype(np.float64)


@pytest.mark.parametrize("on", ["negcon", "all"])
@pytest.mark.parametrize("scope", ["plate", "batch", "all"])
def test_mad_normalise_in_each_scope(plates, scope, on):
    profiles = together(plates)
    x = clean(plates)
    group = {
        "plate": profiles.column("Metadata_Plate"),
        "batch": profiles.column("Metadata_Batch"),
        "all": np.zeros(len(x)),
    }[scope]
    spec = {"step": "mad_normalise", "scope": scope, "on": on}
    result, report = preprocess(profiles, [spec, {**FILL, "value": -99.0}])
    dropped = report["steps"][0]["dropped"]
    kept = [i for i, name in enumerate(profiles.names) if name not in dropped]
    flat = np.zeros(len(profiles.names), dtype=bool)
    expected = np.empty((len(x), len(kept)))
    for value in np.unique(group):
        rows = group == value
        reference = rows if on == "all" else rows & (profiles.column("Metadata_Control") == "negcon")
        flat |= np.nanmedian(np.abs(x[reference] - np.nanmedian(x[reference], axis=0)), axis=0) == 0
        own = x[np.ix_(reference, kept)]
        centre = np.nanmedian(own, axis=0)
        expected[rows] = (x[np.ix_(rows, kept)] - centre) / (1.4826 * np.nanmedian(np.abs(own - centre), axis=0))
    expected[np.isnan(expected)] = -99
    assert set(dropped) == {profiles.names[i] for i in np.flatnonzero(flat)}
    assert "Cells_004" in dropped
    np.testing.assert_allclose(result.features, expected, rtol=2e-5, atol=1e-5)


def test_plate_without_controls_is_named(plates):
    profiles = together(plates)
    profiles.metadata.loc[profiles.metadata["Metadata_Plate"] == "plate002", "Metadata_Control"] = "trt"
    with pytest.raises(DataError, match="plate plate002 has no negative control wells"):
        preprocess(profiles, [{"step": "mad_normalise", "scope": "plate", "on": "negcon"}])
    profiles.metadata["Metadata_Control"] = "trt"
    with pytest.raises(DataError, match="batch batch0 has no negative control wells"):
        preprocess(profiles, [{"step": "mad_normalise", "scope": "batch", "on": "negcon"}])


def test_feature_without_spread_on_one_plate_is_dropped_and_explained(plates):
    profiles = together(plates)
    plate = profiles.metadata["Metadata_Plate"].to_numpy()
    profiles.features[plate == "plate001", 6] = 3
    profiles.features[plate == "plate003", 6] = 3
    profiles.features[plate == "plate002", 8] = np.nan
    steps = [{"step": "mad_normalise", "scope": "plate"}, FILL]
    result, report = preprocess(profiles, steps)
    dropped = report["steps"][0]["dropped"]
    assert dropped["Cells_006"] == "MAD is 0 on plate plate001 and 1 more"
    assert dropped["Cells_008"] == "no finite reference value on plate plate002"
    assert not set(dropped) & set(result.names)
    steps[0]["epsilon"] = 1e-6
    kept, report = preprocess(profiles, steps)
    assert "Cells_006" in kept.names
    assert list(report["steps"][0]["dropped"]) == ["Cells_008"]
    assert np.isfinite(kept.features).all()


def test_low_variation_reasons(plates):
    profiles = together(plates)
    profiles.features[:, 9] = np.nan
    profiles.features[:, 10] = 1e4 + np.arange(len(profiles)) % 2
    _, report = preprocess(profiles, [{"step": "drop_low_variation", "scope": "all"}, FILL])
    dropped = report["steps"][0]["dropped"]
    assert dropped["Cells_009"] == "no finite value"
    assert dropped["Cells_004"] == "constant at 5"
    assert dropped["Cells_010"].startswith("coefficient of variation 5e-05 below 0.001")
    assert len(dropped) == 3


@pytest.mark.parametrize("per", ["matrix", "feature"])
@pytest.mark.parametrize("scope", ["plate", "batch", "all"])
def test_clip_in_each_scope(plates, scope, per):
    profiles = together(plates)
    x = clean(plates)
    group = {
        "plate": profiles.column("Metadata_Plate"),
        "batch": profiles.column("Metadata_Batch"),
        "all": np.zeros(len(x)),
    }[scope]
    spec = {"step": "clip_quantiles", "scope": scope, "low": 0.05, "high": 0.9, "per": per}
    result, _ = preprocess(profiles, [spec, {**FILL, "value": -99.0}])
    expected = np.empty_like(x)
    for value in np.unique(group):
        rows = group == value
        low, high = np.nanquantile(x[rows], [0.05, 0.9], axis=None if per == "matrix" else 0)
        expected[rows] = np.clip(x[rows], low, high)
    expected[np.isnan(expected)] = -99
    np.testing.assert_allclose(result.features, expected, rtol=1e-6)


@pytest.mark.parametrize("scope", ["plate", "batch", "all"])
def test_impute_median_in_each_scope(plates, scope):
    profiles = together(plates)
    x = clean(plates)
    column = {"plate": "Metadata_Plate", "batch": "Metadata_Batch"}.get(scope)
    group = profiles.column(column) if column else np.zeros(len(x))
    result, report = preprocess(profiles, [{"step": "impute", "scope": scope, "strategy": "median"}])
    expected = x.copy()
    for value in np.unique(group):
        rows = group == value
        expected[rows] = np.where(np.isnan(x[rows]), np.nanmedian(x[rows], axis=0), x[rows])
    np.testing.assert_allclose(result.features, expected, rtol=1e-6)
    assert report["steps"][0]["imputed"] == np.isnan(x).sum()


def test_selection_ignores_the_order_of_columns(plates):
    profiles = together(plates)
    order = np.random.default_rng(0).permutation(len(profiles.names))
    other = profiles.with_features(profiles.features[:, order], tuple(profiles.names[i] for i in order))
    first, second = (preprocess(p, ALL_STEPS) for p in (profiles, other))
    assert first[0].names == second[0].names
    assert first[1] == second[1]
    np.testing.assert_array_equal(first[0].features, second[0].features)


def test_everything_dropped(plates):
    with pytest.raises(DataError, match="step drop_low_variation drops all 20 features"):
        preprocess(together(plates), [{"step": "drop_low_variation", "scope": "all", "threshold": 1e9}])


def test_plate_of_one_well():
    profiles = together([Plate(0, wells=1), Plate(1)])
    result, _ = preprocess(profiles, [{"step": "inverse_normal", "scope": "plate"}, FILL])
    np.testing.assert_array_equal(result.features[0], 0)
