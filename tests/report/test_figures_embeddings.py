"""Panels of a split, by method and correction, with the enlarged window: what is drawn and that it repeats."""

from __future__ import annotations

import json
import os

import numpy as np
import pandas as pd
import pytest
import yaml

from morphobench.errors import SpecError
from morphobench.files import sha256_of
from morphobench.profiles import Profiles, write_profiles
from morphobench.report import figures_embeddings
from morphobench.report.figures import draw, embedding_items
from morphobench.report.figures_embeddings import Colours
from morphobench.report.figures_rows import Shown, shown_profiles, shown_rows
from morphobench.report.figures_zoom import PART, frequent, within, zoom_window
from morphobench.specs.lines import load_yaml
from morphobench.specs.schema import check

TABLE = {
    "id": "t",
    "blocks": [
        {
            "rows": [
                {"row": "DINO", "method": "dino"},
                {"row": "CDCL", "method": "cdcl", "correction": "tvn"},
                {"row": "gap", "difference": ["dino", "cdcl"]},
            ]
        }
    ],
}
PANEL = {
    "projection": "pca",
    "title": "Panels",
    "rows": ["DINO", {"row": "CDCL", "label": "ours"}, "later"],
    "corrections": [{"correction": "none", "title": "raw"}, {"correction": "znorm", "title": "Z-norm"}],
}
FIGURE = {
    "id": "f",
    "title": "A figure",
    "kind": "embeddings",
    "table": "t",
    "seed": 42,
    "split": "test",
    "colour_by": [{"column": "Metadata_Batch", "title": "batch"}],
    "zoom": {"column": "Metadata_Perturbation", "title": "treatment"},
    "outputs": {"pca": "f"},
    "panels": {"pca": PANEL},
}


def profiles(batches=4, treatments=12, replicates=3, seed=0):
    """Test rows lie around 0, all others far away; the last treatment is the control."""
    rng = np.random.default_rng(seed)
    rows = [
        (split, b, t)
        for split in ("train", "test")
        for b in range(batches)
        for t in range(treatments + 1)
        for _ in range(replicates)
    ]
    split, batch, treatment = map(np.array, zip(*rows, strict=True))
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": [f"{s}-{b + 1}" for s, b in zip(split, batch, strict=True)],
            "Metadata_Plate": "p",
            "Metadata_Well": [f"w{i}" for i in range(len(rows))],
            "Metadata_Perturbation": [f"s{t}" for t in treatment],
            "Metadata_Control": np.where(treatment == treatments, "negcon", "trt"),
            "Metadata_Split": split,
        }
    )
    centres = rng.normal(size=(treatments + 1, 5))
    features = centres[treatment] + 0.1 * rng.normal(size=(len(rows), 5)) + 100 * (split == "train")[:, None]
    return Profiles(metadata, features.astype(np.float32), tuple("abcde"), {})


@pytest.fixture
def plan(tmp_path):
    evaluations = []
    for method, correction in (("dino", "none"), ("dino", "znorm"), ("cdcl", "none"), ("cdcl", "znorm")):
        for fold in (0, 1):
            path = tmp_path / f"{method}-{correction}-{fold}.parquet"
            if (method, correction, fold) != ("cdcl", "znorm", 0):
                write_profiles(profiles(seed=fold), path)
            common = {"method": method, "correction": correction, "seed": 0, "fold": fold}
            evaluations.append({**common, "profiles": str(path), "logs": [str(path) + ".log"]})
    record = {"status": "timeout", "reason": "too slow", "log": "l"}
    (tmp_path / "cdcl-znorm-0.parquet.log.failed.json").write_text(json.dumps(record))
    dataset = {"source": "simulated"}
    return {
        "figure": FIGURE,
        "spec": TABLE,
        "scale": "tiny",
        "dataset": dataset,
        "evaluations": evaluations,
        "folder": tmp_path,
    }


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, as matplotlib objects; they are still written."""
    figures, save = [], figures_embeddings.save

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures_embeddings, "save", keep)
    return figures


def dots(axes):
    return np.concatenate([c.get_offsets() for c in axes.collections if len(c.get_offsets())])


def test_panels_are_bands_of_corrections_by_columns_of_rows():
    assert shown_rows(PANEL, TABLE) == [
        Shown("DINO", "raw", "dino", "none"),
        Shown("ours", "raw", "cdcl", "none"),
        Shown("later", "raw", None, "none"),
        Shown("DINO", "Z-norm", "dino", "znorm"),
        Shown("ours", "Z-norm", "cdcl", "znorm"),
        Shown("later", "Z-norm", None, "znorm"),
    ]
    pairs = [("dino", "none"), ("cdcl", "none"), ("dino", "znorm"), ("cdcl", "znorm")]
    assert shown_profiles(FIGURE, TABLE) == pairs


def test_rows_keep_their_own_correction_and_may_be_any_method():
    panel = {"rows": ["CDCL", {"row": "CDCL", "correction": "none", "label": "raw"}, {"method": "imagenet"}]}
    found = [("CDCL", "cdcl", "tvn"), ("raw", "cdcl", "none"), ("imagenet", "imagenet", "none")]
    assert [(s.label, s.method, s.correction) for s in shown_rows(panel, TABLE)] == found
    assert [s.label for s in shown_rows({}, TABLE)] == ["DINO", "CDCL"]
    with pytest.raises(SpecError, match="two rows of panels are called 'DINO'"):
        shown_rows({"rows": ["DINO", {"method": "x", "label": "DINO"}]}, TABLE)


def test_only_the_first_fold_is_asked_for(plan):
    items = embedding_items(plan)
    assert items["dino", "none"].profiles.endswith("dino-none-0.parquet")
    assert items["cdcl", "znorm"] == (None, "timeout", "too slow")


def test_only_rows_of_the_split_are_drawn(plan, tmp_path, drawn):
    (path,) = draw(plan, None, tmp_path)
    grid = np.array(drawn[0].axes).reshape(4, 3)
    test = profiles().rows(profiles().metadata["Metadata_Split"].to_numpy() == "test")
    points = dots(grid[0, 0])
    assert len(points) == len(test) == 156
    centred = test.features.astype(float) - test.features.mean(axis=0, dtype=float)
    u, s, _ = np.linalg.svd(centred)
    expected = np.abs(u[:, :2] * s[:2])
    found = np.abs(points)
    np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], rtol=1e-2, atol=1e-3)
    names = [t.get_text() for t in grid[0, 2].get_legend().get_texts()]
    assert names == ["test-1", "test-2", "test-3", "test-4"]
    words = " ".join(" ".join(t.get_text() for t in drawn[0].texts).split())
    assert "156 of 156 profiles" in words
    assert "The test split of fold 0. Scale tiny, simulated data" in words
    assert path.name == "f.png"


def test_the_window_is_framed_above_and_enlarged_below(plan, tmp_path, drawn):
    draw(plan, None, tmp_path)
    grid = np.array(drawn[0].axes).reshape(4, 3)
    (frame,) = grid[0, 0].patches
    box = np.array([frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()])
    assert grid[1, 0].get_xlim() == pytest.approx((box[0], box[0] + box[2]))
    assert grid[1, 0].get_ylim() == pytest.approx((box[1], box[1] + box[3]))
    all_points = dots(grid[0, 0])
    inside = all_points[within(all_points, tuple(box))]
    assert len(dots(grid[1, 0])) == len(inside) > 0
    assert [a.get_title() for a in grid[0]] == ["DINO", "ours", "later"]
    heads = [a.get_ylabel().split("\n")[:2] for a in grid[:, 0]]
    assert heads == [["raw", "batch"], ["raw", "treatment"], ["Z-norm", "batch"], ["Z-norm", "treatment"]]
    assert "too slow" in grid[2, 1].texts[0].get_text()
    assert "no method for this" in grid[0, 2].texts[0].get_text()


def test_an_empty_split_is_said_not_drawn(plan, tmp_path, drawn):
    plan["figure"] = {**FIGURE, "split": "val"}
    draw(plan, None, tmp_path)
    assert "0 profiles in the" in drawn[0].axes[0].texts[0].get_text()


def test_the_same_profiles_give_the_same_bytes(plan, tmp_path):
    (path,) = draw(plan, None, tmp_path)
    first = sha256_of(path)
    os.remove(path)
    draw(plan, None, tmp_path)
    assert sha256_of(path) == first


def brute_force(points, labels):
    size, side = np.ptp(points, axis=0), np.ptp(points, axis=0) * PART
    best = (0, 0)
    for x in np.linspace(0, 1, 41):
        for y in np.linspace(0, 1, 41):
            corner = points.min(axis=0) + np.array([x, y]) * (size - side)
            here = labels[((points >= corner - 1e-9) & (points <= corner + side + 1e-9)).all(axis=1)]
            counts = pd.Series(here[here != ""]).value_counts()
            best = max(best, (int(counts[counts > 1].sum()), int(counts.sum())))
    return best


@pytest.mark.parametrize("seed", range(3))
def test_the_window_has_most_replicates(seed):
    rng = np.random.default_rng(seed)
    points, labels = rng.normal(size=(80, 2)), rng.choice(["", *"abcdefghijkl"], 80)
    window = zoom_window(points, labels)
    assert window[2:] == pytest.approx(tuple(np.ptp(points, axis=0) / 5))
    here = labels[within(points, window)]
    counts = pd.Series(here[here != ""]).value_counts()
    assert (int(counts[counts > 1].sum()), int(counts.sum())) == brute_force(points, labels)
    turned = rng.permutation(80)
    assert zoom_window(points[turned], labels[turned]) == window


def test_an_island_that_fits_lies_in_the_middle_of_its_window():
    rng = np.random.default_rng(0)
    island = rng.uniform(-0.1, 0.1, (40, 2)) + 5
    points = np.vstack([island, rng.uniform(0, 10, (15, 2)), [[0, 0], [10, 10]]])
    labels = np.array([f"t{i % 10}" for i in range(40)] + [f"x{i}" for i in range(17)])
    left, bottom, width, height = zoom_window(points, labels)
    np.testing.assert_allclose([left + width / 2, bottom + height / 2], [5, 5], atol=0.25)


def test_controls_neither_choose_the_window_nor_its_colours():
    points = np.vstack([np.full((30, 2), 9.0), np.zeros((4, 2)), [[10.0, 10.0]]])
    labels = np.array([""] * 30 + ["a", "a", "b", "b"] + ["c"])
    window = zoom_window(points, labels)
    assert within(points, window)[30:34].all()
    assert frequent(labels) == ["a", "b", "c"]
    assert frequent(np.array(["b", "b", "a", "c", "", "", ""]), most=2) == ["b", "a"]


def test_twenty_four_batches_have_marks_and_names_of_their_own():
    many = profiles(batches=12)
    scheme = Colours.of([many], "Metadata_Batch")
    assert not scheme.many
    assert len(set(scheme.marks.values())) == len(scheme.marks) == 24


@pytest.mark.parametrize(
    "name", ["cdcl_fig1", "cdcl_fig2", "cdcl_fig3", "cdcl_table1_folds", "cellpaintr_embeddings"]
)
def test_specs_fit_their_schema(root, name):
    check(load_yaml(root / f"specs/figures/{name}.yaml"), root / "workflow/schemas/figure.schema.yaml")


def test_fig2_shows_every_published_method_raw_and_normalised(root):
    fig = yaml.safe_load((root / "specs/figures/cdcl_fig2.yaml").read_text())
    published = pd.read_csv(root / "specs/published/cdcl-table1.csv")["row"].unique()
    shown = shown_rows(fig["panels"]["umap"], TABLE)
    assert [(s.label, s.correction) for s in shown] == [(r, c) for c in ("none", "znorm") for r in published]
