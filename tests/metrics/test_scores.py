"""Scores are whole, or kept aside and the job fails."""

import json

import pandas as pd
import pytest

from morphobench.errors import MorphobenchError
from morphobench.metrics.scores import partial_path, write_scores


def frame(status):
    scores = pd.DataFrame(
        {"metric": ["a", "b"], "value": [1.0, None], "status": ["ok", status], "reason": ["", "why"]}
    )
    scores.attrs["draws"] = {"a": [1.0, 2.0]}
    return scores


def test_whole_scores_replace_a_partial_file(tmp_path):
    path = tmp_path / "scores.csv"
    partial_path(path).write_text("old")
    write_scores(frame("not_applicable"), path, tmp_path / "draws.json")
    assert len(pd.read_csv(path)) == 2
    assert not partial_path(path).exists()
    assert json.loads((tmp_path / "draws.json").read_text()) == {"a": [1.0, 2.0]}


@pytest.mark.parametrize("status", ["failed", "out_of_memory"])
def test_a_broken_metric_fails_the_job_and_keeps_the_others(tmp_path, status):
    path = tmp_path / "scores.csv"
    with pytest.raises(MorphobenchError, match="1 of 2 metrics broke .b: why."):
        write_scores(frame(status), path, tmp_path / "draws.json")
    assert not path.exists()
    assert list(pd.read_csv(partial_path(path))["status"]) == ["ok", status]
