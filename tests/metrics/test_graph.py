"""Graph connectivity and Leiden agreement against scanpy, umap-learn and scib-metrics."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from morphobench.errors import NotApplicable
from morphobench.metrics.graph import (
    fuzzy_graph,
    graph_connectivity,
    largest_component_shares,
    leiden_ari,
    leiden_nmi,
)
from morphobench.metrics.neighbours import nearest

from .conftest import changed, evaluation_of, screen


def test_shares_of_a_hand_made_graph():
    # Label 0: 0-1 joined one way, 2 reached only through another label. Label 1: 3-4 joined.
    indices = np.array([[1], [3], [3], [4], [3]])
    shares = largest_component_shares(indices, np.array([0, 0, 0, 1, 1]))
    np.testing.assert_allclose(shares, [2 / 3, 1])


def test_planted_clusters_are_connected_and_found():
    profiles = screen(n_compounds=6, n_plates=8, controls=1, biology=30, batch=0, seed=1)
    features = profiles.features.copy()
    evaluation = evaluation_of(changed(profiles, features))
    assert graph_connectivity(evaluation).value == pytest.approx(1)
    assert leiden_nmi(evaluation).value > 0.9
    score = leiden_ari(evaluation)
    assert score.low <= score.value <= score.high <= 1


def test_one_label_and_single_wells_do_not_apply(small):
    one = evaluation_of(changed(small, Metadata_Perturbation="x"))
    alone = evaluation_of(changed(small, Metadata_Perturbation=[f"x{i}" for i in range(len(small))]))
    for metric in (leiden_nmi, leiden_ari):
        with pytest.raises(NotApplicable, match="one perturbation"):
            metric(one)
        with pytest.raises(NotApplicable, match="more than one well"):
            metric(alone)
    with pytest.raises(NotApplicable, match="more than one well"):
        graph_connectivity(alone)
    with pytest.raises(NotApplicable, match="8 wells are too few for 14 neighbours"):
        graph_connectivity(evaluation_of(small.rows(np.arange(8))))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "duplicates"])
def test_fuzzy_graph_equals_umap(kind):
    from umap.umap_ import fuzzy_simplicial_set

    features = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    if kind == "duplicates":
        features[:40] = features[0]
    graph = nearest(features, 14)
    own = np.arange(len(features))[:, None]
    expected, _, _ = fuzzy_simplicial_set(
        features,
        15,
        None,
        "euclidean",
        knn_indices=np.hstack([own, graph.indices]),
        knn_dists=np.hstack([np.zeros((len(own), 1), np.float32), graph.distances]),
    )
    # The bisection stops at 1e-5 of the summed strengths, in float32 there and in float64 here.
    np.testing.assert_allclose(fuzzy_graph(graph, 15).toarray(), expected.toarray(), atol=1e-4)


@pytest.mark.slow
def test_leiden_equals_scanpy():
    import anndata
    import scanpy

    profiles = screen(n_compounds=12, n_plates=12, biology=1.0, seed=2)
    data = anndata.AnnData(profiles.features.astype(np.float32))
    scanpy.pp.neighbors(data, n_neighbors=15, use_rep="X")
    label = profiles.column("Metadata_Perturbation")
    best = (-1, None)
    for resolution in np.arange(1, 11) / 5:
        scanpy.tl.leiden(data, resolution=resolution, flavor="leidenalg", random_state=0)
        nmi = normalized_mutual_info_score(label, data.obs["leiden"])
        if nmi > best[0]:
            best = nmi, adjusted_rand_score(label, data.obs["leiden"])
    evaluation = evaluation_of(profiles)
    # Same algorithm and seed; the weights differ in the fifth digit, which may move a well between clusters.
    assert leiden_nmi(evaluation).value == pytest.approx(best[0], abs=0.03)
    assert leiden_ari(evaluation).value == pytest.approx(best[1], abs=0.06)
    graph = fuzzy_graph(evaluation.graph("euclidean", 14), 15)
    np.testing.assert_allclose(graph.toarray(), data.obsp["connectivities"].toarray(), atol=1e-4)


@pytest.mark.slow
def test_agree_with_scib_metrics():
    from scib_metrics import nmi_ari_cluster_labels_leiden
    from scib_metrics.metrics import graph_connectivity as scib_connectivity
    from scib_metrics.nearest_neighbors import NeighborsResults

    profiles = screen(n_compounds=12, n_plates=12, biology=1.0, seed=2)
    evaluation = evaluation_of(profiles)
    label = profiles.column("Metadata_Perturbation").astype(str)
    graph = evaluation.graph("euclidean", 14)
    own = np.arange(len(label))[:, None]
    theirs = NeighborsResults(
        np.hstack([own, graph.indices]), np.hstack([np.zeros((len(own), 1)), graph.distances])
    )
    # igraph's Leiden with two iterations against leidenalg until convergence: equal in kind only.
    found = nmi_ari_cluster_labels_leiden(theirs, label, seed=0)
    assert leiden_nmi(evaluation).value == pytest.approx(found["nmi"], abs=0.05)
    # scib-metrics follows edges in their direction, scib (followed here) in both: on a graph made symmetric
    # they agree exactly.
    symmetric = fuzzy_graph(graph, 15)

    class Symmetric:
        knn_graph_distances = symmetric

    expected = scib_connectivity(Symmetric, label)
    assert graph_connectivity(evaluation).value == pytest.approx(expected, abs=1e-12)
