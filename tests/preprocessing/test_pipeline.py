import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from morphobench.errors import DataError
from morphobench.preprocessing.pipeline import preprocess, run_pipeline
from morphobench.profiles import read_profiles

from .conftest import STEPS, Plate, together

ROOT = Path(__file__).resolve().parents[2]
PER_BATCH = [
    {"step": "impute", "scope": "batch", "strategy": "median", "what": ["nan"]},
    {"step": "mad_normalise", "scope": "batch", "on": "all", "epsilon": 1e-6},
    {"step": "clip_quantiles", "scope": "batch", "per": "feature"},
    {"step": "impute", "scope": "all"},
]


@pytest.mark.parametrize("steps", [STEPS, PER_BATCH, STEPS[:1] + STEPS[-1:]])
def test_streamed_equals_in_memory(plates, steps, tmp_path):
    report = run_pipeline(steps, plates, tmp_path / "out.parquet", tmp_path / "scratch")
    streamed = read_profiles(tmp_path / "out.parquet")
    held, held_report = preprocess(together(plates), steps)
    np.testing.assert_array_equal(streamed.features, held.features)
    assert streamed.names == held.names
    assert report == held_report
    assert streamed.provenance == held.provenance
    pd.testing.assert_frame_equal(streamed.metadata, held.metadata, check_dtype=False)


def test_rows_keep_their_order_when_plates_are_mixed(plates):
    profiles = together(plates)
    order = np.random.default_rng(0).permutation(len(profiles))
    direct, _ = preprocess(profiles, STEPS)
    mixed, _ = preprocess(profiles.rows(order), STEPS)
    pd.testing.assert_frame_equal(mixed.metadata, profiles.metadata.iloc[order].reset_index(drop=True))
    np.testing.assert_allclose(mixed.features, direct.features[order], atol=1e-5)


def test_the_file(plates, tmp_path):
    report = run_pipeline(STEPS, plates, tmp_path / "out.parquet", tmp_path / "scratch")
    assert pq.ParquetFile(tmp_path / "out.parquet").num_row_groups == 1
    profiles = read_profiles(tmp_path / "out.parquet")
    assert list(profiles.names) == sorted(profiles.names)
    assert list(profiles.metadata["Metadata_Plate"].unique()) == [p.plate for p in plates]
    assert profiles.metadata["Metadata_Concentration"].isna().sum() == 48
    assert profiles.provenance["dataset"] == "toy"
    assert profiles.provenance["preprocessing"]["features_out"] == len(profiles.names)
    assert json.loads(json.dumps(report)) == report
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(("size", "rows"), [(1, [48] * 4), (5000, [96, 96]), (9000, [144, 48])])
def test_row_groups_are_of_whole_plates(plates, tmp_path, size, rows):
    run_pipeline(STEPS, plates, tmp_path / "out.parquet", tmp_path, row_group_bytes=size)
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == rows
    held, _ = preprocess(together(plates), STEPS)
    np.testing.assert_array_equal(read_profiles(tmp_path / "out.parquet").features, held.features)


def test_the_report_accounts_for_every_feature(plates, tmp_path):
    report = run_pipeline(STEPS, plates, tmp_path / "out.parquet", tmp_path)
    assert report["rows"] == 192
    assert report["plates"] == 4
    count = report["features_in"]
    for step in report["steps"]:
        assert step["features_in"] == count
        count -= len(step["dropped"])
        assert step["features_out"] == count
    assert report["features_out"] == count
    assert report["steps"][3]["dropped"].keys() <= {"Cells_000", "Cells_001", "Cells_002"}
    assert len(report["steps"][3]["dropped"]) == 2
    missing = report["steps"][-1]["imputed"]
    x = together(plates).features
    kept = [i for i, n in enumerate(together(plates).names) if not any(n in s["dropped"] for s in report["steps"])]
    assert missing == (~np.isfinite(x[:, kept])).sum()


def test_missing_values_left_over(plates, tmp_path):
    with pytest.raises(DataError, match=r"feature Cells_\d+ is (nan|inf) in well .* add \{step: impute"):
        run_pipeline(STEPS[:3], plates, tmp_path / "out.parquet", tmp_path / "scratch")
    assert not (tmp_path / "out.parquet").exists()
    assert not list((tmp_path / "scratch").iterdir())
    with pytest.raises(DataError, match="add {step: impute"):
        preprocess(together(plates), STEPS[:3])


def test_no_plates(tmp_path):
    with pytest.raises(DataError, match="no plates"):
        run_pipeline(STEPS, [], tmp_path / "out.parquet", tmp_path)


def test_plate_given_twice(tmp_path):
    with pytest.raises(DataError, match="plate plate001 occurs twice"):
        run_pipeline(STEPS, [Plate(1), Plate(1)], tmp_path / "out.parquet", tmp_path)


def test_plates_with_other_features(tmp_path):
    with pytest.raises(DataError, match=r"plate plate001: 2 features differ .*first Cells_020"):
        run_pipeline(STEPS, [Plate(0), Plate(1, columns=22)], tmp_path / "out.parquet", tmp_path)


def test_plate_that_calls_itself_otherwise(tmp_path):
    class Wrong(Plate):
        batch = "batch9"

        def read(self):
            return Plate(self.index).read()

    with pytest.raises(DataError, match="plate plate000: Metadata_Batch has 'batch0', expected 'batch9'"):
        run_pipeline(STEPS, [Wrong(0)], tmp_path / "out.parquet", tmp_path)


def test_plate_in_two_batches(plates):
    profiles = together(plates)
    profiles.metadata.loc[0, "Metadata_Batch"] = "other"
    with pytest.raises(DataError, match="plate plate000 belongs to batches other and batch0"):
        preprocess(profiles, STEPS)


def peak_kilobytes(plates: int, folder) -> int:
    """Peak resident memory of a process that preprocesses so many plates of 384 wells x 400 features."""
    code = f"""
    import resource, sys
    sys.path.insert(0, {str(ROOT / "tests")!r})
    from preprocessing.conftest import Plate, STEPS
    from morphobench.preprocessing.pipeline import run_pipeline
    plates = [Plate(i, columns=400, wells=384) for i in range({plates})]
    run_pipeline(STEPS, plates, {str(folder / "out.parquet")!r}, {str(folder)!r}, row_group_bytes=4_000_000)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux only")
def test_memory_does_not_grow_with_plates(tmp_path):
    """30 plates more are 18 MB of features; a run that kept one copy of them would grow by that."""
    few, many = peak_kilobytes(10, tmp_path), peak_kilobytes(40, tmp_path)
    assert many - few < 12_000
