import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import median_abs_deviation

from morphobench.errors import DataError
from morphobench.preprocessing.steps import build_steps
from morphobench.profilenets.scaling import model_steps, scale
from morphobench.profiles import read_profiles

from .plates import LabPlate, together, write


def by_hand(frame: pd.DataFrame, control: pd.Series, plate: pd.Series) -> pd.DataFrame:
    """The model branch in pandas, as the paper's section 4 puts it, without the library's steps."""
    parts = []
    for name in plate.unique():
        raw = frame[plate == name].replace([np.inf, -np.inf], np.nan).fillna(0.0)
        controls = raw[control[plate == name] == "negcon"]
        spread = pd.Series(median_abs_deviation(controls, axis=0), index=raw.columns) * 1.4826
        scaled = (raw - controls.median()) / (spread + 1e-6)
        low, high = np.percentile(scaled.to_numpy(), [1, 99])
        parts.append(scaled.clip(low, high))
    return pd.concat(parts)


def test_against_pandas_by_hand():
    raw = together([LabPlate(i) for i in range(5)])
    raw.features[0, 4] = np.nan  # a gap in a control
    scaled, report = scale(raw)
    frame = pd.DataFrame(raw.features.astype(np.float64), columns=list(raw.names))
    expected = by_hand(frame, raw.metadata["Metadata_Control"], raw.metadata["Metadata_Plate"])
    assert np.isfinite(scaled.features).all()
    np.testing.assert_allclose(scaled.features, expected[list(scaled.names)], rtol=1e-4, atol=1e-5)
    pd.testing.assert_frame_equal(scaled.metadata, raw.metadata)
    assert report["steps"][0]["imputed"] == 5 * 3 + 1
    # Limits are those of each plate, not of all.
    limits = [scaled.features[raw.metadata["Metadata_Plate"] == f"plate{i:03d}"].max() for i in range(5)]
    assert len(set(limits)) == 5


def test_no_feature_is_dropped_and_a_constant_one_is_zero_in_its_controls():
    raw = together([LabPlate(i) for i in range(3)])
    scaled, report = scale(raw)
    assert scaled.names == raw.names
    assert report["features_out"] == report["features_in"] == 30
    plate = (raw.metadata["Metadata_Plate"] == "plate000").to_numpy()
    first = scaled.features[plate, 0]
    assert (first[:8] == 0).all()
    assert first[9] == scaled.features[plate].max() > 0
    # Zeros of missing values come before the scaling: they end far below the controls.
    assert scaled.features[2, 1] == scaled.features[plate].min() < -3


def test_a_plate_does_not_hang_on_the_others_nor_scaling_on_treated_wells_but_for_the_limits(tmp_path):
    plates = [LabPlate(i) for i in range(4)]
    alone, _ = scale(plates[2].read())
    streamed = read_profiles(write(plates, tmp_path))
    rows = (streamed.metadata["Metadata_Plate"] == "plate002").to_numpy()
    np.testing.assert_array_equal(streamed.features[rows], alone.features)
    moved = plates[2].read()
    moved.features[moved.column("Metadata_Control") == "trt"] += 1
    wide, wide_moved = (scale(p, low=0, high=1)[0].features for p in (plates[2].read(), moved))
    kept = moved.column("Metadata_Control") != "trt"
    np.testing.assert_array_equal(wide[kept], wide_moved[kept])


def test_a_plate_without_controls():
    raw = together([LabPlate(0), LabPlate(1, controls=0)])
    with pytest.raises(
        DataError, match=r"^plate plate001 has no negative control wells \(Metadata_Control negcon\)"
    ):
        scale(raw)


def test_the_steps_are_what_a_spec_may_say():
    steps = yaml.safe_load(yaml.safe_dump(model_steps(low=0.02, epsilon=0.0)))
    built = build_steps(steps)
    assert [step.step for step in built] == ["impute", "mad_normalise", "clip_quantiles"]
    assert (built[1].scope, built[1].on, built[1].epsilon) == ("plate", "negcon", 0.0)
    assert (built[2].scope, built[2].per, built[2].low, built[2].high) == ("plate", "matrix", 0.02, 0.99)
