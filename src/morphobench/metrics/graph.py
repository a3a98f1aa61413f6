"""Metrics on the Euclidean neighbour graph: connectivity of replicates and agreement of Leiden clusters."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from morphobench.errors import NotApplicable
from morphobench.metrics.evaluation import Evaluation, Score, codes_of, jackknife_interval, mean_score
from morphobench.metrics.neighbours import Graph

RESOLUTIONS = tuple(round(0.2 * i, 1) for i in range(1, 11))
SMOOTH_TOLERANCE = 1e-5
SMALLEST_BANDWIDTH = 1e-3


def largest_component_shares(indices: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return, per label, the share of its wells in the largest connected component of its sub-graph.

    Parameters
    ----------
    indices
        (N, K) neighbours of each well; an edge in either direction connects.
    codes
        (N,) labels 0..L-1.
    """
    n, k = indices.shape
    rows = np.repeat(np.arange(n), k)
    columns = indices.ravel()
    same = codes[rows] == codes[columns]
    graph = sparse.coo_matrix((np.ones(same.sum()), (rows[same], columns[same])), shape=(n, n))
    # Edges join wells of one label only, so the components of all sub-graphs come from one pass.
    _, component = connected_components(graph.tocsr(), directed=False)
    sizes = np.bincount(component)
    largest = np.zeros(codes.max() + 1)
    np.maximum.at(largest, codes, sizes[component])
    return largest / np.bincount(codes)


def graph_connectivity(evaluation: Evaluation, k: int = 15) -> Score:
    """Graph connectivity: mean over perturbations of the largest component's share (scib 1.1, CellPainTR code).

    The paper's text describes the share of each sample's 15 neighbours that correction keeps; its code computes
    this quantity instead, and the printed numbers come from the code, which is followed here.

    Parameters
    ----------
    evaluation
        Needs ``k - 1`` Euclidean neighbours.
    k
        Neighbourhood size as scanpy counts it, the well itself included.
    """
    codes, _ = codes_of(evaluation.column(evaluation.label))
    indices = evaluation.graph("euclidean", k - 1).indices
    if np.bincount(codes).max() < 2:
        raise NotApplicable("no perturbation has more than one well, so every sub-graph is connected")
    return mean_score(largest_component_shares(indices, codes), evaluation.seed)


def _bandwidths(distances: np.ndarray, nearest: np.ndarray, target: float) -> np.ndarray:
    """Return each row's bandwidth at which its summed membership strengths equal ``target`` (bisection)."""
    excess = np.maximum(distances - nearest[:, None], 0)
    low, high = np.zeros(len(distances)), np.full(len(distances), np.inf)
    middle = np.ones(len(distances))
    active = np.arange(len(distances))
    for _ in range(64):
        total = np.exp(-excess[active] / middle[active, None]).sum(axis=1)
        active, total = (a[np.abs(total - target) >= SMOOTH_TOLERANCE] for a in (active, total))
        if not len(active):
            break
        above = total > target
        high[active[above]] = middle[active[above]]
        low[active[~above]] = middle[active[~above]]
        open_end = np.isinf(high[active])
        middle[active] = np.where(open_end, middle[active] * 2, (low[active] + high[active]) / 2)
    return middle


def fuzzy_graph(graph: Graph, k: int) -> sparse.csr_matrix:
    """Return the symmetric fuzzy neighbour graph that UMAP and scanpy use as connectivities.

    Parameters
    ----------
    graph
        At least ``k - 1`` neighbours of each of N wells.
    k
        Neighbourhood size, the well itself included.

    Returns
    -------
    scipy.sparse.csr_matrix
        (N, N) float64 weights in (0, 1]: w + w' - w w' of the directed strengths exp(-(d - d_1)/bandwidth), with
        bandwidths such that the strengths of a row sum to log2(k) (McInnes et al. 2018, section 3.1).
    """
    n = len(graph.indices)
    distances = graph.distances[:, : k - 1].astype(np.float64)
    positive = np.where(distances > 0, distances, np.inf).min(axis=1)
    nearest = np.where(np.isfinite(positive), positive, 0.0)
    bandwidth = _bandwidths(distances, nearest, np.log2(k))
    # UMAP's means include the well itself at distance 0, hence k and not k - 1.
    floor = np.where(nearest > 0, distances.sum(axis=1) / k, distances.sum() / (n * k))
    bandwidth = np.maximum(bandwidth, SMALLEST_BANDWIDTH * floor)
    excess = np.maximum(distances - nearest[:, None], 0)
    strength = np.exp(-excess / np.where(bandwidth > 0, bandwidth, 1)[:, None])
    rows = np.repeat(np.arange(n), k - 1)
    directed = sparse.csr_matrix((strength.ravel(), (rows, graph.indices[:, : k - 1].ravel())), shape=(n, n))
    union = (directed + directed.T - directed.multiply(directed.T)).tocsr()
    union.eliminate_zeros()
    return union


def leiden(weights: sparse.csr_matrix, resolution: float, seed: int) -> np.ndarray:
    """Return Leiden cluster ids (N,) as scanpy computes them: leidenalg, directed, until no change."""
    import igraph
    import leidenalg

    edges = weights.tocoo()
    graph = igraph.Graph(n=weights.shape[0], edges=np.column_stack([edges.row, edges.col]), directed=True)
    partition = leidenalg.find_partition(
        graph,
        leidenalg.RBConfigurationVertexPartition,
        weights=edges.data.astype(np.float64),
        resolution_parameter=resolution,
        n_iterations=-1,
        seed=seed,
    )
    return np.asarray(partition.membership)


def best_clustering(
    weights: sparse.csr_matrix, codes: np.ndarray, seed: int, resolutions: tuple[float, ...] = RESOLUTIONS
) -> np.ndarray:
    """Return the Leiden clustering whose arithmetic NMI with ``codes`` is highest, the first of equals (scib)."""
    from sklearn.metrics import normalized_mutual_info_score

    best, kept = -1.0, np.zeros(len(codes), dtype=int)
    for resolution in resolutions:
        clusters = leiden(weights, resolution, seed)
        nmi = normalized_mutual_info_score(codes, clusters)
        if nmi > best:
            best, kept = nmi, clusters
    return kept


def _clustered(evaluation: Evaluation, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and best clusters, computed once for NMI and ARI."""
    codes, names = codes_of(evaluation.column(evaluation.label))
    if len(names) < 2:
        raise NotApplicable(f"all wells have the one perturbation {names[0]}; clusters have nothing to agree with")
    if len(names) == len(codes):
        raise NotApplicable("no perturbation has more than one well; clusters have nothing to agree with")
    graph = evaluation.graph("euclidean", k - 1)
    order = evaluation.order()

    def compute() -> np.ndarray:
        # Leiden visits nodes in an order drawn from their numbers: number the wells by plate and well.
        weights = fuzzy_graph(graph, k)[order][:, order]
        clusters = np.empty(len(codes), dtype=int)
        clusters[order] = best_clustering(weights, codes[order], evaluation.seed)
        return clusters

    return codes[order], evaluation.once(("leiden", k), compute)[order]


def leiden_nmi(evaluation: Evaluation, k: int = 15) -> Score:
    """Arithmetic NMI of perturbations and Leiden clusters at the best of ten resolutions (scib 1.1).

    The interval is a delete-a-group jackknife over wells with the clustering kept.
    """
    from sklearn.metrics import normalized_mutual_info_score as nmi

    codes, clusters = _clustered(evaluation, k)
    low, high = jackknife_interval(
        lambda kept: nmi(codes[kept], clusters[kept]), len(codes), evaluation.seed, bounds=(0, 1)
    )
    return Score(float(nmi(codes, clusters)), low, high, len(codes))


def leiden_ari(evaluation: Evaluation, k: int = 15) -> Score:
    """Compute the adjusted Rand index at the resolution that :func:`leiden_nmi` keeps (scib 1.1)."""
    from sklearn.metrics import adjusted_rand_score as ari

    codes, clusters = _clustered(evaluation, k)
    low, high = jackknife_interval(
        lambda kept: ari(codes[kept], clusters[kept]), len(codes), evaluation.seed, bounds=(-0.5, 1)
    )
    return Score(float(ari(codes, clusters)), low, high, len(codes))
