"""Intervals against closed forms and simulation; imports stay light."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from morphobench.errors import DataError, NotApplicable
from morphobench.metrics.accuracy import knn_accuracy
from morphobench.metrics.evaluation import Evaluation, bootstrap_mean, codes_of, jackknife_interval, mean_score
from morphobench.metrics.neighbours import compute_neighbours, features_digest

from .conftest import changed, evaluation_of


def test_bootstrap_is_close_to_the_normal_interval():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = bootstrap_mean(values, seed=1, n=4000)
    error = values.std() / 20
    # 4,000 resamples place a 2.5 % quantile within about 0.04 standard errors.
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_groups_are_resampled_whole():
    values = np.repeat(np.random.default_rng(0).normal(size=30), 25)
    groups = np.repeat(np.arange(30), 25)
    whole, single = bootstrap_mean(values, 0, groups), bootstrap_mean(values, 0)
    # Perfectly dependent wells carry no information beyond their group: 5 times the width.
    assert (whole[1] - whole[0]) / (single[1] - single[0]) == pytest.approx(5, rel=0.15)
    assert whole == pytest.approx(bootstrap_mean(values[::25], 0))


def test_seed_decides_and_one_unit_has_no_interval():
    values = np.arange(10.0)
    assert bootstrap_mean(values, 1) == bootstrap_mean(values, 1)
    assert bootstrap_mean(values, 1) != bootstrap_mean(values, 2)
    assert np.isnan(bootstrap_mean(np.ones(1), 0)).all()
    assert np.isnan(bootstrap_mean(np.arange(4.0), 0, np.zeros(4))).all()
    assert np.isnan(mean_score(np.ones(1), 0).low)


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(3).normal(size=200)
    low, high = jackknife_interval(lambda kept: values[kept].mean(), 200, seed=0, groups=200)
    error = values.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error))
    assert jackknife_interval(lambda kept: 0.99 + values[kept].mean(), 200, 0, bounds=(0, 1))[1] == 1


def test_codes_are_by_first_appearance():
    codes, names = codes_of(np.array(["b", "a", "b"], dtype=object))
    assert codes.tolist() == [0, 1, 0]
    assert names.tolist() == ["b", "a"]


def test_order_does_not_depend_on_the_rows(small):
    evaluation = evaluation_of(small)
    shuffled = small.rows(np.random.default_rng(0).permutation(len(small)))
    other = evaluation_of(shuffled)
    np.testing.assert_array_equal(small.features[evaluation.order()], shuffled.features[other.order()])


def test_once_computes_once(small):
    evaluation, calls = evaluation_of(small), []
    assert [evaluation.once("k", lambda: calls.append(1) or 7) for _ in range(2)] == [7, 7]
    assert len(calls) == 1


def test_restricted_to_a_split(small):
    shuffled = small.rows(np.random.default_rng(0).permutation(len(small)))
    split = shuffled.column("Metadata_Split")
    graph = compute_neighbours(shuffled.features, {"euclidean": 5, ("test", "cosine"): 4}, split=split)
    annotations = pd.DataFrame({"entity": ["a"], "set": ["b"], "collection": ["c"]})
    evaluation = Evaluation(shuffled, graph, annotations, 7, batch="Metadata_Plate", label="Metadata_Compound")
    part = evaluation.restricted("test")
    np.testing.assert_array_equal(part.profiles.features, shuffled.features[split == "test"])
    wells = shuffled.metadata[split == "test"].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.profiles.metadata, wells)
    assert (part.seed, part.batch, part.label) == (7, "Metadata_Plate", "Metadata_Compound")
    assert part.annotations is annotations
    # Neighbours are those within the split, numbered as its rows; none of the whole set are passed off as such.
    distance = 1 - cosine_similarity(part.profiles.features.astype(float))
    np.fill_diagonal(distance, np.inf)
    np.testing.assert_array_equal(part.graph("cosine", 3).indices, np.argsort(distance, axis=1)[:, :3])
    with pytest.raises(DataError, match="holds 0 euclidean neighbours"):
        part.graph("euclidean", 3)
    with pytest.raises(NotApplicable, match="24 wells are too few for 24 neighbours"):
        part.graph("cosine", 24)
    assert part.neighbours.digest == features_digest(part.profiles.features)
    assert Evaluation(shuffled, None, None, 0).restricted("test").neighbours is None


def test_a_split_shares_with_itself_alone(small):
    evaluation, calls = evaluation_of(small), []
    places = [evaluation, evaluation.restricted("train"), evaluation.restricted("test")]
    for number, place in enumerate([*places, evaluation.restricted("test")]):
        place.once("k", lambda number=number: calls.append(number))
    assert calls == [0, 1, 2]
    assert evaluation.restricted("test") is places[2]


def test_an_empty_or_unknown_split_and_the_other_wells_of_a_restricted_evaluation(small):
    evaluation = evaluation_of(small)
    with pytest.raises(NotApplicable, match="^the val split is empty$"):
        evaluation.restricted("val")
    with pytest.raises(ValueError, match="split is 'tset', expected one of train, val, test"):
        evaluation.restricted("tset")
    with pytest.raises(NotApplicable, match="^the train split is empty$"):
        knn_accuracy(evaluation.restricted("test"))


def test_missing_column_does_not_apply(small):
    with pytest.raises(NotApplicable, match="no column Metadata_Gene"):
        evaluation_of(changed(small)).column("Metadata_Gene")


def test_importing_is_light():
    code = (
        "import sys, morphobench.metrics.evaluate, morphobench.metrics.evaluation, morphobench.metrics.neighbours;"
        "print([m for m in ('sklearn', 'jax', 'umap', 'scipy', 'leidenalg', 'scanpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
