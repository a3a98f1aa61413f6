"""A small table with everything in it: both orientations, seeds, a difference, failures, published numbers."""

import csv
import json

import pytest

SPEC = {
    "id": "toy",
    "title": "Toy & 50% <b>_table_</b> {x}",
    "caption": "A caption\n with $ and #.",
    "dataset": "d",
    "published": {"file": "p.csv", "table": "t"},
    "digits": 2,
    "notes": ["a|b"],
    "blocks": [
        {
            "id": "main",
            "title": "Main",
            "lines": "rows",
            "rows": [
                {"row": "A", "method": "a", "correction": "none"},
                {"row": "B", "method": "b"},
                {"row": "B again", "method": "b", "published_row": "B"},
                {"row": "Broken", "method": "broken"},
                {"row": "Perfect", "method": "perfect", "control": True},
            ],
            "columns": [
                {"setting": "s", "column": "up", "metric": "up"},
                {"setting": "s", "column": "down", "metric": "down"},
                {"setting": "q", "column": "plain", "metric": "plain"},
            ],
        },
        {
            "id": "across",
            "title": "Across",
            "lines": "columns",
            "published": None,
            "rows": [{"row": "A", "method": "a"}, {"row": "B", "method": "b"}],
            "columns": [
                {"setting": "cut {at}", "column": "rec", "metric": "rec@{at}", "at": [80, 81]},
                {"setting": "cut {at}", "column": "pre", "metric": "pre@{at}", "at": [80, 81]},
            ],
        },
        {
            "id": "delta",
            "title": "Delta",
            "lines": "rows",
            "published": None,
            "rows": [{"row": "Tub", "difference": ["a", "b"], "at": "80"}],
            "columns": [{"setting": "", "column": "a minus b", "metric": "rec@{row_at}"}],
        },
    ],
}
METHODS = {m: {"deterministic": m != "b"} for m in ("a", "b", "broken", "perfect", "none")}
METRICS = {
    m: {"direction": d, "unit": "score"}
    for m, d in (("up", "higher"), ("down", "lower"), ("plain", "none"), ("rec", "higher"), ("pre", "higher"))
}
VALUES = {
    ("a", 1): {"up": 0.5, "down": 0.5, "plain": 1, "rec@80": 0.7, "rec@81": 0.6, "pre@80": 0.1, "pre@81": 0.2},
    ("b", 1): {"up": 0.6, "down": 0.6, "plain": 2, "rec@80": 0.4, "rec@81": 0.5, "pre@80": 0.3, "pre@81": 0.1},
    ("b", 2): {"up": 0.8, "down": 0.8, "plain": 3, "rec@80": 0.5, "rec@81": 0.6, "pre@80": 0.3, "pre@81": 0.1},
    ("perfect", 1): {"up": 1.0, "down": 0.0, "plain": 4},
}


def write_scores(path, values, bad=None):
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow("metric,value,ci_low,ci_high,n,seconds,peak_mb,status,reason,seed".split(","))
        for metric, value in values.items():
            writer.writerow([metric, value, value - 0.03, value + 0.04, 9, 1, 1, "ok", "", 1])
        for metric, (status, reason) in (bad or {}).items():
            writer.writerow([metric, "", "", "", 9, 1, 1, status, reason, 1])
    return path


@pytest.fixture
def toy(tmp_path):
    """Spec, scores by evaluation, folder of published numbers, metric specs."""
    lines = ["paper,table,dataset,row,setting,column,mean,std,unit,higher_is_better,bold"]
    for row, column, mean in (("A", "up", "0.40"), ("B", "up", "0.90"), ("C", "up", "0.10"), ("A", "down", "0.2")):
        lines.append(f"x,t,d,{row},s,{column},{mean},,points,{int(column == 'up')},0")
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    failed = tmp_path / "broken.failed.json"
    failed.write_text(
        json.dumps({"status": "out_of_memory", "reason": 'needs "9" <GB> & more', "log": "logs/x.log"})
    )
    scores = {("broken", "none", 1, 0): failed}
    for (method, seed), values in VALUES.items():
        scores[method, "none", seed, 0] = write_scores(tmp_path / f"{method}{seed}.csv", values)
    return SPEC, scores, tmp_path, METRICS
