import csv
import json
import math

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from morphobench.errors import DataError
from morphobench.report.cells import expand_cells, metric_ids, required_evaluations
from morphobench.report.layout import table_view
from morphobench.report.scores import Reading
from morphobench.report.table import STATUS_COLUMNS, TABLE_COLUMNS, build_table, difference, published_only
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


FOLDS = {(1, 0): 0.50, (2, 0): 0.54, (1, 1): 0.60, (2, 1): 0.66, (1, 2): 0.40}


@pytest.fixture
def folds(tmp_path):
    """A table of one row over three folds, published in percent, with a column that the paper does not have."""
    lines = ["paper,table,dataset,row,setting,column,mean,std,unit,higher_is_better,bold"]
    lines.append("x,t,d,A,s,k-NN,53.5,6.6,percent,1,0")
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    columns = [("k-NN", "up"), ("k-NN, as coded", "up2"), ("grit", "plain")]
    spec = {
        "id": "toy",
        "published": {"file": "p.csv", "table": "t"},
        "blocks": [
            {
                "id": "main",
                "rows": [{"row": "A", "method": "a"}],
                "columns": [{"setting": "s", "column": c, "metric": m} for c, m in columns],
            }
        ],
    }
    scores = {
        ("a", "none", *run): write_scores(tmp_path / f"{run}.csv", {"up": v, "up2": v, "plain": v})
        for run, v in FOLDS.items()
    }
    metrics = {
        "up": {"direction": "higher", "unit": "fraction"},
        "up2": {"direction": "higher", "unit": "fraction"},
        "plain": {"direction": "higher", "unit": "score"},
    }
    return spec, scores, tmp_path, metrics


def test_several_folds_spread_over_the_means_of_folds(folds):
    _, cells = build(folds)
    cell = cells.loc["A", "s", "grit"]
    means = [0.52, 0.63, 0.40]
    assert cell.measured_mean == pytest.approx(np.mean(means))
    assert cell.measured_std == pytest.approx(np.std(means, ddof=1))
    assert cell.measured_n == 5
    assert (cell.ci_low, cell.ci_high) == pytest.approx((0.54 - 0.03, 0.54 + 0.04))
    # One fold alone: the spread is that of its seeds.
    spec, scores, folder, metrics = folds
    _, cells = build((spec, {k: v for k, v in scores.items() if k[3] == 1}, folder, metrics))
    assert cells.loc["A", "s", "grit"].measured_std == pytest.approx(np.std([0.60, 0.66], ddof=1))
    # A fold that is missing takes no part.
    _, cells = build((spec, {**scores, ("a", "none", 1, 2): None}, folder, metrics))
    partial = cells.loc["A", "s", "grit"]
    assert (partial.status, partial.measured_n) == ("not_run", 4)
    assert partial.measured_std == pytest.approx(np.std([0.52, 0.63], ddof=1))


def test_fractions_are_shown_in_published_percent(folds):
    table, cells = build(folds)
    plain = cells.loc["A", "s", "grit"]
    for column in ("k-NN", "k-NN, as coded"):
        cell = cells.loc["A", "s", column]
        for name in ("measured_mean", "measured_std", "ci_low", "ci_high"):
            assert cell[name] == pytest.approx(100 * plain[name])
        assert cell.unit == "percent"
    assert (plain.unit, cells.loc["A", "s", "k-NN"].published_mean) == ("score", 53.5)
    spec, _, folder, _ = folds
    view = table_view(
        {**spec, "title": "", "caption": "", "blocks": [{**spec["blocks"][0], "title": "", "lines": "rows"}]},
        table,
        folder,
        "demo",
        "simulated",
    )
    shown = view.blocks[0].lines[0].cells[0]
    assert (shown.text, shown.spread, shown.published) == ("51.7", "± 11.5", "53.5 ± 6.6")


def test_a_difference_over_folds_keeps_its_folds(folds):
    spec, scores, folder, metrics = folds
    scores |= {("b", "none", 1, f): write_scores(folder / f"b{f}.csv", {"plain": 0.1 * f}) for f in (0, 1, 2)}
    block = {**spec["blocks"][0], "rows": [{"row": "A-B", "difference": ["a", "b"]}], "published": None}
    _, cells = build(({**spec, "blocks": [block]}, scores, folder, metrics))
    means = np.array([0.52, 0.63, 0.40]) - [0, 0.1, 0.2]
    cell = cells.loc["A-B", "s", "grit"]
    assert (cell.measured_mean, cell.measured_n) == (pytest.approx(means.mean()), 5)
    assert cell.measured_std == pytest.approx(means.std(ddof=1))


RNG = np.random.default_rng(0)
SHARED = RNG.normal(size=40)
FIRST = (0.7 + 0.10 * SHARED + 0.01 * RNG.normal(size=40)).tolist()
SECOND = (0.4 + 0.10 * SHARED + 0.01 * RNG.normal(size=40)).tolist()


def ok(value, draws=(), n=9):
    """A reading with an interval from 0.03 below to 0.04 above, as the toy's scores have."""
    return Reading(value, value - 0.03, value + 0.04, "ok", "", n=n, draws=tuple(draws))


def test_a_difference_of_the_same_resamples_is_paired():
    found = difference(ok(0.7, FIRST), ok(0.4, SECOND), same_seed=True)
    low, high = np.quantile([a - b for a, b in zip(FIRST, SECOND, strict=True)], [0.025, 0.975])
    assert (found.value, found.status, found.n) == (pytest.approx(0.3), "ok", 9)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)
    # The same values in another order are not the same resamples.
    shuffled = difference(ok(0.7, FIRST), ok(0.4, sorted(SECOND)), same_seed=True)
    assert shuffled.high - shuffled.low > 2 * (found.high - found.low)


def test_a_resample_that_leaves_one_side_undefined_is_left_out_of_both():
    gap = [math.nan, *FIRST[1:-1], FIRST[-1]]
    other = [*SECOND[:-1], math.nan]
    found = difference(ok(0.7, gap), ok(0.4, other), same_seed=True)
    expected = np.quantile(np.subtract(FIRST[1:-1], SECOND[1:-1]), [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "same_seed"),
    [
        (ok(0.7, FIRST), ok(0.4, SECOND), False),
        (ok(0.7, FIRST), ok(0.4, SECOND, n=8), True),
        (ok(0.7, FIRST), ok(0.4, SECOND[:-1]), True),
        (ok(0.7, FIRST), ok(0.4), True),
        (ok(0.7), ok(0.4), True),
        (ok(0.7, [0.6]), ok(0.4, [0.5]), True),
        (ok(0.7, [math.nan] * 3), ok(0.4, [0.1, 0.2, 0.3]), True),
    ],
    ids=["seeds", "units", "lengths", "one side", "no draws", "one draw", "undefined draws"],
)
def test_a_difference_of_other_resamples_adds_in_quadrature(first, second, same_seed):
    found = difference(first, second, same_seed=same_seed)
    assert (found.low, found.high) == pytest.approx((0.3 - 0.05, 0.3 + 0.05))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6) | st.just(math.nan), min_size=2, max_size=30), st.floats(-1e6, 1e6))
def test_a_metric_minus_itself_is_exactly_nothing(draws, value):
    same = ok(value, [0.25, 0.5, *draws])
    found = difference(same, same, same_seed=True)
    assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_difference_reads_the_draws_of_the_evaluations_that_it_pairs(toy, tmp_path):
    spec, scores, folder, metrics = toy
    blocks = {block["id"]: block for block in spec["blocks"]}
    rows = [*blocks["delta"]["rows"], {"row": "Itself", "difference": ["a", "a"], "at": "80"}]
    spec = {**spec, "blocks": [{**blocks["delta"], "rows": rows}]}
    folders = {("a", 1): FIRST, ("b", 1): SECOND, ("b", 2): SECOND}
    for (method, seed), draws in folders.items():
        own = tmp_path / f"{method}{seed}"
        own.mkdir()
        value = {"a": 0.7, "b": 0.4}[method]
        scores[method, "none", seed, 0] = write_scores(own / "scores.csv", {"rec@80": value})
        (own / "draws.json").write_text(json.dumps({"rec@80": draws}))
    _, cells = build((spec, scores, folder, metrics))
    # Method a ran for seed 1 only: with b of seed 1 it is paired, with b of seed 2 it is not.
    low, high = np.quantile(np.subtract(FIRST, SECOND), [0.025, 0.975])
    cell = cells.loc["Tub", "", "a minus b"]
    assert (cell.ci_low, cell.ci_high) == pytest.approx(((low + 0.25) / 2, (high + 0.35) / 2), abs=1e-9)
    itself = cells.loc["Itself", "", "a minus b"]
    assert (itself.measured_mean, itself.ci_low, itself.ci_high) == (0, 0, 0)


def test_status_lists_what_was_left_out_of_values_that_are_ok(toy):
    spec, scores, folder, metrics = toy
    path = scores["a", "none", 1, 0]
    rows = path.read_text().splitlines()
    left = "3 of 9 left out"
    path.write_text("\n".join(r.replace(",ok,,", f",ok,{left},") if r.startswith("up,") else r for r in rows))
    table, cells = build(toy)
    assert cells.loc["A", "s", "up"].status == "ok"
    status = table.status.set_index(["row", "setting", "column"])
    assert tuple(status.loc[("A", "s", "up"), ["status", "reason", "log"]]) == ("ok", left, "")
    assert ("A", "s", "down") not in status.index
    # Over several seeds it says how many of them left something out.
    path = scores["b", "none", 2, 0]
    path.write_text(path.read_text().replace(",ok,,", f",ok,{left},"))
    table, _ = build(toy)
    reasons = table.status.set_index(["row", "setting", "column"]).reason
    assert reasons["B", "s", "up"] == f"1 of 2 evaluations: {left}"


def test_bad_scores_file_is_one_sentence(toy, tmp_path):
    spec, scores, folder, metrics = toy
    bad = tmp_path / "bad.csv"
    bad.write_text("metric,value\nup,1\n")
    with pytest.raises(DataError, match=r"bad.csv: column ci_low is missing"):
        build((spec, {**scores, ("a", "none", 1, 0): bad}, folder, metrics))


def test_published_only(toy):
    spec, _, folder, _ = toy
    assert published_only(expand_cells(spec), folder) == {"main": ["C"], "across": [], "delta": []}


MATCHED = {
    **{"cellpaintr_table1": 56, "funk22_published": 146, "bbbc021_corrections": 0},
    **{
        "cdcl_table1": 24,
        "cdcl_table2a": 6,
        "cdcl_table2b": 6,
        "cdcl_table3": 8,
        "cdcl_table4": 18,
        "cdcl_table5": 18,
    },
}


@pytest.mark.parametrize("name", MATCHED)
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
    assert count == MATCHED[name]
