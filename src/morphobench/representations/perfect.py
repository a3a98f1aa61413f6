"""The control that knows the answers: every biology metric should find it at least as good as any method."""

from __future__ import annotations

import numpy as np
import pandas as pd

from morphobench.profiles import Profiles
from morphobench.representations.base import Representation

SMALLEST = 64  # features, so that distances and health checks see an embedding of ordinary width
SCALE = 10.0  # length of a full code, so that classifiers without scaling are not held back by their penalty


class PerfectEmbedding(Representation):
    """Codes built from the known labels, equal for wells of equal labels but for a tiny jitter.

    A row is the sum of

    - the code of its perturbation (where that has two rows or more),
    - the code of its mechanism of action (where known), which brings compounds of one mechanism together,
    - for each collection of gene sets, a code of its gene whose products with the codes of others are large for
      genes that share a set and equal and small for all others (see :func:`relation_codes`),
    - a random direction of its own, if none of these is known.

    Codes are orthogonal while the labels fit into ``cap`` features, random directions beyond. All
    are turned by one random rotation: every feature then carries an equal share of every label, so that
    standardising features, as some metrics do, keeps the geometry. No batch, plate or well has a part in them.

    Parameters
    ----------
    cap
        The most features for labels; gene sets add what they need, at most twice as many.
    jitter
        Length of the noise of a row, as a share of a code's length; no two rows are equal.
    """

    def __init__(self, cap: int = 1024, jitter: float = 0.01, *, seed: int = 0):
        super().__init__(seed=seed)
        self.cap, self.jitter = cap, jitter

    def embed(self, profiles: Profiles, annotations: pd.DataFrame | None = None) -> Profiles:
        """Return the codes, (N, at most 3 cap) float32."""
        rng = np.random.default_rng(self.seed)
        labels = [self._label_part(profiles, "Metadata_Perturbation", repeated=True)]
        if "Metadata_MoA" in profiles.metadata:
            labels.append(self._label_part(profiles, "Metadata_MoA", repeated=False))
        sizes = [int(part.max(initial=-1)) + 1 for part in labels]
        related = self._related(profiles, annotations, 2 * self.cap)
        dims = min(sum(sizes), self.cap) + sum(weights.shape[1] for weights in related)
        dims = max(dims, SMALLEST)
        sizes += [weights.shape[1] for weights in related]
        codes = np.split(unit_codes(sum(sizes), dims, rng), np.cumsum(sizes)[:-1])
        result = np.zeros((len(profiles), dims))
        for part, own in zip(labels, codes, strict=False):
            result[part >= 0] += own[part[part >= 0]]
        for weights, own in zip(related, codes[len(labels) :], strict=True):
            result += weights @ own
        unknown = ~result.any(axis=1)
        result[unknown] = unit_directions(int(unknown.sum()), dims, rng)
        result += self.jitter / np.sqrt(dims) * rng.standard_normal(result.shape)
        return profiles.with_features(SCALE * result, tuple(f"perfect_{i:04d}" for i in range(dims)))

    @staticmethod
    def _label_part(profiles: Profiles, column: str, *, repeated: bool) -> np.ndarray:
        """Return a code number for each row, -1 where the label is empty or (if ``repeated``) has only one row."""
        labels = profiles.metadata[column]
        labels = labels.where(labels.notna() & (labels.astype(str) != ""))
        if repeated:
            labels = labels.where(labels.map(labels.value_counts()) > 1)
        codes, _ = pd.factorize(labels, sort=True)
        return codes

    @staticmethod
    def _related(profiles: Profiles, annotations: pd.DataFrame | None, room: int) -> list[np.ndarray]:
        """Return for each collection the (N, R) weights of its codes, zero for rows it does not know.

        Collections come in alphabetical order. Each has a smaller share than the one before, a quarter of the
        product of its related pairs, so that pairs that share a set of the first collection stay the closest.
        """
        if annotations is None or annotations.empty:
            return []
        column = "Metadata_Gene" if "Metadata_Gene" in profiles.metadata else "Metadata_Perturbation"
        entities = profiles.metadata[column].astype(str)
        known = annotations[annotations["entity"].isin(entities)].drop_duplicates(["entity", "set", "collection"])
        collections = sorted(known["collection"].unique())
        result, length = [], 1.0
        for rank, collection in enumerate(collections, start=1):
            table = known[known["collection"] == collection]
            names, row = np.unique(table["entity"].astype(str), return_inverse=True)
            sets, place = np.unique(table["set"].astype(str), return_inverse=True)
            member = np.zeros((len(names), len(sets)))
            member[row, place] = 1
            weights, level = relation_codes(member, room - SMALLEST * (len(collections) - rank))
            room -= weights.shape[1]
            place = pd.Series(np.arange(len(names)), index=names).reindex(entities).to_numpy()
            present = ~np.isnan(place)
            spread = np.zeros((len(profiles), weights.shape[1]))
            spread[present] = weights[place[present].astype(int)] * length
            result.append(spread)
            length *= np.sqrt(level) / 2
        return result


def relation_codes(member: np.ndarray, room: int) -> tuple[np.ndarray, float]:
    """Return codes, (E, at most room), whose products say which entities share a set, and the product of those.

    With T the (E, E) table that is 1 where two entities share a set and 0 elsewhere, and c the smallest number
    that makes T + c I positive semi-definite, the codes are a square root of (T + c I) / (1 + c): products are 1
    / (1 + c) for pairs that share a set and 0 for the others, and all codes have length 1. Where ``room`` is too
    small the components of the largest eigenvalues are kept, the closest table of that rank.

    Parameters
    ----------
    member
        (E, S) 1 where the entity is in the set; each entity is in at least one.
    room
        The most columns.
    """
    table = (member @ member.T > 0).astype(np.float64)
    values, vectors = np.linalg.eigh(table)
    shift = max(-values[0], 0.0)
    lifted = (values + shift) / (1 + shift)
    keep = np.flatnonzero(lifted > 1e-9)[::-1][:room]
    return vectors[:, keep] * np.sqrt(lifted[keep]), 1 / (1 + shift)


def unit_codes(count: int, dims: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` codes of length 1, (count, dims): orthogonal if they fit, else random directions."""
    if count <= dims:
        return np.linalg.qr(rng.standard_normal((dims, dims)))[0][:count]
    return unit_directions(count, dims, rng)


def unit_directions(count: int, dims: int, rng: np.random.Generator) -> np.ndarray:
    """Return ``count`` random directions, (count, dims) of length 1."""
    directions = rng.standard_normal((count, dims))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)
