"""Random forest scores against scikit-learn, and the cases that do not apply."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from morphobench.errors import NotApplicable
from morphobench.metrics import classifiers
from morphobench.metrics.classifiers import (
    batch_classifier,
    bio_classifier,
    f1_by_class,
    held_out_classifier,
    weighted_f1,
)
from morphobench.metrics.evaluation import Evaluation
from morphobench.profiles import Profiles

from .conftest import changed, evaluation_of, screen


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=20))
def test_weighted_f1_equals_scikit_learn(items):
    truth, predicted, weight = (np.array(x) for x in zip(*items, strict=True))
    weight[0] += 1
    expected = f1_score(truth, predicted, average="weighted", sample_weight=weight, zero_division=0)
    assert weighted_f1(truth, predicted, weight[None])[0] == pytest.approx(expected, abs=1e-12)


def test_f1_of_each_class_equals_scikit_learn():
    truth, predicted = np.array([0, 0, 1, 1, 3]), np.array([0, 1, 1, 0, 0])
    weights = np.array([[1, 1, 1, 1, 1], [0, 2, 3, 1, 1], [1, 0, 0, 0, 0]])
    f1, support = f1_by_class(truth, predicted, weights)
    for row, weight in enumerate(weights[:2]):
        expected = f1_score(truth, predicted, labels=[0, 1, 3], average=None, sample_weight=weight)
        np.testing.assert_allclose(f1[row, [0, 1, 3]], expected, atol=1e-12)
    # Neither in truth nor predicted: undefined, not 0.
    assert np.isnan(f1[:, 2]).all()
    assert np.isnan(f1[2]).tolist() == [False, True, True, True]
    np.testing.assert_array_equal(support, [[2, 2, 0, 1], [2, 4, 0, 1], [1, 0, 0, 0]])


@pytest.mark.parametrize("controls", [True, False])
def test_equals_the_published_recipe(small, controls):
    # The screen lies in order of plate and well already.
    kept = small if controls else small.rows(small.column("Metadata_Control") != "negcon")
    for metric, column in ((batch_classifier, "Metadata_Batch"), (bio_classifier, "Metadata_Perturbation")):
        label = kept.column(column).astype(str)
        split = train_test_split(kept.features, label, test_size=0.2, random_state=42)
        forest = RandomForestClassifier(n_estimators=100, random_state=42).fit(split[0], split[2])
        f1 = f1_score(split[3], forest.predict(split[1]), average="weighted", zero_division=0)
        score = metric(evaluation_of(small), controls)
        expected = 1 - f1 if metric is batch_classifier else f1
        # Votes equal in two classes may fall to either: class numbers differ from the sorted names.
        assert score.value == pytest.approx(expected, abs=0.08)
        assert score.low <= score.value <= score.high
        assert score.n == len(split[3])


def test_batch_effect_lowers_the_batch_score():
    strong, none = (
        batch_classifier(evaluation_of(screen(n_plates=9, batch=b, biology=0.2)), True).value for b in (8, 0)
    )
    assert strong < 0.1 < 0.4 < none


def test_what_does_not_apply(small):
    with pytest.raises(NotApplicable, match="one batch b"):
        batch_classifier(evaluation_of(changed(small, Metadata_Batch="b")), True)
    one = small.rows((small.column("Metadata_Plate") == "p0") & (small.column("Metadata_Control") == "trt"))
    with pytest.raises(NotApplicable, match="no perturbation has more than one well"):
        bio_classifier(evaluation_of(one), True)
    with pytest.raises(NotApplicable, match="0 wells are too few"):
        bio_classifier(evaluation_of(changed(small, Metadata_Control="negcon")), False)


def test_a_batch_of_one_well_is_no_obstacle(small):
    batch = small.column("Metadata_Batch").copy()
    batch[0] = "alone"
    assert 0 <= batch_classifier(evaluation_of(changed(small, Metadata_Batch=batch)), True).value <= 1


def wells(shift=0.0, train=60, test=40, val=0, dims=6, seed=0):
    """Independent wells, test wells moved along all features, in no order; every fifth is a control."""
    rng = np.random.default_rng(seed)
    split = rng.permutation(np.repeat(["train", "test", "val"], [train, test, val]))
    n = len(split)
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": "b",
            "Metadata_Plate": [f"p{i % 3}" for i in range(n)],
            "Metadata_Well": [f"w{i:04d}" for i in rng.permutation(n)],
            "Metadata_Perturbation": "x",
            "Metadata_Control": np.where(np.arange(n) % 5 == 0, "negcon", "trt"),
            "Metadata_Split": split,
        }
    )
    features = rng.normal(size=(n, dims)) + shift * (split == "test")[:, None]
    return Profiles(metadata, features.astype(np.float32), tuple(f"f{i}" for i in range(dims)))


def held_out(profiles, controls=True, **more):
    return held_out_classifier(Evaluation(profiles, None, None, 0), controls, **more)


@pytest.mark.parametrize(("train", "test"), [(200, 200), (600, 100), (100, 600)])
def test_wells_that_look_alike_score_one_half_whatever_the_sizes(train, test):
    scores = [held_out(wells(train=train, test=test, seed=s), trees=30) for s in range(20)]
    found = np.array([s.value for s in scores])
    # A fifth of 200 or 400 wells is judged: the mean of 20 has a standard error of about 0.02.
    assert found.mean() == pytest.approx(0.5, abs=0.07)
    assert np.mean([s.low <= 0.5 <= s.high for s in scores]) > 0.75
    assert {s.n for s in scores} == {2 * min(train, test) // 5}


@pytest.mark.slow
def test_a_shift_of_the_held_out_wells_lowers_the_score_down_to_zero():
    shifts = np.array([0, 0.4, 0.8, 1.6, 3])
    found = [np.mean([held_out(wells(s, 200, 150, seed=i)).value for i in range(6)]) for s in shifts]
    assert found == sorted(found, reverse=True)
    # The error of the best rule for two Gaussians this far apart; a forest of few wells does somewhat worse.
    best = norm.cdf(-shifts * np.sqrt(6) / 2)
    assert (found > best - 0.05).all()
    assert (found[1:] < best[1:] + 0.12).all()
    assert found[-1] < 0.01
    assert held_out(wells(50)).value == 0


def test_held_out_score_follows_a_plain_recipe():
    profiles = wells(0.5, 90, 50, val=20, seed=4)
    frame = profiles.metadata.assign(row=range(len(profiles)))
    frame = frame[frame["Metadata_Control"] != "negcon"].sort_values(["Metadata_Plate", "Metadata_Well"])
    train, test = (frame[frame["Metadata_Split"] == name] for name in ("train", "test"))
    assert len(train) > len(test)
    places = frame.reset_index(drop=True).query("Metadata_Split == 'train'").index
    chosen = np.random.default_rng(42).choice(places, len(test), replace=False)
    rows = frame.iloc[np.sort(np.r_[chosen, frame.reset_index(drop=True).query("Metadata_Split == 'test'").index])]
    label = (rows["Metadata_Split"] == "test").to_numpy()
    assert label.mean() == 0.5
    split = train_test_split(profiles.features[rows["row"]], label, test_size=0.2, random_state=42)
    forest = RandomForestClassifier(n_estimators=100, random_state=42).fit(split[0], split[2])
    score = held_out(profiles, controls=False)
    assert score.value == pytest.approx(1 - f1_score(split[3], forest.predict(split[1])), abs=1e-12)
    assert score.low < score.value < score.high
    assert score.n == len(split[3])
    left = len(train) - len(test)
    assert (
        score.reason == f"{left} of {len(train)} train wells left out at random, so that both splits have as many"
    )


@pytest.mark.parametrize(("train", "test"), [(60, 40), (40, 60), (50, 50)])
def test_both_sides_have_as_many_wells_and_validation_has_none(monkeypatch, train, test):
    seen = []

    def forest_predictions(features, codes, trees, seed):
        seen.append((features, codes))
        return codes, codes

    monkeypatch.setattr(classifiers, "forest_predictions", forest_predictions)
    profiles = wells(0, train, test, val=30)
    marks = np.array([{"train": 0, "test": 1, "val": 2}[s] for s in profiles.column("Metadata_Split")])
    number = np.arange(len(marks))
    score = held_out(changed(profiles, np.column_stack([marks, number])))
    (features, codes) = seen[0]
    assert (features[:, 0] == codes).all()
    assert np.bincount(codes).tolist() == [min(train, test)] * 2
    assert len(np.unique(features[:, 1])) == len(codes)
    assert score.value == 0
    assert bool(score.reason) == (train != test)


def test_validation_wells_and_the_order_of_rows_are_nothing_to_the_held_out_score():
    profiles = wells(0.4, val=40)
    without = profiles.rows(profiles.column("Metadata_Split") != "val")
    shuffled = profiles.rows(np.random.default_rng(1).permutation(len(profiles)))
    assert held_out(profiles) == held_out(without) == held_out(shuffled)
    assert held_out(profiles) != held_out(profiles, forest_seed=1)


def test_which_wells_are_judged_does_not_follow_from_the_features(monkeypatch):
    seen = []

    def forest_predictions(features, codes, trees, seed):
        seen.append(codes)
        return codes, codes

    monkeypatch.setattr(classifiers, "forest_predictions", forest_predictions)
    for shift in (0, 3):
        held_out(changed(wells(), wells(shift, seed=9).features))
    np.testing.assert_array_equal(*seen)


def test_held_out_score_needs_wells_on_both_sides(monkeypatch):
    for name in ("train", "test", "val"):
        missing = "train" if name != "train" else "test"
        with pytest.raises(NotApplicable, match=f"^the {missing} split is empty$"):
            held_out(changed(wells(), Metadata_Split=name))
    with pytest.raises(NotApplicable, match="^the test split has 4 wells, which are too few; .* needs 5 of each$"):
        held_out(wells(test=4))
    assert held_out(wells(train=5, test=5)).n == 2
    profiles = wells()
    test = profiles.column("Metadata_Split") == "test"
    controls = changed(profiles, Metadata_Control=np.where(test, "negcon", "trt"))
    assert 0 <= held_out(controls).value <= 1
    with pytest.raises(NotApplicable, match="^the test split without its negative controls is empty$"):
        held_out(controls, controls=False)
    monkeypatch.setattr(
        classifiers, "forest_predictions", lambda *_: (np.zeros(3, dtype=int), np.array([0, 1, 0]))
    )
    with pytest.raises(NotApplicable, match="no held-out well among the 3 wells"):
        held_out(profiles)
