"""Random forest scores against scikit-learn, and the cases that do not apply."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

from morphobench.errors import NotApplicable
from morphobench.metrics.classifiers import batch_classifier, bio_classifier, weighted_f1

from .conftest import changed, evaluation_of, screen


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=20))
def test_weighted_f1_equals_scikit_learn(items):
    truth, predicted, weight = (np.array(x) for x in zip(*items, strict=True))
    weight[0] += 1
    expected = f1_score(truth, predicted, average="weighted", sample_weight=weight, zero_division=0)
    assert weighted_f1(truth, predicted, weight[None])[0] == pytest.approx(expected, abs=1e-12)


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
