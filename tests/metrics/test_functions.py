"""Functional groups against scikit-learn on the same splits."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, recall_score
from sklearn.model_selection import StratifiedShuffleSplit

from morphobench.errors import NotApplicable
from morphobench.metrics.functions import function_accuracy, function_macro_f1, function_recall, split_scores

from .conftest import evaluation_of


def test_split_scores_equal_scikit_learn(genes):
    features = genes[0].features[:-1]
    codes = np.arange(72) // 12
    recall, accuracy, macro = split_scores(features, codes, 3, 5)
    plan = StratifiedShuffleSplit(3, test_size=0.4, random_state=np.random.RandomState(5))
    for i, (train, test) in enumerate(plan.split(features, codes)):
        model = LogisticRegression(class_weight="balanced").fit(features[train], codes[train])
        predicted = model.predict(features[test])
        np.testing.assert_allclose(recall[i], recall_score(codes[test], predicted, average=None))
        assert accuracy[i] == pytest.approx(accuracy_score(codes[test], predicted))
        assert macro[i] == pytest.approx(f1_score(codes[test], predicted, average="macro"))


def test_planted_groups_are_found(genes):
    evaluation = evaluation_of(*genes)
    recall = function_recall(evaluation)
    assert sorted(recall) == [f"function {i}" for i in range(6)]
    accuracy = function_accuracy(evaluation)
    # Groups are equally large, so accuracy is the mean recall up to rounding of the stratified counts.
    assert accuracy.value == pytest.approx(np.mean([s.value for s in recall.values()]), abs=0.03)
    assert accuracy.value > 0.6
    assert accuracy.low <= accuracy.value <= accuracy.high
    assert function_macro_f1(evaluation).value == pytest.approx(accuracy.value, abs=0.05)


def test_small_groups_and_genes_in_several_are_left_out_and_counted(genes):
    profiles, annotations = genes
    extra = pd.DataFrame({"entity": ["G00", "G01"], "set": "small", "collection": "function"})
    recall = function_recall(evaluation_of(profiles, pd.concat([annotations, extra])))
    assert "small" not in recall
    assert recall["function 0"].n == 10
    assert recall["function 0"].reason.startswith("2 annotated genes left out")


def test_one_group_does_not_apply(genes):
    profiles, annotations = genes
    with pytest.raises(NotApplicable, match="fewer than two groups"):
        function_accuracy(evaluation_of(profiles, annotations[annotations["set"] == "function 0"]))
