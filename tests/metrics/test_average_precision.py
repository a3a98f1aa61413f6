"""Average precision against permutations of ties, a plain loop, scikit-learn and copairs."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from morphobench.errors import NotApplicable
from morphobench.metrics.average_precision import (
    map_replicates,
    map_self_matching,
    ranked_average_precision,
    replicate_average_precision,
    self_matching_average_precision,
)

from .conftest import changed, evaluation_of, screen


def precision_of(order) -> float:
    hits = np.flatnonzero(order)
    return float(np.mean([(i + 1) / (rank + 1) for i, rank in enumerate(hits)]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=7))
def test_equals_the_mean_over_all_orders_of_ties(items):
    values, hits = np.array([v for v, _ in items]) / 4, np.array([h for _, h in items])
    found = ranked_average_precision(values[None], hits[None])[0]
    if not hits.any():
        assert np.isnan(found)
        return
    orders = [
        hits[list(p)]
        for p in itertools.permutations(range(len(items)))
        if all(values[a] >= values[b] for a, b in itertools.pairwise(p))
    ]
    # Exact up to float64 summation.
    assert found == pytest.approx(np.mean([precision_of(o) for o in orders]), abs=1e-12)


def test_equals_scikit_learn_without_ties():
    rng = np.random.default_rng(1)
    similarity, positive = rng.uniform(-1, 1, (50, 40)), rng.random((50, 40)) < 0.2
    positive[:, 0] = True
    found = ranked_average_precision(similarity, positive)
    expected = [average_precision_score(p, s) for p, s in zip(positive, similarity, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_non_candidates_are_not_ranked():
    similarity = np.array([[0.9, 0.8, 0.7, 0.6]])
    positive = np.array([[False, True, False, True]])
    candidate = np.array([[False, True, True, True]])
    assert ranked_average_precision(similarity, positive, candidate)[0] == pytest.approx((1 + 2 / 3) / 2)


def test_constant_profiles_score_at_chance_not_at_one():
    codes = np.repeat(np.arange(10), 4)
    every = np.ones(40, dtype=bool)
    scores = replicate_average_precision(np.ones((40, 3)), codes, np.zeros(40, int), every, every)
    # Three positives among 39 in random order: the mean over simulated orders, to three standard errors.
    rng = np.random.default_rng(0)
    orders = np.array([precision_of(rng.permutation(np.arange(39) < 3)) for _ in range(4000)])
    assert scores == pytest.approx(orders.mean(), abs=3 * orders.std() / np.sqrt(4000))
    assert np.ptp(scores) < 1e-12


def loop_self_matching(profiles, controls):
    unit = profiles.features.astype(float)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    label = profiles.column("Metadata_Perturbation")
    treated = profiles.column("Metadata_Control") != "negcon"
    pool = np.flatnonzero(treated | controls)
    scores = []
    for q in np.flatnonzero(treated):
        order = pool[np.argsort(-(unit[pool] @ unit[q]), kind="stable")]
        scores.append(precision_of(label[order] == label[q]))
    return np.mean(scores)


@pytest.mark.parametrize("controls", [True, False])
@pytest.mark.parametrize("memory_mb", [256, 0.001])
def test_self_matching_equals_a_plain_loop_at_any_block_size(small, controls, memory_mb):
    score = map_self_matching(evaluation_of(small), controls, memory_mb)
    assert score.value == pytest.approx(loop_self_matching(small, controls), abs=1e-12)
    assert score.low < score.value < score.high
    assert score.n == 48


def copairs_map(profiles, negatives):
    """Mean over compounds of copairs' average precision, controls given ids of their own."""
    from copairs.map import average_precision

    frame = profiles.metadata.copy()
    control = (frame["Metadata_Control"] == "negcon").to_numpy()
    frame["unit"] = np.where(control, [f"DMSO {i}" for i in range(len(frame))], frame["Metadata_Perturbation"])
    features = profiles.features
    if negatives == "treatment":
        frame, features = frame[~control].reset_index(drop=True), features[~control]
        rule = (["Metadata_Plate"], ["unit"])
    else:
        rule = (["Metadata_Plate"], ["Metadata_Control"])
    result = average_precision(frame, features, ["unit"], [], *rule, progress_bar=False)
    # Where a well has no negative, copairs gives 1; here it is not counted.
    counted = (result["n_pos_pairs"] > 0) & (result["n_total_pairs"] > result["n_pos_pairs"])
    result = result[counted & (result["Metadata_Control"] == "trt")]
    return result.groupby("unit")["average_precision"].mean().mean()


@pytest.mark.parametrize("negatives", ["control", "treatment"])
@pytest.mark.parametrize("memory_mb", [256, 0.001])
def test_replicates_equal_copairs(negatives, memory_mb):
    profiles = screen(biology=0.6, seed=3)
    score = map_replicates(evaluation_of(profiles), negatives, memory_mb)
    # copairs computes float32 similarities: no order differs here, the rest is float32 summation.
    assert score.value == pytest.approx(copairs_map(profiles, negatives), abs=1e-6)


def test_wells_without_replicate_or_negative_are_counted(small):
    control = small.column("Metadata_Control").copy()
    alone = (small.column("Metadata_Plate") == "p0") & (control == "negcon")
    score = map_replicates(evaluation_of(small.rows(~alone)), "control")
    assert score.n == 8
    assert score.reason.startswith("8 of 48 treated wells left out")


def test_positive_controls_take_no_part_where_there_are_treatments(small):
    control = small.column("Metadata_Control").copy()
    poscon = small.column("Metadata_Perturbation") == "c0@1"
    control[poscon] = "poscon"
    changed_ = changed(small, Metadata_Control=control)
    for negatives in ("control", "treatment"):
        with_them = map_replicates(evaluation_of(changed_), negatives)
        without = map_replicates(evaluation_of(small.rows(~poscon)), negatives)
        assert with_them.value == pytest.approx(without.value, abs=1e-12)
        assert with_them.n == 7


def test_one_replicate_each_does_not_apply(small):
    one = small.rows(small.column("Metadata_Plate") == "p0")
    with pytest.raises(NotApplicable, match="no perturbation has a second well"):
        map_replicates(evaluation_of(one), "control")
    with pytest.raises(NotApplicable, match="no perturbation has a second well"):
        map_self_matching(evaluation_of(one), controls=True)


def test_memory_stays_bounded_by_the_argument():
    import tracemalloc

    rng = np.random.default_rng(0)
    features, codes = rng.normal(size=(3000, 8)), rng.integers(0, 300, 3000)
    every = np.ones(3000, dtype=bool)
    tracemalloc.start()
    self_matching_average_precision(features, codes, every, every, memory_mb=8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 8 MiB of blocks beside unit rows and their copies; all pairs at once would take 72 MB for similarities alone.
    assert peak < 16 * 2**20
