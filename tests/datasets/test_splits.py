import numpy as np
import pandas as pd
import pytest

from morphobench.datasets.splits import split
from morphobench.errors import DataError, SpecError

from ..profilenets.plates import LabPlate, together


@pytest.fixture(scope="module")
def metadata() -> pd.DataFrame:
    return together([LabPlate(i) for i in range(18)]).metadata


def sides(metadata: pd.DataFrame, found: np.ndarray, column: str) -> pd.Series:
    """Which sides each value of a column is on."""
    return pd.Series(found).groupby(metadata[column].to_numpy()).agg(set)


def test_hidden_sources(metadata):
    found = sides(metadata, split(metadata, "sources", 0), "Metadata_Source")
    assert sorted(map(tuple, found)) == [("test",), ("train",), ("train",)]
    named = split(metadata, "sources", hidden=["source_10", "source_9"])
    assert set(metadata["Metadata_Source"][named == "test"]) == {"source_10", "source_9"}
    hidden = {
        tuple(np.unique(metadata["Metadata_Source"][split(metadata, "sources", s) == "test"])) for s in range(20)
    }
    assert len(hidden) == 3


def test_hidden_plates(metadata):
    found = split(metadata, "plates", 0)
    assert (sides(metadata, found, "Metadata_Plate").map(len) == 1).all()
    assert (sides(metadata, found, "Metadata_Batch").map(len) == 2).all()
    named = split(metadata, "plates", hidden=["plate003"])
    assert set(metadata["Metadata_Plate"][named == "test"]) == {"plate003"}
    without = metadata.drop(columns="Metadata_Source")
    assert (sides(without, split(without, "plates", 0), "Metadata_Batch").map(len) == 2).all()


def test_random_wells(metadata):
    found = split(metadata, "random", 0, fraction=0.25)
    share = (found == "test").mean()
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / len(found))
    assert (sides(metadata, found, "Metadata_Plate").map(len) == 2).all()


@pytest.mark.parametrize("strategy", ["sources", "plates", "random"])
def test_the_side_belongs_to_the_name_not_to_the_row(metadata, strategy):
    found = split(metadata, strategy, 3)
    order = np.random.default_rng(0).permutation(len(metadata))
    np.testing.assert_array_equal(split(metadata.iloc[order], strategy, 3), found[order])
    assert any((split(metadata, strategy, s) != found).any() for s in range(4, 9))


def test_prepared_and_none(metadata):
    np.testing.assert_array_equal(split(metadata, "prepared"), metadata["Metadata_Split"])
    assert (split(metadata, "none") == "train").all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            ("wells",),
            SpecError,
            "split strategy is 'wells', expected one of prepared, none, sources, plates, random",
        ),
        (("random", 0, 1.0), SpecError, "split random: fraction is 1.0"),
        (("random", 0, 0.3, ["a"]), SpecError, "split random takes no names"),
        (("sources", 0, 0.3, ["source_1"]), DataError, "split: hidden source 'source_1' is not in the profiles"),
        (
            ("sources", 0, 0.3, ["source_9", "source_10", "source_11"]),
            DataError,
            "split sources leaves none of 432",
        ),
        (("random", 0, 1e-9), DataError, "split random leaves none of 432 rows for testing"),
    ],
)
def test_bad_splits(metadata, arguments, error, message):
    keywords = dict(zip(("strategy", "seed", "fraction", "hidden"), arguments, strict=False))
    with pytest.raises(error, match=f"^{message}"):
        split(metadata, **keywords)


def test_too_little_to_split(metadata):
    one = metadata[metadata["Metadata_Source"] == "source_9"]
    with pytest.raises(
        DataError, match="^split by source needs two of them; all 144 rows are of source source_9$"
    ):
        split(one, "sources")
    with pytest.raises(DataError, match="^split plates leaves none of 24 rows for testing"):
        split(metadata.iloc[:24], "plates")
    with pytest.raises(DataError, match="^split sources needs column Metadata_Source, which the profiles lack$"):
        split(metadata.drop(columns="Metadata_Source"), "sources")
