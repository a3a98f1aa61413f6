"""Claims: every form of the grammar, every verdict, and what the published numbers themselves say."""

from __future__ import annotations

import csv
import itertools

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from morphobench.errors import SpecError
from morphobench.report.cells import expand_cells
from morphobench.report.claims import Term, published_sides, published_value, read_claims
from morphobench.report.claims_page import make_claims, summary
from morphobench.report.runs import MeasuredTable, good_values
from morphobench.report.scores import ScoreStore
from morphobench.report.verdicts import judge_claims
from tests.report.toy_table import HEADER

FIELDS = "id,paper,table,statement,left_row,left_column,relation,right_row,right_column"
PUBLISHED = {
    ("A", "train"): "50.0",
    ("A", "test"): "40.0",
    ("B", "train"): "30.0",
    ("B", "test"): "20.0",
    ("C", "train"): "10.0",
    ("C", "test"): "40.0",
}
ROWS = [
    {"row": "A", "method": "a"},
    {"row": "B", "method": "b"},
    {"row": "C", "method": "c"},
    {"row": "A, as coded", "method": "d", "published_row": "A"},
    {"row": "random", "method": "r", "control": True},
]
METRICS = {"tr": {"unit": "fraction", "direction": "higher"}, "te": {"unit": "fraction", "direction": "higher"}}
FOLDS = 6


def write_published(folder):
    lines = ["paper,table,dataset,row,setting,column,mean,std,unit,higher_is_better,bold"]
    lines += [f"x,t,d,{row},{setting},acc,{mean},,percent,1,0" for (row, setting), mean in PUBLISHED.items()]
    (folder / "p-t.csv").write_text("\n".join(lines) + "\n")
    other = [*lines[:1], "x,u,d,D,only,score,5.0,,percent,1,0"]
    (folder / "p-u.csv").write_text("\n".join(other) + "\n")


def write_claims(folder, *claims):
    lines = [f"c{i},x,{claim}" for i, claim in enumerate(claims)]
    path = folder / "claims.csv"
    path.write_text("\n".join([FIELDS, *lines]) + "\n")
    return path


def spec(rows=ROWS, id_="t", table="t"):
    columns = [
        {"setting": setting, "column": "acc", "metric": metric}
        for setting, metric in (("train", "tr"), ("test", "te"))
    ]
    if table == "u":
        columns = [{"setting": "only", "column": "score", "metric": "te"}]
    block = {"id": "m", "title": "", "lines": "rows", "rows": list(rows), "columns": columns}
    return {"id": id_, "published": {"file": f"p-{table}.csv", "table": table}, "blocks": [block]}


def write_run(path, train, test, bad=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(HEADER)
        for metric, value in (("tr", train), ("te", test)):
            if bad:
                writer.writerow([metric, "", "", "", 9, 1, 1, "collapsed", "one point", 1])
            else:
                writer.writerow([metric, value, value - 0.02, value + 0.02, 9, 1, 1, "ok", "", 1])
    return path


def values(method, fold, setting):
    """Fold-dependent, so that only pairing by fold makes differences precise; in fractions."""
    base = {"a": (0.5, 0.4), "b": (0.3, 0.2), "c": (0.1, 0.398), "d": (0.9, 0.9), "r": (0.99, 0.99)}[method]
    wobble = 0.001 * ((7 * fold + ord(method)) % 5 - 2)
    return base[setting] + 0.05 * fold + wobble


@pytest.fixture
def measured(tmp_path):
    write_published(tmp_path)
    return tmp_path, plan_and_store(tmp_path)


def plan_and_store(folder, folds=FOLDS, bad=(), rows=ROWS, id_="t", table="t", change=None):
    the_spec = spec(rows, id_, table)
    scores = {}
    for method in dict.fromkeys(c.methods[0] for c in expand_cells(the_spec)):
        for fold in range(folds):
            pair = [values(method, fold, s) for s in (0, 1)]
            pair = change(method, fold, pair) if change else pair
            path = folder / f"{id_}/{method}/{fold}.csv"
            scores[method, "none", 0, fold] = write_run(path, *pair, bad=method in bad)
    plan = {"id": id_, "dataset": {"id": "d", "source": "real"}, "spec": the_spec, "metrics": METRICS}
    return plan, ScoreStore(scores)


def judged(folder, stores, *claims):
    tables = [MeasuredTable(plan, store, folder) for plan, store in stores]
    return judge_claims(read_claims(write_claims(folder, *claims), folder), tables, folder)


def one(folder, stores, claim):
    frame = judged(folder, stores, claim)
    assert len(frame) == 1
    return frame.iloc[0]


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ("p-t,s,A@train,acc,>,B@train,acc", "holds"),
        ("p-t,s,A@train,acc,<,B@train,acc", "does not hold"),
        ("p-t,s,B@train,acc,<,A,acc", "holds"),  # the right side takes the left one's setting
        ("p-t,s,A@test,acc,>,C@test,acc", "within noise"),
        ("p-t,s,A@test,acc,>=,C@test,acc", "holds"),  # all six at least tie in print
        ("p-t,s,A@each,acc,>,B,acc", "holds"),
        ("p-t,s,A@train,acc,>,*,acc", "holds"),  # neither the control nor the row of our own counts
        ("p-t,s,A@train,acc,>,**,acc", "holds"),
        ("p-t,s,A@test,acc,>,**,acc", "does not hold"),
        ("p-t,s,A@train|B@train,acc,>,C@train,acc", "holds"),
        ("p-t,s,A@train,acc,>,B@train|C@test,acc", "holds"),
        ("p-t,s,A@train|C@train,acc,>,B@train,acc", "does not hold"),
        ("p-t,s,max(A),acc,>,max(B),acc", "holds"),
        ("p-t,s,max(C),acc,<,max(A)|max(B),acc", "does not hold"),
        ("p-t,s,A@train,acc,>,const,20", "holds"),
        ("p-t,s,A@train,acc,<,const,20", "does not hold"),
        ("p-t,s,A@train,acc,diff~20.0,B@train,acc", "holds"),
        ("p-t,s,A@train,acc,diff~25.0,B@train,acc", "does not hold"),
        ("p-t,s,A@test,acc,diff~0.1,C@test,acc", "within noise"),
        ("p-t,s,A@test,acc,ratio~1,C@test,acc", "holds"),
        ("p-t,s,A@train,acc,ratio~1,C@train,acc", "does not hold"),
        ("p-t,s,A@train,acc,ratio~5,C@train,acc", "does not hold"),
        ("p-t,s,A@train,acc,ratio~1.5,B@train,acc", "holds"),
    ],
)
def test_every_relation_and_form(measured, claim, verdict):
    folder, store = measured
    found = one(folder, [store], claim)
    assert found["verdict"] == verdict
    assert found["table"] == "t"
    assert found["runs"] == FOLDS


def test_the_interval_is_students_over_paired_folds_in_the_published_unit(measured):
    folder, store = measured
    found = one(folder, [store], "p-t,s,A@train,acc,>,B@train,acc")
    paired = [100 * (values("a", f, 0) - values("b", f, 0)) for f in range(FOLDS)]
    low, high = stats.t.interval(0.95, FOLDS - 1, np.mean(paired), stats.sem(paired))
    np.testing.assert_allclose(
        found[["measured_difference", "low", "high"]].astype(float), [np.mean(paired), low, high]
    )
    assert high - low < 1  # the folds differ by 25 points, their pairs hardly
    assert (found["published_left"], found["published_right"], found["published_difference"]) == (50, 30, 20)
    np.testing.assert_allclose(found["measured_left"], 100 * np.mean([values("a", f, 0) for f in range(FOLDS)]))


def test_a_ratio_is_judged_on_logarithms(measured):
    folder, store = measured
    found = one(folder, [store], "p-t,s,A@train,acc,ratio~1.5,B@train,acc")
    logs = [np.log(values("a", f, 0) / values("b", f, 0)) for f in range(FOLDS)]
    low, high = np.exp(stats.t.interval(0.95, FOLDS - 1, np.mean(logs), stats.sem(logs)))
    np.testing.assert_allclose(
        found[["measured_difference", "low", "high"]].astype(float), [np.exp(np.mean(logs)), low, high]
    )


def test_seeds_of_a_fold_are_averaged_not_counted(tmp_path):
    write_published(tmp_path)
    plan, _ = plan_and_store(tmp_path, folds=2)
    scores = {}
    for method, seeds in (("a", (0,)), ("b", (0, 1, 2))):
        for seed, fold in itertools.product(seeds, range(3)):
            path = tmp_path / f"{method}{seed}{fold}.csv"
            scores[method, "none", seed, fold] = write_run(path, 0.5 + 0.01 * fold * seed, 0.1)
    plan["spec"]["blocks"][0]["rows"] = ROWS[:2]
    found = one(tmp_path, [(plan, ScoreStore(scores))], "p-t,s,A@train,acc,>,B@train,acc")
    means = [-1.0 * f for f in range(3)]  # a minus the mean of b's seeds, in percent
    low, high = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    np.testing.assert_allclose(found[["measured_difference", "low", "high"]].astype(float), [-1, low, high])
    assert found["runs"] == 3


def test_six_runs_on_one_side_hold_where_the_interval_does_not(tmp_path):
    write_published(tmp_path)

    def outlier(method, fold, pair):
        return [0.3 + (0.001 if fold else 0.9) * (method == "a"), pair[1]]

    claim = "p-t,s,A@train,acc,>,B@train,acc"
    found = one(tmp_path, [plan_and_store(tmp_path, change=outlier)], claim)
    assert found["low"] < 0
    assert found["verdict"] == "holds"
    assert one(tmp_path, [plan_and_store(tmp_path, folds=5, change=outlier)], claim)["verdict"] == "within noise"


def test_a_tie_in_print_satisfies_at_least(tmp_path):
    write_published(tmp_path)

    def nearly(method, fold, pair):
        return [0.3 - 0.0004 * (method == "a"), pair[1]]

    store = plan_and_store(tmp_path, change=nearly)
    assert one(tmp_path, [store], "p-t,s,A@train,acc,>=,B@train,acc")["verdict"] == "holds"
    assert one(tmp_path, [store], "p-t,s,A@train,acc,>,B@train,acc")["verdict"] == "does not hold"


@pytest.mark.parametrize(("gap", "verdict"), [(0.2, "holds"), (0.01, "within noise"), (-0.2, "does not hold")])
def test_a_single_run_has_the_interval_of_its_evaluations(tmp_path, gap, verdict):
    write_published(tmp_path)
    store = plan_and_store(tmp_path, folds=1, change=lambda m, f, p: [0.5 + gap * (m == "a"), p[1]])
    found = one(tmp_path, [store], "p-t,s,A@train,acc,>,B@train,acc")
    assert found["verdict"] == verdict
    assert found["runs"] == 1
    np.testing.assert_allclose(found["high"] - found["low"], 2 * 100 * np.hypot(0.02, 0.02))


def test_the_weakest_comparison_is_shown(measured):
    folder, store = measured
    found = one(folder, [store], "p-t,s,A@train,acc,>,*,acc")
    assert "2 of 2 comparisons; weakest: A (train) against B (train)" in found["reason"]
    assert found["published_right"] == 30
    broken = one(folder, [store], "p-t,s,C@train|A@train,acc,>,B@train,acc")
    assert "1 of 2 comparisons; clearest: C (train) against B (train)" in broken["reason"]


def test_what_was_not_measured_says_why(tmp_path):
    write_published(tmp_path)
    broken = plan_and_store(tmp_path, bad=("b",))
    claims = ["p-t,s,A@train,acc,>,B@train,acc", "p-t,s,A@train,acc,>,*,acc", "p-u,s,D,score,>,const,0"]
    frame = judged(tmp_path, [broken], *claims)
    assert set(frame["verdict"]) == {"not measured"}
    assert frame["reason"][0] == "collapsed: one point"
    assert frame["reason"][1].startswith("1 of 2 comparisons measured; A (train) against B (train): collapsed")
    assert frame["reason"][2] == "no table among those made here stands beside p-u"
    assert frame["table"].tolist() == ["t", "t", "p-u"]
    assert frame["measured_difference"].isna().all()
    assert frame["published_difference"].tolist() == [20, 20, 5]
    without = plan_and_store(tmp_path, rows=ROWS[1:3])
    assert judged(tmp_path, [without], claims[0])["reason"][0] == "no method here for A (train): acc"


def test_one_broken_comparison_refutes_though_another_is_missing(tmp_path):
    write_published(tmp_path)
    store = plan_and_store(tmp_path, bad=("c",))
    found = one(tmp_path, [store], "p-t,s,A@train,acc,<,*,acc")
    assert found["verdict"] == "does not hold"


def test_rows_of_the_published_name_come_first_and_others_stand_in(tmp_path):
    write_published(tmp_path)
    table = MeasuredTable(*plan_and_store(tmp_path), tmp_path)
    own = good_values(table.runs("p-t", Term("A", ("train",), "acc")))
    np.testing.assert_allclose(own, [100 * values("a", f, 0) for f in range(FOLDS)])
    table = MeasuredTable(*plan_and_store(tmp_path, rows=ROWS[3:]), tmp_path)
    coded = good_values(table.runs("p-t", Term("A", ("train",), "acc")))
    np.testing.assert_allclose(coded, [100 * values("d", f, 0) for f in range(FOLDS)])


def test_a_table_with_some_of_the_rows_has_no_say_beside_one_with_all(tmp_path):
    write_published(tmp_path)
    whole, part = plan_and_store(tmp_path), plan_and_store(tmp_path, rows=ROWS[:2], id_="v")
    every, pair = "p-t,s,A@train,acc,>,*,acc", "p-t,s,A@train,acc,>,B@train,acc"
    frame = judged(tmp_path, [part, whole], every, pair)
    assert frame[["claim", "table"]].to_numpy().tolist() == [["c0", "t"], ["c1", "v"], ["c1", "t"]]
    alone = one(tmp_path, [part], every)
    assert (alone["verdict"], alone["table"]) == ("not measured", "v")


def test_sides_may_stand_in_two_tables_of_one_data_set(tmp_path):
    write_published(tmp_path)
    first = plan_and_store(tmp_path)
    second = plan_and_store(tmp_path, rows=[{"row": "D", "method": "b"}], id_="u", table="u")
    claim = "p-u;p-t,s,D,score,<,A@test,acc"
    found = one(tmp_path, [first, second], claim)
    assert (found["verdict"], found["table"]) == ("holds", "u;t")
    second[0]["dataset"]["id"] = "elsewhere"
    assert "are of different data sets" in one(tmp_path, [first, second], claim)["reason"]


def test_the_order_of_rows_and_tables_does_not_matter(measured):
    folder, _ = measured
    claims = ["p-t,s,A@train,acc,>,*,acc", "p-t,s,max(C),acc,<,max(A)|max(B),acc", "p-t,s,A@test,acc,>,**,acc"]
    expected = judged(folder, [plan_and_store(folder)], *claims)
    for rows in itertools.islice(itertools.permutations(ROWS), 1, 120, 29):
        pd.testing.assert_frame_equal(judged(folder, [plan_and_store(folder, rows=rows)], *claims), expected)
    turned = judged(folder, [plan_and_store(folder)], *claims[::-1])
    columns = [c for c in expected if c != "claim"]
    pd.testing.assert_frame_equal(turned[::-1].reset_index(drop=True)[columns], expected[columns])


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        ("p-t,s,A@train,acc,~,B@train,acc", "relation '~' is not understood"),
        ("p-t,s,A@train,acc,ratio~-2,B@train,acc", "relation 'ratio~-2' is not understood"),
        ("p-t,s,A@train,acc,>,const,much", "right_column must be a number"),
        ("p-t,s,*,acc,>,B,acc", "left_row '\\*' is not understood"),
        ("p-t,s,max(A@train),acc,>,B,acc", "is not understood"),
        ("p-t,s,A@train,acc,>,E@train,acc", "no published row 'E' with column 'acc'"),
        ("p-t,s,A@trian,acc,>,B@train,acc", "no 'acc' in setting 'trian'; did you mean 'train'"),
        ("p-t,s,A,acc,>,B@train,acc", "in the settings train, test; name one"),
        ("p-v,s,A,acc,>,B,acc", "there is no"),
        ("p-t;p-u;p-t,s,A,acc,>,B,acc", "expected one name or two"),
        ("p-t,s,A@train,acc", "expected 9 fields"),
    ],
)
def test_what_is_not_understood_is_refused_with_file_and_line(tmp_path, claim, words):
    write_published(tmp_path)
    path = write_claims(tmp_path, "p-t,s,A@train,acc,>,B@train,acc", claim)
    with pytest.raises(SpecError, match=rf"claims\.csv:3: .*{words}"):
        read_claims(path, tmp_path)


def test_every_claim_of_the_papers_is_borne_out_by_their_own_numbers(root):
    """Also a check of how the claims are read: a wrong sign, row or setting would break one of them."""
    claims = read_claims(root / "specs/claims.csv", root / "specs/published")
    assert len(claims) == 40
    for claim in claims:
        sides = published_sides(claim, root / "specs/published")
        for comparison in claim.comparisons:
            left, right = (published_value(t, n) for t, n in zip(comparison, sides, strict=True))
            fine = {
                "<": left < right,
                ">": left > right,
                ">=": left >= right,
                "diff~": claim.target and abs(left - right - claim.target) <= 0.05,
                "ratio~": claim.target and right and abs(left / right / claim.target - 1) <= 0.1,
            }[claim.relation]
            assert fine, f"{claim.id}: {left} {claim.relation} {right}"


def test_files_and_the_line_of_the_log(measured, capsys):
    folder, store = measured
    path = write_claims(
        folder,
        "p-t,50% & <b>|,A@train,acc,>,B@train,acc",
        "p-t,s,A@test,acc,>,C@test,acc",
        "p-u,s,D,score,>,const,0",
    )
    plan = {"claims": path, "scale": "tiny", "folder": folder / "out"}
    paths = make_claims(plan, [store], folder)
    assert [p.name for p in paths] == ["claims.csv", "claims.md", "claims.html", "claims.tex"]
    line = "2 of 3 claims measured, 1 hold (1 within noise)."
    for page in paths[1:]:
        assert line in page.read_text()
    assert "50% &amp; &lt;b&gt;\\|" in paths[1].read_text()
    assert "<b>|" not in paths[2].read_text()
    assert r"50\% \&" in paths[3].read_text()
    log = capsys.readouterr().out
    assert "c0: holds: 50% & <b>|: +20.0 [" in log
    assert "points, 6 runs, paper +20.0 [t]" in log
    assert "c2: not measured: s (no table" in log
    assert line in log
    frame = pd.read_csv(paths[0])
    assert frame["verdict"].tolist() == ["holds", "within noise", "not measured"]
    assert summary(frame) == line


def test_every_claim_of_cdcl_finds_its_cells_in_the_tables(root):
    """A row or column spelt differently from the paper would leave its claim unmeasured for good."""
    tables = []
    for path in sorted((root / "specs/tables").glob("cdcl_*.yaml")):
        spec = yaml.safe_load(path.read_text())
        named = {c.metric_id for c in expand_cells(spec)}
        metrics = {m: yaml.safe_load((root / f"specs/metrics/{m}.yaml").read_text()) for m in named}
        plan = {
            "id": path.stem,
            "dataset": {"id": spec["dataset"], "source": "real"},
            "spec": spec,
            "metrics": metrics,
        }
        tables.append(MeasuredTable(plan, ScoreStore({}), root / "specs/published"))
    claims = [c for c in read_claims(root / "specs/claims.csv", root / "specs/published") if c.paper == "cdcl"]
    assert len(claims) == 14
    frame = judge_claims(claims, tables, root / "specs/published")
    assert frame["reason"].str.contains("no evaluation was asked for").all(), frame["reason"].tolist()
    assert frame["table"].str.contains("cdcl_table").all()
