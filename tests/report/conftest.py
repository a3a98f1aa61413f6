"""The toy table on disk."""

import json

import pytest

from tests.report.toy_table import METRICS, SPEC, VALUES, write_scores


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
