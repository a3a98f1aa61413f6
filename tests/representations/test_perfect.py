import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, silhouette_score
from sklearn.model_selection import cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from morphobench.profiles import Profiles
from morphobench.representations.perfect import PerfectEmbedding, relation_codes, unit_codes


def cosine(x: np.ndarray) -> np.ndarray:
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def zscore(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return (x - x.mean(axis=0)) / x.std(axis=0)


@pytest.mark.parametrize("normalise", [False, True])
def test_replicates_are_nearest(profiles, normalise):
    """mAP, grit and k-NN need every replicate closer than any other well, by cosine, Euclid, raw and z-scored."""
    x = PerfectEmbedding().embed(profiles).features.astype(np.float64)
    x = zscore(x) if normalise else x
    label = profiles.column("Metadata_Perturbation")
    same = label[:, None] == label[None, :]
    other_self = ~np.eye(len(x), dtype=bool)
    euclid = -np.linalg.norm(x[:, None] - x[None], axis=2)
    for similarity in (cosine(x), euclid):
        assert similarity[same & other_self].min() > similarity[~same].max()
    assert silhouette_score(x, label) > 0.95


def test_mechanisms_are_next(profiles):
    """1-NN not-same-compound on median profiles finds the mechanism for every treatment, batch aside or not."""
    embedded = PerfectEmbedding().embed(profiles)
    frame = pd.DataFrame(embedded.features.astype(np.float64))
    keys = profiles.metadata[["Metadata_Perturbation", "Metadata_Compound", "Metadata_MoA"]]
    treated = (profiles.metadata["Metadata_Control"] == "trt").to_numpy()
    median = frame[treated].groupby([keys[c][treated] for c in keys]).median()
    similarity = cosine(median.to_numpy())
    compound = median.index.get_level_values(1).to_numpy()
    moa = median.index.get_level_values(2).to_numpy()
    similarity[compound[:, None] == compound[None, :]] = -np.inf
    assert (moa[similarity.argmax(axis=1)] == moa).all()


def test_no_two_rows_are_equal_and_rank_is_not_small(profiles):
    x = PerfectEmbedding().embed(profiles).features
    assert len(np.unique(x, axis=0)) == len(x)
    assert x.shape[1] >= 64
    assert np.isfinite(x).all()


def test_batch_has_no_part(profiles):
    """Other batches, plates and wells, same numbers; and within a treatment batches cannot be told apart."""
    metadata = profiles.metadata.assign(Metadata_Batch="x", Metadata_Plate="y", Metadata_Well="z")
    other = dataclasses.replace(profiles, metadata=metadata, features=profiles.features * 0)
    x = PerfectEmbedding(seed=3).embed(profiles).features
    np.testing.assert_array_equal(PerfectEmbedding(seed=3).embed(other).features, x)
    label, batch = profiles.column("Metadata_Perturbation"), profiles.column("Metadata_Batch")
    residual = x - np.stack([x[label == k].mean(0) for k in label])
    found = cross_val_predict(KNeighborsClassifier(5), residual, batch, cv=3)
    assert (found == batch).mean() < 0.5


def test_many_perturbations_share_the_cap(profiles):
    count = 300
    metadata = pd.concat([profiles.metadata.head(1)] * (2 * count), ignore_index=True)
    metadata["Metadata_Perturbation"] = [f"p{i % count}" for i in range(2 * count)]
    metadata["Metadata_MoA"] = None
    many = Profiles(metadata, np.zeros((2 * count, 1), np.float32), ("a",))
    x = PerfectEmbedding(cap=128).embed(many).features
    assert x.shape == (2 * count, 128)
    similarity = cosine(x)
    np.fill_diagonal(similarity, -1)
    assert (similarity.argmax(axis=1) % count == np.arange(2 * count) % count).all()


def gene_screen() -> tuple[Profiles, pd.DataFrame]:
    rng = np.random.default_rng(0)
    genes = np.array([f"g{i:03d}" for i in range(300)])
    rows = [
        (g, f"complex{k}", "corum") for k in range(60) for g in rng.choice(genes[:150], rng.integers(2, 6), False)
    ]
    rows += [(g, f"group{i % 6}", "function") for i, g in enumerate(rng.permutation(genes)[:120])]
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": "published",
            "Metadata_Plate": "published",
            "Metadata_Well": genes,
            "Metadata_Perturbation": genes,
            "Metadata_Gene": genes,
            "Metadata_Control": "trt",
            "Metadata_Split": "test",
        }
    )
    table = pd.DataFrame(rows, columns=["entity", "set", "collection"])
    return Profiles(metadata, np.zeros((300, 1), np.float32), ("a",)), table


def test_gene_sets_after_standardising():
    """CORUM pairs by cosine of z-scored features, functional groups by logistic regression."""
    profiles, annotations = gene_screen()
    x = PerfectEmbedding().embed(profiles, annotations).features
    genes = profiles.column("Metadata_Gene")
    corum = annotations[annotations["collection"] == "corum"]
    member = pd.crosstab(corum["entity"], corum["set"]).clip(upper=1)
    truth = (member @ member.T > 0).to_numpy()
    rows = np.searchsorted(genes, member.index)
    pairs = np.triu_indices(len(rows), 1)
    assert average_precision_score(truth[pairs], cosine(zscore(x))[np.ix_(rows, rows)][pairs]) > 0.99
    function = annotations[annotations["collection"] == "function"]
    rows = np.searchsorted(genes, function["entity"])
    found = cross_val_predict(LogisticRegression(max_iter=300), x[rows], function["set"], cv=3)
    assert (found == function["set"]).mean() > 0.99


def test_relation_codes_rebuild_the_relation():
    rng = np.random.default_rng(0)
    member = (rng.random((30, 12)) < 0.15).astype(float)
    member = member[member.any(axis=1)]
    codes, pairs = relation_codes(member, room=100)
    products = codes @ codes.T
    np.testing.assert_allclose(np.diag(products), 1, atol=1e-9)
    off = ~np.eye(len(member), dtype=bool)
    shared = member @ member.T > 0
    level = products[shared & off]
    np.testing.assert_allclose(level, pairs, atol=1e-9)
    assert pairs > 0
    np.testing.assert_allclose(products[~shared], 0, atol=1e-9)
    assert relation_codes(member, room=5)[0].shape[1] == 5


def test_unit_codes():
    rng = np.random.default_rng(0)
    np.testing.assert_allclose((c := unit_codes(5, 8, rng)) @ c.T, np.eye(5), atol=1e-12)
    many = unit_codes(20, 8, rng)
    np.testing.assert_allclose(np.linalg.norm(many, axis=1), 1)
