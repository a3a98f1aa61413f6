"""The exact neighbour graph of a profiles file, computed once and shared by all metrics that need one."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from morphobench.errors import DataError
from morphobench.files import atomic_path
from morphobench.profiles import Profiles

SPACES = ("euclidean", "cosine")
SPLITS = ("train", "val", "test")


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
        Digest of the features, and of the splits where there are graphs within them, so that a graph is never used
        with other profiles.
    parts
        Graphs within one split, by split and space: rows and indices count the rows of the split alone, in the
        file's order.
    """

    euclidean: Graph | None
    cosine: Graph | None
    digest: str
    parts: Mapping[tuple[str, str], Graph] = field(default_factory=dict)

    def first(self, space: str, k: int, split: str | None = None) -> Graph:
        """Return the ``k`` nearest in ``space``, or within a ``split``; DataError if the graph holds fewer."""
        graph = getattr(self, space) if split is None else self.parts.get((split, space))
        held = 0 if graph is None else graph.indices.shape[1]
        if held < k:
            what = f"{space} neighbours of each row" + (f" of the {split} split" if split else "")
            raise DataError(f"the neighbour graph holds {held} {what}, expected at least {k}")
        return Graph(graph.indices[:, :k], graph.distances[:, :k])

    def within(self, split: str, features: np.ndarray) -> Neighbours:
        """Return the graphs within a split as those of its rows alone, whose ``features`` are (N, D) numbers."""
        graphs = (self.parts.get((split, space)) for space in SPACES)
        return Neighbours(*graphs, features_digest(features))


def features_digest(features: np.ndarray, split: np.ndarray | None = None) -> str:
    """Return a SHA-256 over shape and float32 content of a feature matrix, and over the rows' splits if given."""
    features = np.ascontiguousarray(features, dtype=np.float32)
    digest = hashlib.sha256(str(features.shape).encode())
    digest.update(features.data)
    if split is not None:
        digest.update("\n".join(map(str, split)).encode())
    return digest.hexdigest()


def required_neighbours(
    specs: list[dict], n: int, split: np.ndarray | None = None
) -> dict[str | tuple[str, str], int]:
    """Return how many neighbours of each row the metrics in ``specs`` need.

    Parameters
    ----------
    specs
        A spec asks by ``neighbours: {space, k}`` or ``{space, fraction}`` (of the number of rows, at least
        ``at_least``, by default 2); with ``split: test`` the rows of that split stand for all.
    n
        Number of rows.
    split
        (N,) what each row may be used for; not needed where no spec names a split.

    Returns
    -------
    dict
        By space, or by ``(split, space)``; no more than one less than the rows there are, and a metric that needs
        more finds itself not applicable. A split of less than two rows is absent.
    """
    wanted: dict[str | tuple[str, str], int] = {}
    for spec in specs:
        ask = spec.get("neighbours")
        if not ask:
            continue
        part = ask.get("split")
        if part is not None and split is None:
            raise ValueError(f"metric {spec.get('id')} needs neighbours within a split, expected the rows' splits")
        rows = n if part is None else int((split == part).sum())
        if rows > 1:
            k = ask["k"] if "k" in ask else fraction_of(ask["fraction"], rows, ask.get("at_least", 2))
            key = ask["space"] if part is None else (part, ask["space"])
            wanted[key] = max(wanted.get(key, 1), min(k, rows - 1))
    return wanted


def fraction_of(fraction: float, n: int, at_least: int = 2) -> int:
    """Return ``int(fraction * n)``, at least 2: a chi-square test of one neighbour has nothing to compare."""
    return max(at_least, int(fraction * n))


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


def compute_neighbours(
    features: np.ndarray,
    required: Mapping[str | tuple[str, str], int],
    block_mb: float = 128,
    split: np.ndarray | None = None,
) -> Neighbours:
    """Return the graphs that ``required`` names, with the same ``split``: see :func:`required_neighbours`."""
    graphs: dict[str, Graph] = {}
    parts: dict[tuple[str, str], Graph] = {}
    for key, k in required.items():
        if isinstance(key, str):
            graphs[key] = nearest(features, k, key, block_mb)
        else:
            parts[key] = nearest(features[split == key[0]], k, key[1], block_mb)
    digest = features_digest(features, split if parts else None)
    return Neighbours(graphs.get("euclidean"), graphs.get("cosine"), digest, parts)


def save_neighbours(neighbours: Neighbours, path: str | Path) -> None:
    """Write the graphs to an npz file, atomically."""
    named = {space: getattr(neighbours, space) for space in SPACES}
    named |= {_name(split, space): graph for (split, space), graph in neighbours.parts.items()}
    arrays = {"digest": np.array(neighbours.digest)}
    for name, graph in named.items():
        if graph is not None:
            arrays[f"{name}_indices"], arrays[f"{name}_distances"] = graph.indices, graph.distances
    with atomic_path(path) as part, open(part, "wb") as stream:
        np.savez(stream, **arrays)


def _name(split: str, space: str) -> str:
    return f"{split}_{space}"


def load_neighbours(path: str | Path, profiles: Profiles) -> Neighbours:
    """Read the graphs of ``profiles`` from an npz file.

    Raises
    ------
    DataError
        If the file is missing, damaged, or was computed from other features or another split.
    """
    names = {space: space for space in SPACES}
    names |= {(split, space): _name(split, space) for split in SPLITS for space in SPACES}
    try:
        with np.load(path) as arrays:
            graphs = {
                key: Graph(arrays[f"{name}_indices"], arrays[f"{name}_distances"])
                for key, name in names.items()
                if f"{name}_indices" in arrays
            }
            digest = str(arrays["digest"])
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected a neighbour graph (npz)") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable neighbour graph; expected an npz file of ours") from error
    parts = {key: graph for key, graph in graphs.items() if isinstance(key, tuple)}
    # Graphs within splits belong to the splits as much as to the features.
    if digest != features_digest(profiles.features, profiles.column("Metadata_Split") if parts else None):
        raise DataError(
            f"{path}: the neighbour graph was computed from other features{' or splits' if parts else ''} than "
            f"these profiles ({len(profiles)} rows x {len(profiles.names)}); expected one of the same file"
        )
    return Neighbours(graphs.get("euclidean"), graphs.get("cosine"), digest, parts)
