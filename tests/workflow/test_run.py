"""Whole runs at scale tiny: results, reruns, failures, reports. One run is shared; tests spoil copies of it."""

import hashlib
import json
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
import yaml

from .conftest import PROFILES, TABLES
from .test_dryrun import rules_planned

# One worker runs them all, so that the shared run is made once.
pytestmark = pytest.mark.slow

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


def expected_status(table, row, column):
    """The status of a cell of a simulated table: the cells that are not ok, and why, are known."""
    if row.split()[0].lower() == "constant":
        return "collapsed"
    # Two compounds a mechanism, each in both weeks: no treatment has its mechanism in another batch only.
    if (table, column) == ("bbbc021_corrections", "NSCB accuracy"):
        return "not_applicable"
    # Trained on all wells: none is left to be tested on.
    if table == "cellpaintr_table1" and row.startswith("CellPainTR") and column.endswith("accuracy"):
        return "not_applicable"
    # The only row that chooses one.
    if column == "regularisation" and row != "Sphering (controls)":
        return "not_applicable"
    return "ok"


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_complete(finished, table):
    frame = read(finished, table)
    assert list(frame.columns) == COLUMNS
    expected = [expected_status(table, *key) for key in frame[["row", "column"]].itertuples(index=False)]
    other = frame[frame["status"] != expected]
    assert other.empty, other[["row", "setting", "column", "status"]].to_string()
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
    assert "Nothing to be done" in finished.snakemake("-n", *PROFILES, "--", "tables").stderr.replace(
        "\n", " "
    ) + (finished.snakemake("-n", *PROFILES, "--", "tables").stdout)


def test_two_runs_give_the_same_scores(finished, checkout):
    checkout.snakemake("--cores", "2", *PROFILES, "--", "bbbc021_corrections", "funk22_published")
    for dataset, fewest in (("bbbc021", 11), ("funk22_published", 7)):
        found = [sorted((c.path / f"results/tiny/{dataset}").rglob("scores.csv")) for c in (checkout, finished)]
        assert len(found[0]) == len(found[1]) >= fewest
        for path, other in zip(*found, strict=True):
            assert path.relative_to(checkout.path) == other.relative_to(finished.path)
            mine, theirs = (pd.read_csv(p).drop(columns=["seconds", "peak_mb"]) for p in (path, other))
            pd.testing.assert_frame_equal(mine, theirs, check_exact=True)
            draws = [p.with_name("draws.json").read_text() for p in (path, other)]
            assert draws[0] == draws[1]


def test_editing_one_method_reruns_what_depends_on_it_and_nothing_else(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    source = copy.path / "src/morphobench/corrections/combat.py"
    source.write_text(source.read_text() + "\n\n# a comment alone changes nothing\n")
    assert "Correcting" not in copy.snakemake("-n", *PROFILES, "--", "tables").stdout
    source.write_text(source.read_text() + "\nEDITED = True\n")
    output = copy.snakemake("-n", *PROFILES, "--", "tables").stdout
    # bbbc021 and cpg0016 have a ComBat row each; funk22_published has none.
    again = {"correct": 2, "neighbours": 2, "evaluate": 2, "render_table": 2}
    assert rules_planned(output) == {**again, "judge_claims": 1, "tables": 1}
    assert "with harmony" not in output


def test_editing_one_spec_reruns_what_depends_on_it_and_nothing_else(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    copy.edit("specs/methods/combat.yaml", "label: Combat", "label: COMBAT")
    output = copy.snakemake("-n", *PROFILES, "--", "tables").stdout
    assert "with combat" in output
    assert "with harmony" not in output


def test_a_failing_method_leaves_a_partial_table_and_is_retried(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    source = copy.path / "src/morphobench/corrections/combat.py"
    sound = source.read_text()
    source.write_text(sound + "\n\nraise ImportError('the drill')\n")
    result = copy.snakemake("--cores", "2", *PROFILES, "--", "cellpaintr_table1", check=False)
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
    planned = rules_planned(copy.snakemake("-n", *PROFILES, "--", "cellpaintr_table1").stdout)
    assert planned == {"correct": 1, "neighbours": 1, "evaluate": 1, "render_table": 1, "cellpaintr_table1": 1}
    copy.snakemake("--cores", "2", *PROFILES, "--", "cellpaintr_table1")
    again = read(copy, "cellpaintr_table1").set_index("row").loc["Combat", "status"]
    assert set(again) == {"ok", "not_applicable"}


def test_a_failing_metric_fails_its_job_and_keeps_the_other_cells(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    run = ("--cores", "2", *PROFILES, "--keep-going", "--", "bbbc021_corrections")
    before = read(copy, "bbbc021_corrections")
    first = "    codes, _ = codes_of(evaluation.column(evaluation.label)[rows])\n"
    planted = '    raise RuntimeError("planted")\n'
    copy.edit("src/morphobench/metrics/grit.py", first, planted + first)
    result = copy.snakemake(*run, check=False)
    log = "results/tiny/logs/evaluate/bbbc021/cellprofiler/seed0/fold0/combat.log"
    assert f"log: {log}" in result.stderr
    assert "planted" in (copy.path / log).read_text()
    frame = read(copy, "bbbc021_corrections")
    crashed = (frame["column"] == "grit") & (frame["row"] != "Constant embedding")
    assert set(frame.loc[crashed, "status"]) == {"failed"}
    assert frame.loc[crashed, "measured_mean"].isna().all()
    # Nothing else of those rows is lost, and nothing is a number of the run before: the same as without the crash.
    pd.testing.assert_frame_equal(frame[~crashed], before[~crashed], check_exact=True)
    status = pd.read_csv(copy.path / "results/tiny/tables/bbbc021_corrections.status.csv")
    reasons = status.loc[status["status"] == "failed", ["column", "reason"]].drop_duplicates()
    assert reasons.to_numpy().tolist() == [["grit", "RuntimeError: planted"]]
    assert log in set(status.loc[status["status"] == "failed", "log"])
    folder = copy.path / "results/tiny/bbbc021/cellprofiler/seed0/fold0/combat"
    assert (folder / "scores.partial.csv").is_file()
    assert not (folder / "scores.csv").exists()
    # A partial table goes into a report, and says there that it is partial.
    copy.snakemake(*PROFILES, "--report", "report.zip", "--", "bbbc021_corrections")
    (page,) = reported(copy).values()
    assert "RuntimeError: planted" in page
    copy.edit("src/morphobench/metrics/grit.py", planted, "")
    copy.snakemake(*run)
    pd.testing.assert_frame_equal(read(copy, "bbbc021_corrections"), before, check_exact=True)
    assert not (folder / "scores.partial.csv").exists()


def reported(checkout):
    """The tables and figures in ``report.zip`` by file name: the pages as text, the pictures as None."""
    with zipfile.ZipFile(checkout.path / "report.zip") as archive:
        paths = [name for name in archive.namelist() if name.startswith("report/data/raw/")]
        return {p.split("/")[-1]: archive.read(p).decode() if p.endswith(".html") else None for p in paths}


def test_report_of_a_partial_grid_has_what_is_made(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    tables = copy.path / "results/tiny/tables"
    copy.snakemake("--cores", "2", *PROFILES, "--", "mcvae_fig2b")
    for path in tables.glob("funk22_published.*"):  # its figure stays
        path.unlink()
    (tables / "cellpaintr_table1.html").unlink()  # its csv stays
    pages = {name: (tables / name).read_text() for name in ("bbbc021_corrections.html", "claims.html")}
    result = copy.snakemake(*PROFILES, "--report", "report.zip")
    assert reported(copy) == {**pages, "mcvae_fig2b.png": None}
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Not in the report")]
    assert "cellpaintr_table1, funk22_published, bbbc021_corrections_pca" in line
    copy.snakemake(*PROFILES, "--report=report.zip", "--", "bbbc021_corrections")
    assert reported(copy) == {"bbbc021_corrections.html": pages["bbbc021_corrections.html"]}
    copy.snakemake(*PROFILES, "--report", "report.zip", "--", "tables")
    assert reported(copy) == pages
    result = copy.snakemake(*PROFILES, "--report", "none.zip", "--", "funk22_published", check=False)
    assert result.returncode == 1
    assert "nothing to report at scale tiny, not made yet: funk22_published; run" in result.stderr
    assert not (copy.path / "none.zip").exists()


def test_report_of_nothing_is_one_sentence(checkout):
    result = checkout.snakemake(*PROFILES, "--report", "report.zip", check=False)
    assert result.returncode == 1
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("morphobench: ")]
    assert "there is nothing to report at scale tiny" in line
    assert "Traceback" not in result.stderr + result.stdout
    assert not (checkout.path / "report.zip").exists()


def test_report(finished, tmp_path):
    copy = finished.copy(tmp_path / "copy")
    copy.snakemake(*PROFILES, "--report", "report.zip", "--", "tables")
    assert set(reported(copy)) == {f"{table}.html" for table in (*TABLES, "claims")}


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
def test_a_wrong_copy_in_the_mirror_is_refused(checkout, mirror, tmp_path):
    spec = yaml.safe_load((checkout.path / "specs/datasets/funk22_published.yaml").read_text())
    paths = {entry["name"]: entry["url"].removeprefix("https://") for entry in spec["files"]}
    for path in paths.values():
        (tmp_path / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(mirror / path, tmp_path / "mirror" / path)
    copy = tmp_path / "mirror" / paths["corum"]
    content = bytearray(copy.read_bytes())
    content[1000] ^= 1  # the size stays right
    copy.write_bytes(content)
    manifest = "results/tiny/funk22_published/raw/manifest.tsv"
    config = ("--config", "scale=tiny", f"mirror={tmp_path / 'mirror'}")
    result = checkout.snakemake("--cores", "1", *config, "--", manifest, check=False)
    pinned = next(entry["sha256"] for entry in spec["files"] if entry["name"] == "corum")
    record = json.loads((checkout.path / "results/tiny/logs/fetch/funk22_published.log.failed.json").read_text())
    assert record["reason"] == (
        f"{copy}: not the file that is pinned (the copy of https://{paths['corum']}): "
        f"expected sha256 {pinned}, found {hashlib.sha256(content).hexdigest()}"
    )
    assert record["reason"] in result.stderr
    assert "Traceback" not in (checkout.path / "results/tiny/logs/fetch/funk22_published.log").read_text()
    assert not (checkout.path / manifest).exists()
    raw = checkout.path / "data/raw"
    assert not (raw / paths["corum"]).exists()
    # The sound ones are kept, and no half-written file beside them.
    kept = {str(p.relative_to(raw)) for p in raw.rglob("*") if p.is_file()}
    assert kept == {paths["embedding"], paths["functions"]}


@pytest.mark.mirror
def test_real_tables_from_the_mirror_alone(checkout, mirror):
    """The real wells and genes: complete tables, and nothing but the mirror is read."""
    config = ("--config", "scale=tiny", f"mirror={mirror}", "seeds=[0]")
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in mirror.rglob("*.csv")}
    checkout.snakemake("--cores", "2", *config, "--", "bbbc021_corrections", "funk22_published")
    assert before == {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in mirror.rglob("*.csv")}
    wells = read(checkout, "bbbc021_corrections").set_index(["row", "column"])
    assert (wells.loc["Baseline"].drop("regularisation")["status"] == "ok").all()
    assert wells.loc[("Baseline", "NSC accuracy"), "measured_mean"] == pytest.approx(0.9126, abs=5e-5)
    assert wells.loc[("Baseline", "NSCB accuracy"), "measured_mean"] == pytest.approx(0.7391, abs=5e-5)
    scores = checkout.path / "results/tiny/bbbc021/cellprofiler/seed0/fold0/none/scores.csv"
    counts = pd.read_csv(scores).set_index("metric")["n"]
    assert (counts["nsc_accuracy"], counts["nscb_accuracy"]) == (103, 92)
    genes = read(checkout, "funk22_published").set_index(["row", "setting", "column"])
    average = genes.xs("average precision", level="column").droplevel("setting")
    for row, value in {"salient": 0.1958, "all": 0.1972, "background": 0.1333}.items():
        assert average.loc[row, "measured_mean"] == pytest.approx(value, abs=5e-5)
        assert 0 < average.loc[row, "ci_low"] < value < average.loc[row, "ci_high"]
    assert average.loc["salient", "measured_mean"] > 3 * average.loc["random", "measured_mean"]
    even, ahead = average.loc["all minus salient"], average.loc["all minus background"]
    assert even["ci_low"] < 0 < even["ci_high"]
    assert 0.03 < ahead["ci_low"] < ahead["measured_mean"] < ahead["ci_high"] < 0.1
    # The same genes are drawn for both, so their errors are far from independent.
    for difference, other in ((even, "salient"), (ahead, "background")):
        widths = [average.loc[row, "ci_high"] - average.loc[row, "ci_low"] for row in ("all", other)]
        assert difference["ci_high"] - difference["ci_low"] < 0.5 * np.hypot(*widths)
