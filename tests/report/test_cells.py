import subprocess
import sys

import pytest

from morphobench.errors import SpecError
from morphobench.report.cells import expand_cells, expand_columns, metric_ids, required_evaluations
from tests.report.toy_table import METHODS, SPEC


def test_at_expands_and_settings_stay_together():
    cells = [c for c in expand_cells(SPEC) if c.block == "across" and c.row == "A"]
    assert [(c.setting, c.column, c.metric) for c in cells] == [
        ("cut 80", "rec", "rec@80"),
        ("cut 80", "pre", "pre@80"),
        ("cut 81", "rec", "rec@81"),
        ("cut 81", "pre", "pre@81"),
    ]
    assert cells[0].metric_id == "rec"


def test_row_at_and_published_row():
    cells = {c.key: c for c in expand_cells(SPEC)}
    assert cells["Tub", "", "a minus b"].metric == "rec@80"
    assert cells["Tub", "", "a minus b"].published is None
    assert cells["B again", "s", "up"].published == ("p.csv", "t", "B")


def test_duplicate_cell_and_missing_at_are_spec_errors():
    block = {"id": "x", "rows": [{"row": "A", "method": "a"}] * 2, "columns": SPEC["blocks"][0]["columns"]}
    with pytest.raises(SpecError, match="two cells have row 'A'"):
        expand_cells({"id": "toy", "blocks": [block]})
    block = {**SPEC["blocks"][2], "rows": [{"row": "A", "method": "a"}]}
    with pytest.raises(SpecError, match="no key 'at'"):
        expand_cells({"id": "toy", "blocks": [block]})


def test_deterministic_runs_once_others_for_every_seed():
    found = required_evaluations(SPEC, METHODS, [1, 2], [0])
    assert len(found) == len(set(found)) == 3 + 2
    assert {e[2] for e in found if e[0] == "a"} == {1}
    assert {e[2] for e in found if e[0] == "b"} == {1, 2}
    several = required_evaluations(SPEC, METHODS, [1, 2], [0, 1])
    assert {e[2] for e in several} == {1}, "a spread over folds needs no seeds"
    varying = {**METHODS, "none": {"deterministic": False}}
    assert {e[2] for e in required_evaluations(SPEC, varying, [1, 2], [0]) if e[0] == "a"} == {1, 2}


PROTOCOLS = {
    "id": "two",
    "blocks": [
        {
            "id": "main",
            "rows": [
                {"row": "Net", "method": "net", "methods": {"tuned": "net_tuned"}, "correction": "znorm"},
                {"row": "Half", "methods": {"plain": "half", "tuned": "half_tuned"}},
                {"row": "Pixels", "method": "pixels", "control": True},
            ],
            "columns": [
                {"setting": "plain", "column": "k-NN", "metric": "knn"},
                {"setting": "tuned", "column": "k-NN", "metric": "knn"},
                {
                    "setting": "plain",
                    "column": "normed {at}",
                    "metric": "knn@{at}",
                    "at": [1],
                    "correction": "coded",
                },
            ],
        }
    ],
}


def test_a_column_has_its_correction_and_a_setting_its_method():
    columns = expand_columns(PROTOCOLS["blocks"][0])
    assert [(c["setting"], c["column"], c["correction"]) for c in columns] == [
        ("plain", "k-NN", None),
        ("plain", "normed 1", "coded"),
        ("tuned", "k-NN", None),
    ]
    found = [(c.row, c.column, *c.methods, c.correction) for c in expand_cells(PROTOCOLS)]
    assert found == [
        ("Net", "k-NN", "net", "znorm"),
        ("Net", "normed 1", "net", "coded"),
        ("Net", "k-NN", "net_tuned", "znorm"),
        ("Half", "k-NN", "half", "none"),
        ("Half", "normed 1", "half", "coded"),
        ("Half", "k-NN", "half_tuned", "none"),
        ("Pixels", "k-NN", "pixels", "none"),
        ("Pixels", "normed 1", "pixels", "coded"),
        ("Pixels", "k-NN", "pixels", "none"),
    ]


def test_a_row_without_a_method_for_a_setting():
    row = {"row": "Half", "methods": {"tuned": "half_tuned"}}
    block = {**PROTOCOLS["blocks"][0], "rows": [row]}
    with pytest.raises(SpecError, match="table two: row 'Half' names no method for setting 'plain'"):
        expand_cells({"id": "two", "blocks": [block]})


def test_a_trained_method_runs_for_the_first_seeds_and_a_correction_only_where_a_cell_needs_it():
    trained = {"deterministic": False, "input": "images"}
    methods = {
        **dict.fromkeys(("net", "net_tuned", "half", "half_tuned"), trained),
        "pixels": {"deterministic": False},
        **{m: {"deterministic": True} for m in ("none", "znorm", "coded")},
    }
    found = required_evaluations(PROTOCOLS, methods, [5, 6, 7], [0, 1])
    pairs = {"net": "znorm", "net_tuned": "znorm", "half": "none", "half_tuned": "none"}
    expected = [(m, c, 5, f) for m, c in {*pairs.items(), ("net", "coded"), ("half", "coded")} for f in (0, 1)]
    expected += [("pixels", c, 5, f) for c in ("none", "coded") for f in (0, 1)]
    assert sorted(found) == sorted(expected)
    twice = required_evaluations(PROTOCOLS, methods, [5, 6, 7], [0], trainings=2)
    assert {e[2] for e in twice if e[0] == "net"} == {5, 6}
    assert {e[2] for e in twice if e[0] == "pixels"} == {5, 6, 7}
    frozen = {**methods, "net": {**trained, "deterministic": True}}
    assert {e[2] for e in required_evaluations(PROTOCOLS, frozen, [5, 6, 7], [0], 2) if e[0] == "net"} == {5}


def test_unknown_method_and_metric_ids():
    with pytest.raises(SpecError, match="'b'"):
        required_evaluations(SPEC, {k: v for k, v in METHODS.items() if k != "b"}, [1], [0])
    assert metric_ids(SPEC) == ["up", "down", "plain", "rec", "pre"]


def test_import_is_light():
    code = "import sys, morphobench.report.cells; print({'numpy', 'pandas', 'jinja2'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
