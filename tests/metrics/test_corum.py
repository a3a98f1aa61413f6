"""Recovery of complexes against brute force, scikit-learn and the published points."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from sklearn.metrics.pairwise import cosine_distances

from morphobench.errors import NotApplicable
from morphobench.metrics.corum import (
    PERCENTILES,
    corum_auprc,
    corum_average_precision,
    corum_curve,
    corum_precision_at,
    partial_area,
    precision_at,
    rank_pairs,
    two_sided_curve,
    weighted_average_precision,
)

from .conftest import evaluation_of


def brute_curve(features, related, rows):
    """Recall and precision over the matrix of ``rows`` (genes, perhaps drawn repeatedly), without own copies."""
    features, related = features[rows], related[np.ix_(rows, rows)]
    # On the grid of rank_pairs: copies of a pair are one distance.
    distance = np.rint(cosine_distances(features) * 2**29) / 2**29
    distance[rows[:, None] == rows] = 0
    other = rows[:, None] != rows
    # Entries of a gene with its own copy leave the matrix; each drawn gene keeps one self-distance.
    entries = np.concatenate([distance[other], np.zeros(len(rows))])
    points = []
    for p in PERCENTILES:
        predicted = (distance <= np.percentile(entries, 100 - p)) | (distance >= np.percentile(entries, p))
        predicted, truth = predicted & other, related & other
        points.append(((predicted & truth).sum() / truth.sum(), (predicted & truth).sum() / predicted.sum()))
    return np.array(points).T


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(8, 30), st.booleans())
def test_curve_equals_brute_force_also_with_drawn_genes(seed, n, drawn):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 5))
    related = rng.random((n, n)) < 0.2
    related = related | related.T
    related[0, 1] = related[1, 0] = True
    rows = np.sort(rng.integers(0, n, n)) if drawn else np.arange(n)
    if not (related[np.ix_(rows, rows)] & (rows[:, None] != rows)).any():
        return
    curve = two_sided_curve(rank_pairs(features, related), np.bincount(rows, minlength=n).astype(float))
    expected = brute_curve(features, related, rows)
    np.testing.assert_allclose(curve, expected, atol=1e-12)


def test_average_precision_equals_scikit_learn(genes):
    profiles, annotations = genes
    features = profiles.features[:-1].astype(float)
    features = ((features - features.mean(0)) / features.std(0))[:60]
    first, second = np.triu_indices(60, 1)
    similarity = 1 - cosine_distances(features)[first, second]
    expected = average_precision_score(first // 3 == second // 3, similarity)
    score = corum_average_precision(evaluation_of(profiles, annotations))
    assert score.value == pytest.approx(expected, abs=1e-6)
    assert score.low < score.value < score.high
    assert score.n == 60
    assert score.reason.startswith("1 annotated genes left out")


def test_resampled_average_precision_equals_scikit_learn_with_weights():
    rng = np.random.default_rng(0)
    features, related = rng.normal(size=(25, 4)), np.arange(25)[:, None] // 3 == np.arange(25) // 3
    pairs = rank_pairs(features, related)
    weights = rng.integers(0, 3, 25).astype(float)
    expected = average_precision_score(
        pairs.related, -pairs.distance, sample_weight=weights[pairs.first] * weights[pairs.second]
    )
    assert weighted_average_precision(pairs, weights) == pytest.approx(expected, abs=1e-12)


def test_curve_scores_and_derived_values_agree(genes):
    evaluation = evaluation_of(*genes)
    recall, precision = (corum_curve(evaluation, part) for part in ("recall", "precision"))
    assert list(recall) == [str(p) for p in range(80, 100)]
    r, p = (np.array([s.value for s in part.values()]) for part in (recall, precision))
    assert (np.diff(r) <= 0).all()
    assert corum_auprc(evaluation).value == pytest.approx(-np.trapezoid(p, r))
    wanted = float(r[7] + r[8]) / 2
    at = corum_precision_at(evaluation, [wanted, 0.9999])
    first, beyond = at.values()
    assert first.value == pytest.approx((p[7] + p[8]) / 2)
    assert beyond.status == "not_applicable"
    for scores in (recall, precision):
        assert all(s.low <= s.value <= s.high for s in list(scores.values())[::5])


def published_curve(root, row):
    """Recall and precision at percentiles 80 to 99, and the values derived from them (mcVAE, Figure 2B)."""
    table = pd.read_csv(root / "specs/published/mcvae-figures.csv")
    table = table[(table["table"] == "fig2B") & (table["row"] == row)]
    points = table[table["setting"].str.startswith("cutoff percentile ")]
    parts = [points[points["column"] == c]["mean"].to_numpy() for c in ("recall", "precision")]
    derived = table[~table["setting"].str.startswith("cutoff percentile ")].set_index("setting")["mean"]
    return *parts, derived


@pytest.mark.parametrize("row", ["background", "salient", "all"])
def test_definitions_reproduce_the_published_derived_values(root, row):
    recall, precision, derived = published_curve(root, row)
    # The points are rounded to four digits.
    assert partial_area(recall, precision) == pytest.approx(derived["cutoff percentiles 80-99"], abs=6e-5)
    for wanted in (0.2, 0.3):
        found = precision_at(recall, precision, wanted)
        assert found == pytest.approx(derived[f"recall {wanted:.2f}"], abs=1.1e-4)


def test_what_does_not_apply(genes):
    profiles, annotations = genes
    with pytest.raises(NotApplicable, match="no annotations"):
        corum_auprc(evaluation_of(profiles))
    with pytest.raises(NotApplicable, match="no gene of the profiles is in collection kegg"):
        corum_auprc(evaluation_of(profiles, annotations), collection="kegg")
    one = pd.DataFrame({"entity": ["G00", "G01", "G02"], "set": "s", "collection": "corum"})
    with pytest.raises(NotApplicable, match="all 3 genes share"):
        corum_auprc(evaluation_of(profiles, one))
    with pytest.raises(NotApplicable, match="2 genes share a set"):
        corum_auprc(evaluation_of(profiles, one[:2]))
