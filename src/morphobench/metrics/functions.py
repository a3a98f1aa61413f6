"""Classification of genes into functional groups from their profiles (mcVAE, Figure 4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from morphobench.errors import NotApplicable
from morphobench.metrics.accuracy import fit_quietly
from morphobench.metrics.evaluation import Evaluation, Score
from morphobench.metrics.genes import gene_profiles, sets_of

FEWEST_GENES = 3


@dataclass(frozen=True)
class SplitScores:
    """Test-set scores over repeated splits.

    Attributes
    ----------
    recall
        (S, K) recall of each group; NaN where a split's test part lacks the group.
    accuracy, macro_f1
        (S,).
    names
        The K groups.
    genes
        (K,) genes per group.
    reason
        What was left out.
    """

    recall: np.ndarray
    accuracy: np.ndarray
    macro_f1: np.ndarray
    names: np.ndarray
    genes: np.ndarray
    reason: str


def split_scores(features: np.ndarray, codes: np.ndarray, splits: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return recalls (S, K), accuracy (S,) and macro F1 (S,) over stratified 60/40 splits.

    Multinomial logistic regression with balanced class weights, C = 1, L-BFGS of at most 100 iterations, features
    not scaled (authors' code). The splits follow from the groups and the seed, whatever the features.

    Parameters
    ----------
    features
        (G, D) numbers.
    codes
        (G,) groups 0..K-1, at least two genes each.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import StratifiedShuffleSplit

    groups = codes.max() + 1
    recall, accuracy, macro = np.full((splits, groups), np.nan), np.empty(splits), np.empty(splits)
    plan = StratifiedShuffleSplit(splits, test_size=0.4, random_state=np.random.RandomState(seed % 2**32))
    for i, (train, test) in enumerate(plan.split(features, codes)):
        model = LogisticRegression(C=1.0, class_weight="balanced", solver="lbfgs", max_iter=100)
        predicted = fit_quietly(model, features[train], codes[train]).predict(features[test])
        right = predicted == codes[test]
        total = np.bincount(codes[test], minlength=groups)
        hits = np.bincount(codes[test], right, minlength=groups)
        recall[i] = np.divide(hits, total, out=np.full(groups, np.nan), where=total > 0)
        accuracy[i] = right.mean()
        macro[i] = f1_score(codes[test], predicted, average="macro", zero_division=0)
    return recall, accuracy, macro


def _scores(evaluation: Evaluation, collection: str, splits: int) -> SplitScores:
    """Return the split scores of all genes that are in exactly one group, fitted once for all three metrics."""

    def compute() -> SplitScores:
        names, features = gene_profiles(evaluation)
        genes, sets, set_names = sets_of(evaluation, collection, names)
        single = np.bincount(genes)[genes] == 1
        genes_in = np.bincount(sets[single], minlength=len(set_names))
        kept = single & (genes_in[sets] >= FEWEST_GENES)
        if len(np.unique(sets[kept])) < 2:
            raise NotApplicable(f"fewer than two groups of collection {collection} have {FEWEST_GENES} genes")
        found, codes = np.unique(sets[kept], return_inverse=True)
        left = len(np.unique(genes)) - kept.sum()
        small = f"in several groups or in a group of fewer than {FEWEST_GENES}"
        reason = f"{left} annotated genes left out: {small}" if left else ""
        scores = split_scores(features[genes[kept]].astype(np.float32), codes, splits, evaluation.seed)
        return SplitScores(*scores, set_names[found], np.bincount(codes), reason)

    return evaluation.once(("functions", collection, splits), compute)


def _over_splits(draws: np.ndarray, n: int, reason: str) -> Score:
    values = draws[~np.isnan(draws)]
    if not len(values):
        return Score(np.nan, np.nan, np.nan, n, "not_applicable", "no split tests a gene of the group")
    low, high = np.percentile(values, [2.5, 97.5])
    return Score(float(values.mean()), float(low), float(high), n, reason=reason, draws=tuple(draws.tolist()))


def function_recall(evaluation: Evaluation, collection: str = "function", splits: int = 20) -> dict[str, Score]:
    """Recall of each functional group: mean and 95 % range over repeated splits (mcVAE, Figure 4C).

    The paper shows one split; its bar is the difference of two such recalls.
    """
    scores = _scores(evaluation, collection, splits)
    return {
        str(name): _over_splits(scores.recall[:, i], int(scores.genes[i]), scores.reason)
        for i, name in enumerate(scores.names)
    }


def function_accuracy(evaluation: Evaluation, collection: str = "function", splits: int = 20) -> Score:
    """Accuracy of the functional groups: mean and 95 % range over repeated splits."""
    scores = _scores(evaluation, collection, splits)
    return _over_splits(scores.accuracy, int(scores.genes.sum()), scores.reason)


def function_macro_f1(evaluation: Evaluation, collection: str = "function", splits: int = 20) -> Score:
    """Macro F1 of the functional groups: mean and 95 % range over repeated splits."""
    scores = _scores(evaluation, collection, splits)
    return _over_splits(scores.macro_f1, int(scores.genes.sum()), scores.reason)
