"""Running metrics in isolation: statuses, expansion, order, shared seed."""

import json

import numpy as np
import pandas as pd
import pytest

from morphobench.errors import NotApplicable
from morphobench.metrics import graph
from morphobench.metrics.evaluate import COLUMNS, PeakMemory, evaluate
from morphobench.metrics.evaluation import Score
from morphobench.metrics.health import health
from morphobench.metrics.neighbours import compute_neighbours, required_neighbours

from .conftest import all_specs, changed, gene_screen, screen

HERE = "tests.metrics.test_evaluate"


def good(evaluation, value=0.5):
    return Score(value, 0.4, 0.6, 7)


def several(evaluation):
    return {"a": good(evaluation), "b": Score(np.nan, np.nan, np.nan, 0, "not_applicable", "because")}


def broken(evaluation):
    raise ZeroDivisionError("one\nover zero")


def greedy(evaluation):
    raise MemoryError


def pointless(evaluation):
    raise NotApplicable("no meaning here")


def undefined(evaluation):
    return Score(np.nan, np.nan, np.nan, 3)


def resampled(evaluation):
    return {
        "a": Score(0.5, 0.4, 0.6, 7, draws=(0.4, np.nan, np.float32(0.5), np.inf)),
        "b": Score(np.nan, np.nan, np.nan, 7, "not_applicable", "because", draws=(0.1, 0.2)),
        "c": good(evaluation),
        "d": Score(np.nan, 0.4, 0.6, 7, draws=(0.1, 0.2)),
    }


def spec(function, kind="biology", **more):
    return {
        "id": more.pop("id", function),
        "function": f"{HERE}:{function}",
        "parameters": {},
        "kind": kind,
        **more,
    }


def run(specs, profiles=None, annotations=None, **more):
    profiles = profiles or screen()
    split = profiles.column("Metadata_Split")
    required = required_neighbours(specs, len(profiles), split)
    neighbours = compute_neighbours(profiles.features, required, split=split)
    return evaluate(profiles, neighbours, annotations, specs, 0, more.pop("wildcards", {}), **more)


def aggregate(name, *parts):
    where = "morphobench.metrics.aggregate:mean_of"
    return {"id": name, "function": where, "parameters": {"parts": list(parts)}, "kind": "aggregate"}


@pytest.fixture(autouse=True)
def importable(monkeypatch, root):
    monkeypatch.syspath_prepend(str(root))


def test_every_failure_becomes_a_row_with_status_and_reason():
    names = ["broken", "good", "greedy", "pointless", "undefined", "absent"]
    frame = run([spec(n) for n in names], wildcards={"dataset": "d", "fold": 1})
    assert tuple(frame.columns) == ("dataset", "fold", *COLUMNS)
    assert frame["metric"].tolist() == names
    assert frame["status"].tolist() == ["failed", "ok", "out_of_memory", "not_applicable", "failed", "failed"]
    assert frame["value"].isna().tolist() == [True, False, True, True, True, True]
    assert frame["reason"][0] == "ZeroDivisionError: one over zero"
    assert frame["reason"][3] == "no meaning here"
    assert frame["reason"][2] == "the metric ran out of memory"
    assert (frame["seconds"] >= 0).all()
    assert (frame["peak_mb"] > 1).all()


def test_several_values_expand_and_a_missing_need_gives_one_plain_row():
    specs = [
        spec("several"),
        spec("good", needs=["Metadata_Gene"]),
        spec("several", id="x", needs_annotations="kegg"),
    ]
    frame = run(specs)
    assert frame["metric"].tolist() == ["several@a", "several@b", "good", "x"]
    assert frame["status"].tolist() == ["ok", "not_applicable", "not_applicable", "not_applicable"]
    assert frame["reason"].tolist()[1:] == [
        "because",
        "the profiles have no column Metadata_Gene",
        "the data set has no annotations of collection kegg",
    ]


def test_resampled_values_of_what_is_ok_are_kept_beside_the_scores():
    frame = run([spec("resampled"), spec("good"), spec("broken")])
    assert frame["status"].tolist() == ["ok", "not_applicable", "ok", "failed", "ok", "failed"]
    # By the names of the rows; undefined resamples are None, which JSON has and NaN is not.
    assert frame.attrs["draws"] == {"resampled@a": [0.4, None, 0.5, None]}
    assert json.loads(json.dumps(frame.attrs["draws"], allow_nan=False)) == frame.attrs["draws"]
    collapsed = run([spec("resampled")], health={"status": "collapsed", "reason": "flat"})
    assert collapsed.attrs["draws"] == {}


def test_metrics_over_genes_keep_as_many_draws_for_every_embedding():
    specs = [s for s in all_specs() if s["id"].startswith(("corum_", "function_"))]
    profiles, annotations = gene_screen()
    other = changed(profiles, np.random.default_rng(1).normal(size=profiles.features.shape))
    frames = [run(specs, p, annotations) for p in (profiles, other)]
    lengths = [{name: len(draws) for name, draws in f.attrs["draws"].items()} for f in frames]
    # What one embedding has no value for (a recall that it does not reach) is the only difference.
    ok = [set(f["metric"][f["status"] == "ok"]) for f in frames]
    assert [set(found) for found in lengths] == ok
    shared = ok[0] & ok[1]
    assert {name.split("@")[0] for name in shared} >= {s["id"] for s in specs} - {"corum_precision_at"}
    assert {name: lengths[0][name] for name in shared} == {name: lengths[1][name] for name in shared}
    # Which genes or splits are drawn does not follow from the features: their order changes nothing.
    turned = run(specs, changed(profiles, profiles.features[:, ::-1].copy()), annotations).attrs["draws"]
    for name, draws in frames[0].attrs["draws"].items():
        np.testing.assert_allclose(np.array(turned[name], float), np.array(draws, float), atol=1e-6)


def test_aggregates_wait_for_their_parts_and_name_the_missing_one():
    specs = [
        aggregate("whole", "half", "good"),
        aggregate("half", "good", "several@a"),
        aggregate("sad", "good", "pointless"),
        aggregate("lost", "nowhere"),
        aggregate("ring", "ring"),
        spec("good", parameters={"value": 0.9}),
        spec("several"),
        spec("pointless"),
    ]
    frame = run(specs).set_index("metric")
    assert frame.index[:2].tolist() == ["whole", "half"]
    assert frame.loc["half", "value"] == pytest.approx(0.7)
    assert frame.loc["whole", "value"] == pytest.approx(0.8)
    assert frame.loc["whole", ["ci_low", "ci_high"]].tolist() == pytest.approx([0.4, 0.6])
    assert frame.loc["sad", "status"] == "not_applicable"
    assert frame.loc["sad", "reason"] == "pointless is not_applicable: no meaning here"
    assert frame.loc["lost", "reason"] == "nowhere is not among the metrics evaluated"
    assert frame.loc["ring", "status"] == "not_applicable"


def counted(evaluation):
    return Score(float(len(evaluation.profiles)), 0, 0, len(evaluation.profiles))


def genes_of(evaluation):
    return Score(float(len(evaluation.annotations)), 0, 0, 1)


def test_a_metric_with_a_split_is_given_its_wells_alone():
    profiles = screen()
    gene = np.where(profiles.column("Metadata_Split") == "test", "g", None)
    specs = [
        spec("counted"),
        *(spec("counted", id=f"counted_{split}", split=split) for split in ("train", "val", "test")),
        spec("genes_of", split="test", needs=["Metadata_Gene"], needs_annotations="corum"),
        {**aggregate("whole", "counted_train", "counted_test"), "split": "test"},
        {**aggregate("none", "counted_val"), "split": "test"},
    ]
    annotations = gene_screen()[1]
    frame = run(specs, changed(profiles, Metadata_Gene=gene), annotations).set_index("metric")
    assert frame["status"].tolist() == ["ok", "ok", "not_applicable", "ok", "ok", "ok", "not_applicable"]
    assert frame["value"].dropna().tolist() == [72, 48, 24, len(annotations), 36]
    assert frame["reason"]["counted_val"] == "the val split is empty"
    assert frame["reason"]["none"] == "counted_val is not_applicable: the val split is empty"


def test_leiden_clusters_once_for_each_split(monkeypatch):
    sizes = []
    clustering = graph.best_clustering

    def best_clustering(weights, *more):
        sizes.append(weights.shape[0])
        return clustering(weights, *more)

    monkeypatch.setattr(graph, "best_clustering", best_clustering)
    frame = run([s for s in all_specs() if s["id"].startswith("leiden")])
    assert frame["metric"].tolist() == ["leiden_ari", "leiden_ari_test", "leiden_nmi", "leiden_nmi_test"]
    assert frame["n"].tolist() == [72, 24, 72, 24]
    assert sizes == [72, 24]


def test_collapsed_embedding_runs_no_metric():
    profiles = screen()
    flat = changed(profiles, np.ones_like(profiles.features))
    frame = run([spec("broken"), spec("good")], flat, health=health(flat.features))
    assert frame["status"].tolist() == ["collapsed", "collapsed"]
    assert frame["reason"][0] == "all 72 rows of the embedding are equal"
    assert frame["value"].isna().all()


def test_regularisation_is_read_from_the_provenance():
    specs = [s for s in all_specs() if s["id"] == "regularisation"]
    profiles = screen()
    assert run(specs, profiles)["status"][0] == "not_applicable"
    fitted = profiles.with_features(profiles.features, fitted={"regularisation": 0.01})
    assert run(specs, fitted)["value"][0] == 0.01


def test_two_runs_are_equal_but_for_time_and_memory():
    specs = all_specs()
    first, second = (run(specs).drop(columns=["seconds", "peak_mb"]) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_all_metrics_on_a_screen_and_on_genes_are_ok_or_do_not_apply():
    specs = all_specs()
    wells, genes = run(specs), run(specs, *gene_screen())
    assert set(wells["status"]) <= {"ok", "not_applicable"}
    assert set(genes["status"]) <= {"ok", "not_applicable"}
    ok = set(wells["metric"][wells["status"] == "ok"]) | {
        m.split("@")[0] for m in genes["metric"][genes["status"] == "ok"]
    }
    # One batch-pair per compound, 72 wells and no model: the fitted fact, NSCB and the online probe have no value.
    assert {s["id"] for s in specs} - ok == {"regularisation", "nscb_accuracy", "linear_online"}


@pytest.mark.parametrize(
    "columns",
    [
        {"Metadata_Batch": "one"},
        {"Metadata_Perturbation": "one"},
        {"Metadata_Control": "trt"},
        {"Metadata_Control": "negcon"},
        {"Metadata_Control": "poscon"},
        {"Metadata_Split": "test"},
        {"Metadata_Plate": "one", "Metadata_Well": [f"w{i}" for i in range(72)]},
        {"Metadata_Perturbation": [f"x{i}" for i in range(72)]},
        {"Metadata_Batch": ["alone", *["rest"] * 71]},
        {"Metadata_Batch": [f"b{i}" for i in range(72)]},
        {"Metadata_MoA": None},
        {"Metadata_MoA": "m"},
    ],
    ids=lambda c: "-".join(f"{k.removeprefix('Metadata_')}" for k in c),
)
def test_degenerate_metadata_give_values_or_reasons_never_failures(columns):
    frame = run(all_specs(), changed(screen(), **columns))
    bad = frame[~frame["status"].isin(["ok", "not_applicable"])]
    assert bad.empty, bad[["metric", "status", "reason"]].to_string()
    assert (frame["reason"][frame["status"] == "not_applicable"] != "").all()


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16])
def test_tiny_profiles_give_values_or_reasons(n):
    frame = run(all_specs(), screen().rows(np.arange(n)))
    bad = frame[~frame["status"].isin(["ok", "not_applicable"])]
    assert bad.empty, bad[["metric", "status", "reason"]].to_string()


def test_peak_memory_is_of_the_block_where_it_can_be_reset():
    with PeakMemory() as before:
        pass
    with PeakMemory() as during:
        block = np.ones(40 * 2**17)
    assert during.mb >= before.mb
    assert block.nbytes == 40 * 2**20
