import subprocess
import sys

import pytest

from morphobench.errors import SpecError
from morphobench.report.cells import expand_cells, metric_ids, required_evaluations
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
    found = required_evaluations(SPEC, METHODS, [1, 2], [0, 1])
    assert len(found) == len(set(found)) == 2 * (3 + 2)
    assert {e[2] for e in found if e[0] == "a"} == {1}
    assert {e[2] for e in found if e[0] == "b"} == {1, 2}
    varying = {**METHODS, "none": {"deterministic": False}}
    assert {e[2] for e in required_evaluations(SPEC, varying, [1, 2], [0]) if e[0] == "a"} == {1, 2}


def test_unknown_method_and_metric_ids():
    with pytest.raises(SpecError, match="'b'"):
        required_evaluations(SPEC, {k: v for k, v in METHODS.items() if k != "b"}, [1], [0])
    assert metric_ids(SPEC) == ["up", "down", "plain", "rec", "pre"]


def test_import_is_light():
    code = "import sys, morphobench.report.cells; print({'numpy', 'pandas', 'jinja2'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
