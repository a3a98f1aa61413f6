"""Metric specs derived from others: what they become, what is wrong with them, and who works with them."""

import numpy as np
import pytest
import yaml

from morphobench.metrics.neighbours import required_neighbours
from morphobench.specs import load_house
from morphobench.specs.plan import Plan

from .test_house import sentence, spoil

TABLE = "specs/tables/cellpaintr_table1.yaml"


def metric(house, name, **spec):
    """Write a metric spec; return its path."""
    path = house / "specs" / "metrics" / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"id": name, **spec}, sort_keys=False))
    return path


def raw(root, name):
    return yaml.safe_load((root / "specs" / "metrics" / f"{name}.yaml").read_text())


def test_a_derived_metric_is_whole(root):
    metrics, base = load_house(root).metrics, raw(root, "graph_connectivity")
    assert raw(root, "graph_connectivity_test") == {
        "id": "graph_connectivity_test",
        "of": "graph_connectivity",
        "split": "test",
    }
    assert metrics["graph_connectivity_test"] == {
        **base,
        "id": "graph_connectivity_test",
        "label": "Graph Conn., held out",
        "summary": f"{base['summary']} Test split alone.",
        "neighbours": {"space": "euclidean", "k": 14, "split": "test"},
        "split": "test",
    }
    assert metrics["graph_connectivity"] == base
    assert "neighbours" not in metrics["map_control_test"]
    assert list(metrics) == sorted(metrics)


def test_all_derived_metrics_of_the_repository_are_whole(root):
    metrics = load_house(root).metrics
    derived = {name: own["of"] for name in metrics if "of" in (own := raw(root, name))}
    assert len(derived) == 16
    for name, base in derived.items():
        assert name == f"{base}_test"
        own = {"id", "label", "summary", "split", "neighbours", "parameters"}
        assert set(metrics[name]) == {*metrics[base], "split"}
        assert {k: v for k, v in metrics[name].items() if k not in own} == {
            k: v for k, v in metrics[base].items() if k not in own
        }


def test_parts_of_a_derived_aggregate_are_derived(root):
    metrics = load_house(root).metrics
    assert metrics["aggregate_overall_test"]["parameters"] == {
        "parts": ["aggregate_batch_test", "aggregate_bio_test"]
    }
    for kind in ("batch", "bio"):
        parts = metrics[f"aggregate_{kind}"]["parameters"]["parts"]
        assert metrics[f"aggregate_{kind}_test"]["parameters"]["parts"] == [f"{part}_test" for part in parts]


def test_what_a_derived_metric_states_itself(house):
    protocol = {"id": "mine", "stands_for": "common", "note": "why"}
    metric(house, "anew", of="grit", split="val", label="My label", summary="My summary.", protocol=protocol)
    metric(house, "other", of="grit", split="train")
    found = load_house(house).metrics
    assert (found["anew"]["label"], found["anew"]["summary"]) == ("My label", "My summary.")
    assert found["anew"]["protocol"] == protocol
    assert found["anew"]["reference"] == found["grit"]["reference"]
    assert found["other"]["label"] == "grit, training split"
    assert found["other"]["summary"].endswith(" Training split alone.")
    assert load_house(house).metrics["anew"]["split"] == "val"


@pytest.mark.parametrize(
    ("spec", "key", "says"),
    [
        (
            {"of": "graph_conectivity", "split": "test"},
            "of",
            "of names no metric: 'graph_conectivity'; did you mean 'graph_connectivity'?",
        ),
        (
            {"of": "leiden_nmi_test", "split": "test"},
            "of",
            "of is 'leiden_nmi_test', which is itself derived from 'leiden_nmi'; expected a whole spec",
        ),
        (
            {"of": "mine", "split": "test"},
            "of",
            "of is 'mine', which is itself derived from 'mine'; expected a whole spec",
        ),
        (
            {"of": "grit_test", "split": "train"},
            "of",
            "of is 'grit_test', whose parameters name the test split; "
            "expected a metric that takes the wells it is given",
        ),
        (
            {"of": "alone", "split": "train"},
            "of",
            "of is 'alone', whose neighbours name the val split; "
            "expected a metric that takes the wells it is given",
        ),
        (
            {"of": "aggregate_batch", "split": "train"},
            "of",
            "of is 'aggregate_batch', but its part 'graph_connectivity' is not derived for the train split; "
            "expected a metric 'graph_connectivity_train' with of: graph_connectivity and split: train",
        ),
        (
            {"of": "pair", "split": "test"},
            "of",
            "of is 'pair', but its part 'kbet' is not derived for the test split; "
            "expected a metric 'kbet_test' with of: kbet and split: test",
        ),
        ({"of": "grit", "split": "tset"}, "split", "split is 'tset', expected one of train, val, test"),
        ({"of": "grit"}, None, "key 'split' is missing"),
        ({"off": "grit", "split": "test"}, "off", "unknown key 'off'; did you mean 'of'?"),
        ({"of": "grit", "split": "test", "lable": "x"}, "lable", "unknown key 'lable'; did you mean 'label'?"),
        (
            {"of": "grit", "split": "test", "parameters": {}},
            "parameters",
            "unknown key 'parameters'; known keys are id, of, split, label, summary, protocol",
        ),
        (
            {"of": "grit", "split": "test", "protocol": {"id": "x", "note": "y"}},
            "protocol",
            "key 'stands_for' is missing in protocol",
        ),
    ],
)
def test_what_is_wrong_with_a_derived_metric(house, spec, key, says):
    pair = raw(house, "aggregate_overall")
    metric(house, "pair", **{**pair, "id": "pair", "parameters": {"parts": ["leiden_nmi", "kbet"]}})
    neighbours = {"space": "euclidean", "k": 3, "split": "val"}
    metric(house, "alone", **{**raw(house, "grit"), "id": "alone", "neighbours": neighbours})
    path = metric(house, "mine", **spec)
    keys = [t.partition(":")[0].strip("'") for t in path.read_text().splitlines()]
    line = keys.index(key) + 1 if key else 1
    text = sentence(house)
    assert text.startswith(f"{path}, line {line}: {says}"), text


def test_a_whole_spec_is_still_refused_unless_complete(house):
    path = house / "specs" / "metrics" / "grit.yaml"
    text = path.read_text()
    for key in ("label", "function", "parameters", "direction", "range", "unit", "kind", "protocol", "reference"):
        path.write_text("".join(t for t in text.splitlines(keepends=True) if not t.startswith(f"{key}:")))
        assert sentence(house) == f"{path}, line 1: key {key!r} is missing"
    path.write_text(text)
    line = spoil(path, "direction:", "dirction:")
    assert sentence(house) == f"{path}, line {line}: unknown key 'dirction'; did you mean 'direction'?"
    path.write_text(f"{text}split: test\n")
    assert ": unknown key 'split'; known keys are id, label, summary, function" in sentence(house)
    path.write_text("- grit\n")
    assert sentence(house) == f"{path}, line 1: the document is ['grit'], expected a mapping"


def test_functions_and_parameters_of_metrics_are_checked_where_they_stand(house):
    path = house / "specs" / "metrics" / "graph_connectivity.yaml"
    line = spoil(path, "parameters: {k: 15}", "parameters: {kk: 15}")
    assert sentence(house) == (
        f"{path}, line {line}: morphobench.metrics.graph:graph_connectivity takes no parameter 'kk'; "
        f"did you mean 'k'?"
    )


def test_a_table_of_derived_metrics_runs_them_with_their_parts_and_neighbours(house):
    spoil(house / TABLE, "metric: aggregate_overall", "metric: aggregate_overall_test")
    plan = Plan(load_house(house))
    specs = {m["id"]: m for m in plan.metrics_for("cpg0016", "cellprofiler", "none")}
    parts = {"aggregate_batch_test", "aggregate_bio_test", "leiden_ari_test", "bio_classifier_control_test"}
    assert parts <= set(specs)
    asks = plan.neighbour_needs("cpg0016", "cellprofiler", "none")
    assert {"leiden_nmi_test", "leiden_nmi"} <= {m["id"] for m in asks}
    split = np.repeat(["train", "test"], [30, 20])
    needed = required_neighbours(asks, len(split), split)
    assert needed["test", "euclidean"] == 14
    assert needed["euclidean"] >= 14
    assert "aggregate_overall_test" in plan.table_plan("cellpaintr_table1", "results")["metrics"]


def test_units_of_published_numbers_are_checked_for_derived_metrics_too(house):
    spoil(house / "specs" / "metrics" / "leiden_nmi.yaml", "unit: score", "unit: seconds")
    for table in (house / "specs" / "tables").glob("cellpaintr_*.yaml"):
        text = table.read_text()
        if "published: null" not in text:
            table.write_text(text.replace("metric: leiden_nmi}", "metric: leiden_nmi_test}"))
    assert "but metric 'leiden_nmi_test' is in seconds" in sentence(house)
