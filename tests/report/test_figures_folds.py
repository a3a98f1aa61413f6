"""Tables as dots: every run in the unit shown, the means of the table, the published values, what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from morphobench.report import figures_folds
from morphobench.report.cells import expand_cells
from morphobench.report.figures_folds import dots, draw_folds
from morphobench.report.scores import ScoreStore
from morphobench.report.table import build_table
from tests.report.test_claims import METRICS, plan_and_store, values, write_published


@pytest.fixture
def parts(tmp_path):
    """Plan of the figure, table and scores; c collapsed."""
    write_published(tmp_path)
    plan, store = plan_and_store(tmp_path, folds=3, bad=("c",))
    scores = {
        (c.methods[0], "none", 0, f): tmp_path / f"t/{c.methods[0]}/{f}.csv"
        for c in expand_cells(plan["spec"])
        for f in range(3)
    }
    table = build_table(plan["spec"], expand_cells(plan["spec"]), scores, tmp_path, METRICS).cells
    figure = {"title": "Every fold", "outputs": {"folds": "dots"}}
    return {**plan, "figure": figure, "scale": "tiny", "folder": tmp_path}, table, ScoreStore(scores)


@pytest.fixture
def drawn(monkeypatch):
    figures, save = [], figures_folds.save

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures_folds, "save", keep)
    return figures


def test_every_run_is_there_in_the_published_unit(parts):
    found = dots(*parts)
    own = found[(found["row"] == "A") & (found["setting"] == "train")]
    assert own["fold"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(own["value"], [100 * values("a", f, 0) for f in range(3)])
    assert set(found["row"]) == {"A", "B", "A, as coded", "random"}
    assert found.loc[found["row"] == "random", "control"].all()


def test_the_picture_has_dots_means_and_published_values(parts, drawn):
    (path,) = draw_folds(*parts)
    assert path.name == "dots.png"
    assert path.read_bytes()[:4] == b"\x89PNG"
    train, test = drawn[0].axes
    assert [a.get_title() for a in (train, test)] == ["acc\n(train)", "acc\n(test)"]
    assert [t.get_text() for t in train.get_yticklabels()] == ["A", "B", "C", "A, as coded", "random"]
    assert train.get_xlabel() == "percent"
    clouds = [c.get_offsets()[:, 0] for c in train.collections if len(c.get_offsets()) == 3]
    np.testing.assert_allclose(sorted(clouds[0]), sorted(100 * values("a", f, 0) for f in range(3)))
    marks = {(line.get_marker(), round(line.get_ydata()[0], 2)): line.get_xdata() for line in train.lines}
    assert marks["D", 0.3] == 50
    np.testing.assert_allclose(marks["o", 0.06], 100 * np.mean([values("a", f, 0) for f in range(3)]))
    assert ("o", 2.06) not in marks
    assert [t.get_text() for t in train.texts] == ["collapsed"]
    words = [t.get_text() for t in drawn[0].texts]
    assert words == ["Every fold", "Scale tiny, real data."]


def test_settings_and_rows_can_be_chosen(parts, drawn):
    plan, table, store = parts
    plan["figure"] |= {"settings": ["test"], "rows": ["B"]}
    draw_folds(plan, table, store)
    (axes,) = drawn[0].axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["B", "random"]
