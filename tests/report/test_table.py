import csv
import math

import pytest
import yaml

from morphobench.errors import DataError
from morphobench.report.cells import expand_cells, metric_ids, required_evaluations
from morphobench.report.table import STATUS_COLUMNS, TABLE_COLUMNS, build_table, published_only
from tests.report.toy_table import write_scores


def build(toy):
    spec, scores, folder, metrics = toy
    table = build_table(spec, expand_cells(spec), scores, folder, metrics)
    return table, table.cells.set_index(["row", "setting", "column"])


def test_columns_and_one_evaluation(toy):
    table, cells = build(toy)
    assert list(table.cells.columns) == TABLE_COLUMNS
    assert list(table.status.columns) == STATUS_COLUMNS
    cell = cells.loc["A", "s", "up"]
    assert (cell.measured_mean, cell.measured_n, cell.status, cell.published_mean) == (0.5, 1, "ok", 0.4)
    assert math.isnan(cell.measured_std)
    assert (cell.ci_low, cell.ci_high) == pytest.approx((0.47, 0.54))
    assert (cell.unit, cell.higher_is_better) == ("points", 1)


def test_several_seeds_and_published_row(toy):
    _, cells = build(toy)
    cell = cells.loc["B again", "s", "up"]
    assert cell.measured_mean == pytest.approx(0.7)
    assert cell.measured_std == pytest.approx(0.2 / math.sqrt(2))
    assert (cell.ci_low, cell.ci_high) == pytest.approx((0.67, 0.74))
    assert (cell.measured_n, cell.published_mean) == (2, 0.9)
    assert cells.loc["B", "q", "plain"].unit == "score"
    assert cells.loc["Perfect", "s", "down"].higher_is_better == 0


def test_failure_record_gives_status_reason_log(toy):
    table, cells = build(toy)
    assert cells.loc["Broken", "s", "up"].status == "out_of_memory"
    assert math.isnan(cells.loc["Broken", "s", "up"].measured_mean)
    mine = table.status[table.status["row"] == "Broken"].iloc[0]
    assert (mine.reason, mine.log) == ('needs "9" <GB> & more', "logs/x.log")


def test_missing_file_missing_metric_and_partial_seeds(toy, tmp_path):
    spec, scores, folder, metrics = toy
    write_scores(scores["b", "none", 2, 0], {"up": 0.8}, {"down": ("collapsed", "rank 0")})
    scores["a", "none", 1, 0] = None
    table, cells = build((spec, scores, folder, metrics))
    assert set(cells.loc["A"].status) == {"not_run"}
    partial = cells.loc["B", "s", "down"]
    assert (partial.status, partial.measured_n, partial.measured_mean) == ("collapsed", 1, 0.6)
    reasons = table.status.set_index(["row", "setting", "column"]).reason
    assert reasons["B", "s", "down"] == "1 of 2 evaluations: rank 0"
    assert reasons["B", "q", "plain"] == "1 of 2 evaluations: the scores file has no metric plain"


def test_difference_pairs_seeds_and_adds_in_quadrature(toy):
    _, cells = build(toy)
    cell = cells.loc["Tub", "", "a minus b"]
    assert cell.measured_mean == pytest.approx((0.3 + 0.2) / 2)
    assert cell.measured_n == 2
    assert (cell.ci_low, cell.ci_high) == pytest.approx((0.25 - 0.05, 0.25 + 0.05))
    assert str(cell.higher_is_better) == "<NA>"


def test_bad_scores_file_is_one_sentence(toy, tmp_path):
    spec, scores, folder, metrics = toy
    bad = tmp_path / "bad.csv"
    bad.write_text("metric,value\nup,1\n")
    with pytest.raises(DataError, match=r"bad.csv: column ci_low is missing"):
        build((spec, {**scores, ("a", "none", 1, 0): bad}, folder, metrics))


def test_published_only(toy):
    spec, _, folder, _ = toy
    assert published_only(expand_cells(spec), folder) == {"main": ["C"], "across": [], "delta": []}


@pytest.mark.parametrize("name", ["cellpaintr_table1", "funk22_published", "bbbc021_corrections"])
def test_house_tables_match_the_published_numbers(root, name):
    spec = yaml.safe_load((root / f"specs/tables/{name}.yaml").read_text())
    cells = expand_cells(spec)
    metrics = {m: {"direction": "higher", "unit": "score"} for m in metric_ids(spec)}
    table = build_table(spec, cells, {}, root / "specs/published", metrics).cells
    assert set(table["status"]) == {"not_run"}
    methods = {m: {"deterministic": True} for c in cells for m in (*c.methods, c.correction)}
    assert all(len(e) == 4 for e in required_evaluations(spec, methods, [1], [0]))
    shown = {(r["row"], r["setting"], r["column"]): r["published_mean"] for r in table.to_dict("records")}
    sources = {c.published[:2] for c in cells if c.published}
    count = 0
    for file, wanted in sources:
        with open(root / "specs/published" / file, newline="") as stream:
            for row in csv.DictReader(stream):
                key = (row["row"], row["setting"], row["column"])
                if row["table"] == wanted and not row["row"].startswith("CellPainTR"):
                    count += 1
                    assert shown[key] == float(row["mean"]), key
    assert count == {"cellpaintr_table1": 56, "funk22_published": 146, "bbbc021_corrections": 0}[name]
