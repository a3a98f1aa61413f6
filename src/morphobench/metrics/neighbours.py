"""The exact neighbour graph of a profiles file, computed once and shared by all metrics that need one."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from morphobench.errors import DataError
from morphobench.files import atomic_path
from morphobench.profiles import Profiles

SPACES = ("euclidean", "cosine")


@dataclass(frozen=True)
class Graph:
    """The k nearest neighbours of each row.

    Attributes
    ----------
    indices
        (N, K) int32, nearest first, the row itself excluded, equal distances in order of the index.
    distances
        (N, K) float32; Euclidean distance, or 1 - cosine similarity.
    """

    indices: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Neighbours:
    """Neighbour graphs of one profiles file.

    Attributes
    ----------
    euclidean, cosine
        The graph in each space, or None where no metric asked for it.
    digest
        Digest of the features, so that a graph is never used with other profiles.
    """

    euclidean: Graph | None
    cosine: Graph | None
    digest: str

    def first(self, space: str, k: int) -> Graph:
        """Return the ``k`` nearest in ``space``; DataError if the graph holds fewer."""
        graph = getattr(self, space)
        held = 0 if graph is None else graph.indices.shape[1]
        if held < k:
            raise DataError(
                f"the neighbour graph holds {held} {space} neighbours of each row, expected at least {k}"
            )
        return Graph(graph.indices[:, :k], graph.distances[:, :k])


def features_digest(features: np.ndarray) -> str:
    """Return a SHA-256 over shape and float32 content of a feature matrix."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    digest = hashlib.sha256(str(features.shape).encode())
    digest.update(features.data)
    return digest.hexdigest()


def required_neighbours(specs: list[dict], n: int) -> dict[str, int]:
    """Return, per space, how many neighbours of each of ``n`` rows the metrics in ``specs`` need.

    A spec asks by ``neighbours: {space, k}`` or ``{space, fraction}`` (of the number of rows, at least 2); no more
    than ``n - 1`` are returned, and a metric that needs more finds itself not applicable.
    """
    wanted: dict[str, int] = {}
    for spec in specs:
        ask = spec.get("neighbours")
        if ask and n > 1:
            k = ask["k"] if "k" in ask else fraction_of(ask["fraction"], n)
            wanted[ask["space"]] = max(wanted.get(ask["space"], 1), min(k, n - 1))
    return wanted


def fraction_of(fraction: float, n: int) -> int:
    """Return ``int(fraction * n)``, at least 2: a chi-square test of one neighbour has nothing to compare."""
    return max(2, int(fraction * n))


def _block_candidates(block: np.ndarray, data: np.ndarray, square: np.ndarray, start: int, k: int):
    """Return (row, column) of every pair of the block that may be among its row's k nearest.

    Distances come from one matrix product, whose rounding error is covered by a margin; the caller decides by
    exact distances.
    """
    d2 = block @ data.T
    d2 *= -2
    d2 += square
    own = square[start : start + len(block), None]
    d2 += own
    d2[np.arange(len(block)), start + np.arange(len(block))] = np.inf
    limit = np.partition(d2, k - 1, axis=1)[:, k - 1 : k]
    margin = 1e-10 * (own + square.max()) + 1e-300
    return np.nonzero(d2 <= limit + margin)


def nearest(features: np.ndarray, k: int, space: str = "euclidean", block_mb: float = 128) -> Graph:
    """Return the exact k nearest neighbours of every row.

    Parameters
    ----------
    features
        (N, D) numbers.
    k
        Number of neighbours, the row itself excluded; less than N.
    space
        ``"euclidean"`` or ``"cosine"``. A row of zeros has cosine similarity 0 with every other.
    block_mb
        Bound of the temporary memory in MiB beyond a float64 copy of the features.
    """
    n = len(features)
    if not 0 < k < n:
        raise ValueError(f"k is {k}, expected 1 to {n - 1} for {n} rows")
    data = np.asarray(features, dtype=np.float64)
    if space == "cosine":
        norm = np.linalg.norm(data, axis=1, keepdims=True)
        data = data / np.where(norm > 0, norm, 1)
    else:
        data = data - data.mean(axis=0)
    square = np.einsum("ij,ij->i", data, data)
    indices, distances = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    bytes_ = block_mb * 2**20
    rows = int(max(1, min(n, bytes_ / (n * 8 * 4))))
    pairs_at_once = int(max(1024, bytes_ / (data.shape[1] * 8 * 6)))
    for start in range(0, n, rows):
        block = data[start : start + rows]
        row, column = _block_candidates(block, data, square, start, k)
        exact = np.empty(len(row))
        for i in range(0, len(row), pairs_at_once):
            a, b = block[row[i : i + pairs_at_once]], data[column[i : i + pairs_at_once]]
            exact[i : i + pairs_at_once] = (
                1 - np.einsum("ij,ij->i", a, b) if space == "cosine" else np.linalg.norm(a - b, axis=1)
            )
        # Twelve decimals: equal rows must tie although their products differ in the last bit.
        order = np.lexsort((column, np.round(exact, 12), row))
        first = np.searchsorted(row, np.arange(len(block)))
        take = order[first[:, None] + np.arange(k)]
        indices[start : start + rows] = column[take]
        distances[start : start + rows] = np.maximum(exact[take], 0)
    return Graph(indices, distances)


def compute_neighbours(features: np.ndarray, required: dict[str, int], block_mb: float = 128) -> Neighbours:
    """Return the graphs that ``required`` (see :func:`required_neighbours`) names."""
    graphs = {space: nearest(features, k, space, block_mb) for space, k in required.items()}
    return Neighbours(graphs.get("euclidean"), graphs.get("cosine"), features_digest(features))


def save_neighbours(neighbours: Neighbours, path: str | Path) -> None:
    """Write the graphs to an npz file, atomically."""
    arrays = {"digest": np.array(neighbours.digest)}
    for space in SPACES:
        graph = getattr(neighbours, space)
        if graph is not None:
            arrays[f"{space}_indices"], arrays[f"{space}_distances"] = graph.indices, graph.distances
    with atomic_path(path) as part, open(part, "wb") as stream:
        np.savez(stream, **arrays)


def load_neighbours(path: str | Path, profiles: Profiles) -> Neighbours:
    """Read the graphs of ``profiles`` from an npz file.

    Raises
    ------
    DataError
        If the file is missing, damaged, or was computed from other features.
    """
    try:
        with np.load(path) as arrays:
            graphs = {
                space: Graph(arrays[f"{space}_indices"], arrays[f"{space}_distances"])
                for space in SPACES
                if f"{space}_indices" in arrays
            }
            digest = str(arrays["digest"])
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected a neighbour graph (npz)") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable neighbour graph; expected an npz file of ours") from error
    if digest != features_digest(profiles.features):
        raise DataError(
            f"{path}: the neighbour graph was computed from other features than these profiles "
            f"({len(profiles)} rows x {len(profiles.names)}); expected one of the same file"
        )
    return Neighbours(graphs.get("euclidean"), graphs.get("cosine"), digest)
