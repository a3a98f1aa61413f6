"""The profiles schema: what is accepted, and one sentence for what is not."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from morphobench.errors import DataError
from morphobench.profiles import (
    Profiles,
    check_profiles,
    profiles_from_frame,
    read_profiles,
    to_arrow,
    write_profiles,
)


def make(n=6, d=3, seed=0):
    rng = np.random.default_rng(seed)
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": ["b1"] * n,
            "Metadata_Plate": ["p1"] * n,
            "Metadata_Well": [f"A{i:02d}" for i in range(n)],
            "Metadata_Perturbation": ["DMSO", *["x"] * (n - 1)],
            "Metadata_Control": ["negcon", *["trt"] * (n - 1)],
            "Metadata_Split": ["train"] * n,
            "Metadata_MoA": [None, *["m"] * (n - 1)],
        }
    )
    features = rng.normal(size=(n, d)).astype(np.float32)
    return Profiles(metadata, features, tuple(f"f{i}" for i in range(d)), {"dataset": "toy"})


@settings(max_examples=20, deadline=None)
@given(arrays(np.float32, (4, 2), elements=st.floats(-1e6, 1e6, width=32)))
def test_round_trip_is_exact(tmp_path_factory, features):
    path = tmp_path_factory.mktemp("p") / "a.parquet"
    profiles = make(4, 2).with_features(features, method="none")
    write_profiles(profiles, path)
    back = read_profiles(path)
    assert np.array_equal(back.features, features)
    assert back.features.dtype == np.float32
    assert back.names == profiles.names
    assert back.provenance == {"dataset": "toy", "method": "none"}
    pd.testing.assert_frame_equal(back.metadata, profiles.metadata)


def without(column):
    p = make()
    return Profiles(p.metadata.drop(columns=column), p.features, p.names)


def changed(column, row, value):
    p = make()
    p.metadata.loc[row, column] = value
    return p


def with_nan():
    p = make()
    p.features[2, 1] = np.nan
    return p


def renamed(*names):
    p = make()
    return Profiles(p.metadata, p.features, names)


def with_column(column, values):
    p = make()
    return Profiles(p.metadata.assign(**{column: values}), p.features, p.names)


def with_metadata_twice():
    p = make()
    return Profiles(pd.concat([p.metadata, p.metadata[["Metadata_Plate"]]], axis=1), p.features, p.names)


@pytest.mark.parametrize(
    ("profiles", "sentence"),
    [
        (without("Metadata_Plate"), "file: column Metadata_Plate is missing; a profiles file must have it"),
        (with_nan(), "file: feature f1 is nan in row 2 (plate p1, well A02); profiles must be finite"),
        (changed("Metadata_Well", 3, "A01"), "file: well A01 of plate p1 occurs again in row 3"),
        (
            changed("Metadata_Control", 4, "dmso"),
            "file: column Metadata_Control has 'dmso' in row 4, expected one of",
        ),
        (changed("Metadata_Batch", 5, None), "file: column Metadata_Batch is empty in row 5"),
        (changed("Metadata_Batch", 5, np.nan), "file: column Metadata_Batch is empty in row 5"),
        (changed("Metadata_Perturbation", 2, ""), "file: column Metadata_Perturbation is empty in row 2"),
        (
            changed("Metadata_Plate", 4, 17),
            "file: column Metadata_Plate has 17 (int) in row 4, expected text",
        ),
        (
            with_column("Metadata_Batch", range(6)),
            "file: column Metadata_Batch has 0 (int64) in row 0, expected text",
        ),
        (
            with_column("Metadata_Gene", ["a", None, "", 1.5, "b", 2]),
            "file: column Metadata_Gene has 1.5 (float) in row 3, expected text",
        ),
        (
            renamed("a", "b", "a"),
            "file: column a occurs twice, as columns 7 and 9; each name must be unique",
        ),
        (with_metadata_twice(), "file: column Metadata_Plate occurs twice, as columns 1 and 7"),
    ],
)
def test_bad_profiles(profiles, sentence):
    with pytest.raises(DataError) as error:
        check_profiles(profiles, "file")
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def test_an_optional_text_column_may_be_empty(tmp_path):
    profiles = with_column("Metadata_Gene", ["a", None, "", np.nan, "b", "c"])
    write_profiles(profiles, tmp_path / "a.parquet")
    gene = read_profiles(tmp_path / "a.parquet").metadata["Metadata_Gene"]
    assert gene.isna().tolist() == [False, True, False, True, False, False]


def test_a_file_with_a_column_twice_is_refused(tmp_path):
    table = to_arrow(make())
    path = tmp_path / "a.parquet"
    pq.write_table(table.append_column("f1", table.column("f1")), path)
    with pytest.raises(DataError, match="a.parquet: column f1 occurs twice, as columns 8 and 10; each name must"):
        read_profiles(path)


def test_bad_profiles_are_never_written(tmp_path):
    with pytest.raises(DataError, match="feature f1 is nan"):
        write_profiles(with_nan(), tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_corrupted_and_missing_files(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(DataError, match="no such file"):
        read_profiles(path)
    write_profiles(make(), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_profiles(path)


def test_text_feature_is_refused(tmp_path):
    table = to_arrow(make())
    path = tmp_path / "a.parquet"
    pq.write_table(table.append_column("f9", [["a"] * 6]), path)
    with pytest.raises(DataError, match="feature column f9 has type string, expected numbers"):
        read_profiles(path)


def test_from_frame_splits_by_prefix():
    frame = make().metadata.assign(x=1.0, y=2)
    profiles = profiles_from_frame(frame)
    assert profiles.names == ("x", "y")
    with pytest.raises(DataError, match="feature column z has type object"):
        profiles_from_frame(frame.assign(z="a"))


def test_empty_profiles_are_refused():
    with pytest.raises(DataError, match="no rows"):
        check_profiles(make().rows(np.zeros(6, bool)), "file")


def test_checks_write_to_no_array_of_pandas():
    with pd.option_context("mode.copy_on_write", True):
        check_profiles(make(), "file")
