"""Whole runs at scale tiny: results, reruns, failures, reports. One run is shared; tests spoil copies of it."""

import hashlib
import json

import pandas as pd
import pytest

from .conftest import TINY
from .test_dryrun import rules_planned

# One worker runs them all, so that the shared run is made once.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("runs")]

TABLES = ("bbbc021_corrections", "funk22_published", "cellpaintr_table1")
COLUMNS = [
    "table",
    "row",
    "setting",
    "column",
    "metric",
    "measured_mean",
    "measured_std",
    "measured_n",
    "ci_low",
    "ci_high",
    "status",
    "published_mean",
    "published_std",
    "unit",
    "higher_is_better",
]


def read(checkout, table):
    return pd.read_csv(checkout.path / f"results/tiny/tables/{table}.csv", keep_default_na=True)


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_complete(finished, table):
    frame = read(finished, table)
    assert list(frame.columns) == COLUMNS
    assert set(frame["status"]) <= {"ok", "not_applicable", "collapsed"}
    assert (frame["status"] == "ok").mean() > 0.6
    assert not frame.duplicated(["table", "row", "setting", "column"]).any()
    measured = frame[frame["status"] == "ok"]
    assert measured["measured_mean"].notna().all()
    for ending in ("md", "html", "tex"):
        text = (finished.path / f"results/tiny/tables/{table}.{ending}").read_text()
        assert "tiny" in text
        assert "simulated" in text


def test_controls_behave(finished):
    frame = read(finished, "bbbc021_corrections").set_index(["row", "column"])
    constant = frame.loc["Constant embedding"]
    assert set(constant["status"]) <= {"collapsed", "not_applicable"}
    for column in ("mAP (control), as described", "NSC accuracy", "Bio Info (no control)"):
        value = frame["measured_mean"].xs(column, level="column")
        assert value["Perfect embedding"] >= value["Baseline"] >= value["Random embedding"]


def test_a_second_run_has_nothing_to_do(finished):
    assert "Nothing to be done" in finished.snakemake("-n", *TINY, "--", "tables").stderr.replace("\n", " ") + (
        finished.snakemake("-n", *TINY, "--", "tables").stdout
    )


def test_two_runs_give_the_same_scores(finished, checkout):
    checkout.snakemake("--cores", "2", *TINY, "--", "funk22_published")
    scores = sorted((checkout.path / "results/tiny/funk22_published").rglob("scores.csv"))
    assert scores
    for path in scores:
        other = finished.path / path.relative_to(checkout.path)
        timings = ["seconds", "peak_mb"]
        assert pd.read_csv(path).drop(columns=timings).equals(pd.read_csv(other).drop(columns=timings))


def test_editing_one_method_reruns_what_depends_on_it_and_nothing_else(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    source = copy.path / "src/morphobench/corrections/combat.py"
    source.write_text(source.read_text() + "\n\n# a comment alone changes nothing\n")
    assert "Correcting" not in copy.snakemake("-n", *TINY, "--", "tables").stdout
    source.write_text(source.read_text() + "\nEDITED = True\n")
    output = copy.snakemake("-n", *TINY, "--", "tables").stdout
    # bbbc021 and cpg0016 have a ComBat row each; funk22_published has none.
    assert rules_planned(output) == {"correct": 2, "neighbours": 2, "evaluate": 2, "render_table": 2, "tables": 1}
    assert "with harmony" not in output


def test_editing_one_spec_reruns_what_depends_on_it_and_nothing_else(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    copy.edit("specs/methods/combat.yaml", "label: Combat", "label: COMBAT")
    output = copy.snakemake("-n", *TINY, "--", "tables").stdout
    assert "with combat" in output
    assert "with harmony" not in output


def test_a_failing_method_leaves_a_partial_table_and_is_retried(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    source = copy.path / "src/morphobench/corrections/combat.py"
    sound = source.read_text()
    source.write_text(sound + "\n\nraise ImportError('the drill')\n")
    result = copy.snakemake("--cores", "2", *TINY, "--", "cellpaintr_table1", check=False)
    log = "results/tiny/logs/correct/cpg0016/cellprofiler/seed0/fold0/combat.log"
    assert log in result.stderr + result.stdout
    assert "partial: results/tiny/tables/cellpaintr_table1.csv" in result.stderr
    assert "bbbc021" not in result.stderr[result.stderr.index("partial:") :]  # not asked for
    frame = read(copy, "cellpaintr_table1").set_index("row")
    assert set(frame.loc["Combat", "status"]) == {"failed"}
    assert (frame.loc["Harmony", "status"] == "ok").any()
    status = pd.read_csv(copy.path / "results/tiny/tables/cellpaintr_table1.status.csv").set_index("row")
    assert status.loc["Combat", "reason"].str.contains("the drill").all()
    assert (status.loc["Combat", "log"] == log).all()
    assert "failed" in (copy.path / "results/tiny/tables/cellpaintr_table1.md").read_text()
    source.write_text(sound)
    planned = rules_planned(copy.snakemake("-n", *TINY, "--", "cellpaintr_table1").stdout)
    assert planned == {"correct": 1, "neighbours": 1, "evaluate": 1, "render_table": 1, "cellpaintr_table1": 1}
    copy.snakemake("--cores", "2", *TINY, "--", "cellpaintr_table1")
    again = read(copy, "cellpaintr_table1").set_index("row").loc["Combat", "status"]
    assert set(again) == {"ok", "not_applicable"}


def test_report(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    copy.snakemake(*TINY, "--report", "report.zip", "--", "tables")
    assert (copy.path / "report.zip").stat().st_size > 10_000


def test_fetch_without_network_says_what_to_do(checkout):
    checkout.edit(
        "specs/datasets/funk22_published.yaml", "https://raw.githubusercontent.com", "http://127.0.0.1:9"
    )
    result = checkout.snakemake(
        "--cores",
        "1",
        "--config",
        "scale=full",
        "--",
        "results/full/funk22_published/raw/manifest.tsv",
        check=False,
    )
    text = result.stdout + result.stderr
    assert "http://127.0.0.1:9" in text
    assert "mirror" in text
    failed = json.loads((checkout.path / "results/full/logs/fetch/funk22_published.log.failed.json").read_text())
    assert failed["status"] == "failed"


@pytest.mark.mirror
def test_real_tables_from_the_mirror_alone(checkout, mirror):
    """The real wells and genes: complete tables, and nothing but the mirror is read."""
    config = ("--config", "scale=tiny", f"mirror={mirror}", "seeds=[0]")
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in mirror.rglob("*.csv")}
    checkout.snakemake("--cores", "2", *config, "--", "bbbc021_corrections", "funk22_published")
    assert before == {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in mirror.rglob("*.csv")}
    wells = read(checkout, "bbbc021_corrections").set_index(["row", "column"])
    assert (wells.loc["Baseline"].drop("regularisation")["status"] == "ok").all()
    assert wells.loc[("Baseline", "NSC accuracy"), "measured_mean"] > 0.6
    genes = read(checkout, "funk22_published").set_index(["row", "setting", "column"])
    average = genes["measured_mean"].xs("average precision", level="column").droplevel("setting")
    assert average["salient"] > 3 * average["random"]
    assert average["all"] > average["background"]
    assert (genes.xs("average precision", level="column")["ci_low"] > 0).any()
