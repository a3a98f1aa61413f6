"""A small table with everything in it: both orientations, seeds, a difference, failures, published numbers."""

import csv

HEADER = ["metric", "value", "ci_low", "ci_high", "n", "seconds", "peak_mb", "status", "reason", "seed"]
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
        writer.writerow(HEADER)
        for metric, value in values.items():
            writer.writerow([metric, value, value - 0.03, value + 0.04, 9, 1, 1, "ok", "", 1])
        for metric, (status, reason) in (bad or {}).items():
            writer.writerow([metric, "", "", "", 9, 1, 1, status, reason, 1])
    return path
