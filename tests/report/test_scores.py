"""Reading scores and the resampled values beside them."""

import json
import math

import pytest

from morphobench.errors import DataError
from morphobench.report.scores import ScoreStore
from tests.report.toy_table import write_scores

KEY = ("a", "none", 0, 0)


@pytest.fixture
def scores(tmp_path):
    """The scores of one evaluation in a folder of their own."""
    return write_scores(tmp_path / "scores.csv", {"up": 0.5, "rec@80": 0.7}, {"down": ("collapsed", "rank 0")})


def test_resampled_values_come_from_the_file_beside_the_scores(scores):
    draws = {"up": [0.4, None, 0.6], "down": [1.0, 2.0]}
    scores.with_name("draws.json").write_text(json.dumps(draws))
    store = ScoreStore({KEY: scores})
    up = store.reading(KEY, "up")
    assert (up.value, up.n) == (0.5, 9)
    assert up.draws[::2] == (0.4, 0.6)
    assert math.isnan(up.draws[1])
    assert store.reading(KEY, "rec@80").draws == ()
    assert store.reading(KEY, "down").draws == ()  # a value that is not ok has none


def test_without_such_a_file_there_are_none(scores):
    assert ScoreStore({KEY: scores}).reading(KEY, "up").draws == ()


@pytest.mark.parametrize(
    "content",
    ['{"up": [0.4, 0.', '["up"]', '{"up": ["x"]}', '{"up": 0.4}', '{"up": [[1]]}', '{"up": "text"}', ""],
)
def test_a_damaged_file_is_one_sentence(scores, content):
    path = scores.with_name("draws.json")
    path.write_text(content)
    with pytest.raises(DataError) as error:
        ScoreStore({KEY: scores})
    text = str(error.value)
    assert text.startswith(f"{path}: expected lists of numbers by metric (")
    assert "\n" not in text
    assert error.value.__cause__ is None


def test_a_file_that_is_no_text_is_one_sentence(scores):
    path = scores.with_name("draws.json")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="draws.json: expected lists of numbers by metric"):
        ScoreStore({KEY: scores})


def test_a_broken_metric_names_the_log_of_its_job(tmp_path):
    values = {"broken": ("failed", "x"), "unfit": ("not_applicable", "y")}
    path = write_scores(tmp_path / "scores.partial.csv", {"up": 0.5}, values)
    store = ScoreStore({KEY: path}, {KEY: "logs/evaluate.log"})
    assert [store.reading(KEY, m).log for m in ("broken", "unfit", "up")] == ["logs/evaluate.log", "", ""]
