import numpy as np
import pandas as pd
import pytest
import yaml

from morphobench.profiles import Profiles, write_profiles
from morphobench.report.cells import expand_cells, metric_ids
from morphobench.report.figures import draw, embedding_items, montage_choice
from morphobench.report.figures_curves import curve
from morphobench.report.figures_embeddings import Colours, project, sample
from morphobench.report.table import build_table


def profiles(n=40, groups=4):
    rng = np.random.default_rng(0)
    group = np.arange(n) % groups
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": [f"Week{i % 12}" for i in range(n)],
            "Metadata_Plate": "p",
            "Metadata_Well": [f"w{i}" for i in range(n)],
            "Metadata_Perturbation": [f"c{g}" for g in group],
            "Metadata_Control": np.where(group == 0, "negcon", "trt"),
            "Metadata_Split": "test",
        }
    )
    features = rng.normal(size=(n, 6)).astype(np.float32) + 5 * group[:, None].astype(np.float32)
    return Profiles(metadata, features, tuple("abcdef"), {})


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def figure(root, name):
    return yaml.safe_load((root / f"specs/figures/{name}.yaml").read_text())


def table_of(root, name):
    spec = yaml.safe_load((root / f"specs/tables/{name}.yaml").read_text())
    metrics = {m: {"direction": "higher", "unit": "score"} for m in metric_ids(spec)}
    return spec, build_table(spec, expand_cells(spec), {}, root / "specs/published", metrics)


@pytest.mark.parametrize("name", ["mcvae_fig2b", "cellpaintr_table1_overview", "bbbc021_corrections_overview"])
def test_figures_of_an_empty_table_still_come_out(root, tmp_path, name):
    fig = figure(root, name)
    spec, table = table_of(root, fig["table"])
    dataset = {"source": "simulated"}
    plan = {
        "figure": fig,
        "spec": spec,
        "scale": "tiny",
        "dataset": dataset,
        "evaluations": [],
        "folder": tmp_path,
    }
    (path,) = draw(plan, table, root / "specs/published")
    assert path == tmp_path / f"{name}.png"
    assert is_png(path)


def embedding_plan(root, folder, projections):
    fig = figure(root, "bbbc021_corrections_embeddings")
    fig["panels"] = {k: v for k, v in fig["panels"].items() if k in projections}
    fig["outputs"] = {k: v for k, v in fig["outputs"].items() if k in projections}
    spec = yaml.safe_load((root / "specs/tables/bbbc021_corrections.yaml").read_text())
    write_profiles(profiles(), folder / "p.parquet")
    failed = folder / "x.log.failed.json"
    failed.write_text('{"status": "timeout", "reason": "took too long", "log": "l"}')
    common = {"method": "cellprofiler", "seed": 1, "fold": 0, "outputs": []}
    evaluations = [
        {**common, "correction": "none", "profiles": str(folder / "p.parquet"), "logs": []},
        {**common, "correction": "tvn", "profiles": str(folder / "q.parquet"), "logs": [str(folder / "x.log")]},
    ]
    dataset = {"source": "real"}
    return {
        "figure": fig,
        "spec": spec,
        "scale": "tiny",
        "dataset": dataset,
        "evaluations": evaluations,
        "folder": folder,
    }


def test_embeddings_of_a_partial_grid(root, tmp_path):
    plan = embedding_plan(root, tmp_path, ("pca", "tsne"))
    items = embedding_items(plan)
    assert items["cellprofiler", "none"].status == "ok"
    assert items["cellprofiler", "tvn"] == (None, "timeout", "took too long")
    assert items["cellprofiler", "combat"].status == "not_run"
    assert "perfect" not in {method for method, _ in items}
    paths = draw(plan, None, root / "specs/published")
    assert [p.name for p in paths] == ["bbbc021_corrections_pca.png", "bbbc021_corrections_tsne.png"]
    assert all(map(is_png, paths))


@pytest.mark.slow
def test_umap_is_drawn_and_repeats(root, tmp_path):
    features = profiles().features
    first, second = (project(features, ["umap"], 42)["umap"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    (path,) = draw(embedding_plan(root, tmp_path, ("umap",)), None, root / "specs/published")
    assert is_png(path)


def test_pca_is_the_singular_value_decomposition():
    features = profiles().features
    centred = features - features.mean(axis=0)
    u, s, _ = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
    found = project(features, ["pca"], 42)["pca"]
    np.testing.assert_allclose(np.abs(found), np.abs(u[:, :2] * s[:2]), rtol=1e-3, atol=1e-3)


def test_sample_is_seeded_and_bounded():
    many = profiles(60)
    chosen = sample(many, 3, most=20)
    assert len(chosen) == 20
    pd.testing.assert_frame_equal(chosen.metadata, sample(many, 3, most=20).metadata)
    assert len(sample(many, 3)) == 60


def test_categories_get_distinct_marks_in_natural_order():
    scheme = Colours.of([profiles(60)], "Metadata_Batch")
    assert list(scheme.marks) == [f"Week{i}" for i in range(12)]
    assert len(set(scheme.marks.values())) == 12
    treated = Colours.of([profiles(60, groups=26)], "Metadata_Perturbation")
    assert treated.many
    assert "c0" not in treated.marks


def test_curve_takes_only_ok_points():
    rows = [
        {
            "row": "r",
            "setting": f"cutoff percentile {p}",
            "column": c,
            "measured_mean": v,
            "ci_low": v,
            "ci_high": v,
        }
        for p in (80, 81)
        for c, v in (("recall", p / 100), ("precision", 0.1))
    ]
    table = pd.DataFrame(rows).assign(status=["ok", "ok", "ok", "failed"])
    points = curve(table, "r")["measured_mean"]
    assert points["recall"].tolist() == [0.8]
    assert curve(table, "absent").empty


def test_a_montage_takes_treatments_that_all_its_batches_have():
    rows = [(b, t) for b in range(1, 13) for t in ("EMPTY", "s1", "s2", "s10", "s20") if (b, t) != (12, "s20")]
    samples = pd.DataFrame(rows, columns=["Metadata_Batch", "Metadata_Perturbation"])
    samples["Metadata_Batch"] = [f"HUVEC-{b}" for b in samples["Metadata_Batch"]]
    samples["Metadata_Control"] = np.where(samples["Metadata_Perturbation"] == "EMPTY", "negcon", "trt")
    images = {"montage": {"label": "Metadata_Perturbation"}}
    found = montage_choice(samples, images, {"treatments": 2, "rows": 3})
    assert found == {"treatments": ["s1", "s10"], "batches": ["HUVEC-1", "HUVEC-7", "HUVEC-12"]}
    assert montage_choice(samples.sample(frac=1, random_state=0), images, {"treatments": 2, "rows": 3}) == found
    named = {"treatments": ["s20", "EMPTY"], "rows": ["HUVEC-2"]}
    assert montage_choice(samples, images, named) == {"treatments": ["s20", "EMPTY"], "batches": ["HUVEC-2"]}
