"""Which scores a partial table may show: those of the present run, never stale ones."""

import io
import json
import os

import pytest

from morphobench.jobs import failure_path
from morphobench.report import plans

STAGES = ("prepared.parquet", "embedding.parquet", "profiles.parquet", "neighbours.npz", "scores.csv")


@pytest.fixture
def plan(tmp_path):
    """One finished evaluation: its outputs in the order in which they were made, and its logs."""
    for i, name in enumerate(STAGES):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (1000 + i, 1000 + i))
    log = tmp_path / "correct.log"
    log.write_text("morphobench\ndone after 1.0 s\n")
    evaluation = {"method": "m", "correction": "c", "seed": 0, "fold": 0, "logs": [str(log)]}
    evaluation["outputs"] = [str(tmp_path / name) for name in STAGES]
    return {"kind": "table", "evaluations": [evaluation]}


def found(plan):
    (path,) = plans.score_files(plan).values()
    return path


def test_a_finished_evaluation_gives_its_scores(plan, tmp_path):
    assert found(plan) == tmp_path / "scores.csv"


def test_a_failure_hides_scores_of_an_earlier_run(plan, tmp_path):
    record = failure_path(tmp_path / "correct.log")
    record.write_text(json.dumps({"status": "failed", "reason": "why", "log": "l"}))
    assert found(plan) == record


def test_where_a_metric_broke_the_others_are_shown(plan, tmp_path):
    (tmp_path / "scores.csv").unlink()
    partial = tmp_path / "scores.partial.csv"
    partial.write_text("x")
    failure_path(tmp_path / "correct.log").write_text(json.dumps({"status": "failed", "reason": "w", "log": "l"}))
    assert found(plan) == partial
    os.utime(partial, (1, 1))  # of an earlier run
    assert found(plan) == failure_path(tmp_path / "correct.log")


@pytest.mark.parametrize("missing", STAGES)
def test_a_missing_stage_hides_scores(plan, tmp_path, missing):
    (tmp_path / missing).unlink()
    assert found(plan) is None


def test_a_newer_stage_hides_scores(plan, tmp_path):
    os.utime(tmp_path / "embedding.parquet", (2000, 2000))
    assert found(plan) is None


def test_a_killed_job_is_a_failure_with_a_reason(plan, tmp_path):
    log = tmp_path / "correct.log"
    log.write_text("morphobench\nhalf a li")
    plans.record_lost_jobs(plan)
    record = json.loads(found(plan).read_text())
    assert record["status"] == "failed"
    assert "stopped without leaving a reason" in record["reason"]
    assert record["log"] == str(log)


def test_only_partial_plans_are_rendered_and_the_log_is_named(plan, tmp_path, monkeypatch, capsys):
    rendered = []
    monkeypatch.setattr(plans, "render", lambda plan, published: rendered.append(plan) or [tmp_path / "t.md"])
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([plan])))
    plans.main("published")
    assert not rendered
    failure_path(tmp_path / "correct.log").write_text(
        json.dumps({"status": "failed", "reason": "why", "log": "a.log"})
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([plan])))
    plans.main("published")
    assert len(rendered) == 1
    text = capsys.readouterr().err
    assert "failed: why" in text
    assert "a.log" in text
    assert "Run the same command again" in text


def test_claims_are_made_of_the_tables_that_there_are(plan, tmp_path, monkeypatch, capsys):
    made = {}

    def make(plan, stores, published):
        made.update(scale=plan["scale"], runs=[store.runs("m", "c") for _, store in stores])
        return [tmp_path / "claims.md"]

    (tmp_path / "scores.csv").write_text("metric,value,ci_low,ci_high,n,status,reason\n")
    os.utime(tmp_path / "scores.csv", (1004, 1004))
    monkeypatch.setattr(plans, "make_claims", make)
    claims = {"kind": "claims", "claims": "claims.csv", "tables": [plan, plan], "scale": "tiny", "folder": "x"}
    assert plans.render(claims, "published") == [tmp_path / "claims.md"]
    assert made == {"scale": "tiny", "runs": [[(0, 0)], [(0, 0)]]}
    made.clear()
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([claims])))
    plans.main("published")
    assert not made
    (tmp_path / "scores.csv").unlink()
    (tmp_path / "correct.log").write_text("cut off")
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps([claims])))
    plans.main("published")
    assert made["runs"] == [[(0, 0)], [(0, 0)]]
    assert "stopped without leaving a reason" in capsys.readouterr().err
