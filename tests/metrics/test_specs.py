"""What holds for every metric in specs/metrics: schema, range, invariances, order of controls, chance."""

import jsonschema
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import ortho_group

from morphobench.metrics.evaluate import evaluate, resolve
from morphobench.metrics.neighbours import compute_neighbours, required_neighbours

from . import ROOT
from .conftest import all_specs, changed, evaluation_of, gene_screen, screen

SPECS = {spec["id"]: spec for spec in all_specs()}
GENE = sorted(i for i, s in SPECS.items() if "needs_annotations" in s)
# Does not look at the features, only at what a model said of them.
ONLINE = "linear_online"
WELL = sorted(i for i, s in SPECS.items() if s["kind"] in ("batch", "biology") and i not in (*GENE, ONLINE))
BIOLOGY = [i for i in WELL if SPECS[i]["kind"] == "biology"]

# Derived from another metric, for the wells of one split: id to the id of the base.
DERIVED = {i: i.removesuffix(f"_{s['split']}") for i, s in SPECS.items() if "split" in s}

# Not invariant by definition: trees split on single features; medians, correlation across features and
# standardisation belong to the axes; an L2 penalty on unscaled features has a scale.
AXES = {
    *(i for i in WELL if "classifier" in i or i.startswith("held_out")),
    *("nsc_accuracy", "nscb_accuracy", "moa_1nn", "moa_1nn_treatment"),
    *("grit", "grit_train", "grit_test", "linear_accuracy", "linear_probe"),
    *GENE,
}
SCALE = {i for i in GENE if i.startswith("function")}
# The bisection of bandwidths stops at 1e-5; that may move a well between clusters.
LOOSE = {"leiden_nmi": 0.05, "leiden_ari": 0.08}


def values(metric, profiles, annotations=None):
    frame = evaluate(profiles, evaluation_of(profiles).neighbours, annotations, [SPECS[metric]], 0)
    assert set(frame["status"]) <= {"ok", "not_applicable"}, frame["reason"].tolist()
    return frame.set_index("metric")["value"].dropna()


def data_for(metric):
    """Wells where the metric has a value: NSCB needs compounds that lie in some batches only."""
    if metric in GENE:
        return gene_screen()
    profiles = screen(biology=0.8, seed=11)
    if metric == "nscb_accuracy":
        number = np.array([-1 if c == "DMSO" else int(c[1:]) for c in profiles.column("Metadata_Compound")])
        batch = np.array([int(b[1:]) for b in profiles.column("Metadata_Batch")])
        profiles = profiles.rows((number < 0) | (number % 2 == batch % 2))
    return profiles, None


@pytest.mark.parametrize("metric", list(SPECS))
def test_spec_obeys_the_schema_and_names_a_documented_function(metric):
    schema = yaml.safe_load((ROOT / "workflow/schemas/metric.schema.yaml").read_text())
    own = yaml.safe_load((ROOT / f"specs/metrics/{metric}.yaml").read_text())
    jsonschema.validate(own, schema)
    # A derived one obeys as a whole spec too, but for the key that is not one's own to set.
    jsonschema.validate({k: v for k, v in SPECS[metric].items() if k != "split"}, schema)
    assert resolve(SPECS[metric]["function"]).__doc__


@pytest.mark.parametrize(
    "metric", [i for i, s in SPECS.items() if "split" in s.get("neighbours", {}) and "split" not in s]
)
def test_function_and_graph_speak_of_the_same_neighbours(metric):
    ask, given = SPECS[metric]["neighbours"], SPECS[metric]["parameters"]
    assert {k: ask[k] for k in ("fraction", "split", "at_least")} == {k: given[k] for k in given if k != "alpha"}


def test_labels_are_those_of_the_published_tables():
    table = pd.read_csv(ROOT / "specs/published/cellpaintr-table1.csv")
    labels = {s["label"] for s in SPECS.values() if s["protocol"]["stands_for"] == "as published"}
    assert set(table["column"]) <= labels
    figures = pd.read_csv(ROOT / "specs/published/mcvae-figures.csv")
    assert set(figures[figures["table"] == "fig2B"]["column"]) <= labels


@pytest.mark.parametrize("metric", WELL + GENE)
def test_value_lies_in_its_range_and_its_interval_is_ordered(metric):
    profiles, annotations = data_for(metric)
    frame = evaluate(profiles, evaluation_of(profiles).neighbours, annotations, [SPECS[metric]], 0)
    frame = frame[frame["status"] == "ok"]
    assert len(frame)
    low, high = SPECS[metric]["range"]
    assert (frame["value"] >= (-np.inf if low is None else low)).all()
    assert (frame["value"] <= (np.inf if high is None else high)).all()
    assert (frame["ci_low"] <= frame["ci_high"]).all()


@pytest.mark.parametrize("metric", WELL + GENE)
def test_row_order_does_not_matter(metric):
    profiles, annotations = data_for(metric)
    shuffled = profiles.rows(np.random.default_rng(0).permutation(len(profiles)))
    expected, found = values(metric, profiles, annotations), values(metric, shuffled, annotations)
    # Sums in another order; Leiden's weights come in another order of rounding.
    np.testing.assert_allclose(found[expected.index], expected, atol=LOOSE.get(metric, 1e-6))


@pytest.mark.parametrize("metric", sorted({*WELL, *GENE} - SCALE))
def test_scale_does_not_matter(metric):
    profiles, annotations = data_for(metric)
    scaled = changed(profiles, profiles.features * 4)
    expected, found = values(metric, profiles, annotations), values(metric, scaled, annotations)
    # A power of two changes no digit.
    np.testing.assert_allclose(found, expected, atol=LOOSE.get(metric, 1e-6))


@pytest.mark.parametrize("metric", sorted({*WELL, *GENE} - AXES))
def test_rotation_does_not_matter(metric):
    profiles, annotations = data_for(metric)
    rotation = ortho_group.rvs(profiles.features.shape[1], random_state=0)
    rotated = changed(profiles, profiles.features.astype(np.float64) @ rotation)
    expected, found = values(metric, profiles, annotations), values(metric, rotated, annotations)
    # Features are float32 after the rotation: distances keep six digits, ranks of these wells do not change.
    np.testing.assert_allclose(found, expected, atol=LOOSE.get(metric, 1e-5))


@pytest.mark.parametrize("metric", WELL)
def test_names_of_labels_do_not_matter(metric):
    profiles, _ = data_for(metric)
    rng = np.random.default_rng(3)
    columns = {}
    for name in ("Perturbation", "Batch", "Compound", "MoA"):
        column = profiles.metadata[f"Metadata_{name}"]
        distinct = column.dropna().unique()
        renamed = dict(zip(distinct, [f"n{i:03d}" for i in rng.permutation(len(distinct))], strict=True))
        columns[f"Metadata_{name}"] = column.map(renamed).astype(object).where(column.notna(), None)
    expected, found = values(metric, profiles), values(metric, changed(profiles, **columns))
    # Equal votes of a classifier may fall to another class.
    loose = 0.1 if metric.startswith("linear_") else 1e-6
    np.testing.assert_allclose(found, expected, atol=loose)


@pytest.mark.parametrize("metric", [i for i in BIOLOGY if i != "nscb_accuracy"])
def test_perfect_is_not_below_planted_and_planted_not_below_shuffled(metric):
    # A standard deviation of controls needs some of them on each plate.
    controls = 4 if metric.startswith("moa_1nn") else 1
    profiles = screen(n_compounds=6, n_plates=18, controls=controls, biology=1.0, seed=2)
    label = np.unique(profiles.column("Metadata_Perturbation").astype(str), return_inverse=True)[1]
    # Compounds of one mechanism share a part of their code, and of the planted effect.
    mechanism = np.unique(profiles.column("Metadata_MoA").astype(str), return_inverse=True)[1]
    rng = np.random.default_rng(0)
    profiles = changed(profiles, profiles.features + 1.5 * rng.normal(size=(4, 12))[mechanism])
    perfect = np.hstack([np.eye(7)[label], 2 * np.eye(4)[mechanism]]) + 1e-3 * rng.normal(size=(len(label), 11))
    shuffled = profiles.features[rng.permutation(len(profiles))]
    best, planted, worst = (
        values(metric, p).iloc[0] for p in (changed(profiles, perfect), profiles, changed(profiles, shuffled))
    )
    assert best >= planted - 1e-9
    assert planted >= worst
    assert best > worst


@pytest.mark.parametrize(
    ("metric", "limit"),
    [
        # 8 classes + DMSO (1/3 of the wells); limits are chance plus three standard errors of these small samples.
        ("leiden_ari", 0.08),
        ("bio_classifier_nocontrol", 0.4),
        ("knn_accuracy", 0.6),
        ("linear_accuracy", 0.6),
        ("nsc_accuracy", 0.6),
        ("silhouette_label", 0.5),
        # 5 replicates against 4 controls or 7 others of the plate.
        ("map_control", 0.72),
        ("map_nonrep", 0.58),
        ("grit", 0.25),
        ("grit_test", 0.5),
        ("moa_1nn", 0.6),
    ],
)
def test_random_embedding_is_at_chance(metric, limit):
    found = [
        values(metric, changed(p, np.random.default_rng(s).normal(size=p.features.shape))).iloc[0]
        for s, p in ((s, screen(seed=s)) for s in range(3))
    ]
    assert np.mean(found) < limit


def test_every_metric_of_a_constant_embedding_is_collapsed():
    from morphobench.metrics.health import health

    flat = changed(screen(), np.full((72, 12), 2.5))
    frame = evaluate(flat, evaluation_of(flat).neighbours, None, all_specs(), 0, health=health(flat.features))
    assert set(frame["status"]) == {"collapsed"}
    assert len(frame) == len(SPECS)


@pytest.mark.parametrize("metric", ["map_control", "map_nonrep", "map_control_published", "nsc_accuracy"])
def test_ties_give_no_advantage_to_a_constant_embedding(metric):
    profiles = screen()
    flat = values(metric, changed(profiles, np.ones_like(profiles.features))).iloc[0]
    noise = [
        values(metric, changed(profiles, np.random.default_rng(s).normal(size=profiles.features.shape))).iloc[0]
        for s in range(6)
    ]
    # A query that matches itself first has a certain hit in noise; among ties it has none.
    assert flat < np.mean(noise) + 0.1


def three_splits():
    """Wells of all splits in no order; each split has all compounds, three plates and three batches."""
    profiles = screen(n_plates=9, biology=1.2, seed=11)
    batch = np.array([f"b{int(p[1:]) // 3}" for p in profiles.column("Metadata_Plate")])
    split = np.array([("train", "val", "test")[int(p[1:]) % 3] for p in profiles.column("Metadata_Plate")])
    profiles = changed(profiles, Metadata_Batch=batch, Metadata_Split=split)
    return profiles.rows(np.random.default_rng(5).permutation(len(profiles)))


def scored(metric, profiles):
    """Scores of a metric, after those of all its parts."""
    ids = [metric]
    for i in ids:
        ids += SPECS[i]["parameters"].get("parts", [])
    split = profiles.column("Metadata_Split")
    specs = [SPECS[i] for i in ids]
    graph = compute_neighbours(profiles.features, required_neighbours(specs, len(profiles), split), split=split)
    frame = evaluate(profiles, graph, None, specs, 3).set_index("metric").loc[metric]
    assert frame["status"] == "ok", frame["reason"]
    return frame.drop(["seconds", "peak_mb"])


def test_the_columns_of_table_1_are_derived_for_held_out_wells():
    table = pd.read_csv(ROOT / "specs/published/cellpaintr-table1.csv")
    here = {SPECS[base]["label"] for base in DERIVED.values()}
    assert set(table["column"]) <= here
    assert {"map_control", "map_nonrep"} <= set(DERIVED.values())


# Aggregates run all of their parts once more.
@pytest.mark.parametrize(
    "metric", [pytest.param(m, marks=[pytest.mark.slow] * m.startswith("aggregate")) for m in DERIVED]
)
def test_a_derived_metric_is_its_base_on_the_wells_of_the_split(metric):
    profiles = three_splits()
    test = profiles.column("Metadata_Split") == "test"
    found, whole = scored(metric, profiles), scored(DERIVED[metric], profiles)
    pd.testing.assert_series_equal(found, scored(DERIVED[metric], profiles.rows(test)), check_names=False)
    assert found["value"] != whole["value"]
    # What the other wells look like is nothing to it, and how many there are neither.
    features = profiles.features.copy()
    features[~test] = np.random.default_rng(0).permutation(features[~test])
    pd.testing.assert_series_equal(found, scored(metric, changed(profiles, features)))
    pd.testing.assert_series_equal(found, scored(metric, profiles.rows(test | (np.arange(len(test)) % 3 > 0))))
    assert scored(DERIVED[metric], changed(profiles, features))["value"] != whole["value"]
