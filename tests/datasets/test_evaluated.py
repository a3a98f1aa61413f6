import numpy as np
import pandas as pd
import pytest

from morphobench.datasets.evaluated import evaluated
from morphobench.errors import DataError, SpecError
from morphobench.profiles import Profiles


@pytest.fixture
def screen():
    control = ["negcon", "poscon", "trt", "trt"] * 3
    moa = [None, None, "kinase", None] * 3
    metadata = pd.DataFrame({"Metadata_Control": control, "Metadata_MoA": moa, "Metadata_Well": range(12)})
    return Profiles(metadata, np.arange(24, dtype=np.float32).reshape(12, 2), ("a", "b"), {"dataset": "x"})


def test_all_wells(screen, capsys):
    found = evaluated(screen, "all")
    pd.testing.assert_frame_equal(found.metadata, screen.metadata)
    np.testing.assert_array_equal(found.features, screen.features)
    assert found.provenance == {"dataset": "x", "evaluated_wells": "all"}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("which", "rows"), [("controls", [0, 1]), ("curated", [0, 1, 2])])
def test_a_choice_keeps_order_and_says_how_many(screen, which, rows, capsys):
    found = evaluated(screen, which)
    expected = [4 * i + row for i in range(3) for row in rows]
    assert found.metadata["Metadata_Well"].tolist() == expected
    np.testing.assert_array_equal(found.features[:, 0], 2.0 * np.array(expected))
    assert capsys.readouterr().out == f"{len(expected)} of 12 wells are evaluated ({which})\n"


def test_what_cannot_be_chosen(screen):
    without = Profiles(screen.metadata.drop(columns="Metadata_MoA"), screen.features, screen.names)
    with pytest.raises(
        DataError, match="^evaluated_wells is curated, but the profiles have no column Metadata_MoA"
    ):
        evaluated(without, "curated")
    none = screen.rows(screen.metadata["Metadata_Control"] == "trt")
    with pytest.raises(DataError, match="^evaluated_wells is controls, but none of 6 wells is one"):
        evaluated(none, "controls")
    with pytest.raises(SpecError, match="expected one of all, controls, curated"):
        evaluated(screen, "some")
