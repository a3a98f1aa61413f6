"""Gene profiles and gene sets for the metrics on annotations."""

from __future__ import annotations

import numpy as np

from morphobench.errors import NotApplicable
from morphobench.metrics.evaluation import Evaluation, codes_of


def gene_profiles(evaluation: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    """Return the names and mean profiles (G, D) float64 of all perturbed genes, names sorted.

    The gene is ``Metadata_Gene`` where the profiles have it, else the perturbation. Negative controls are no gene.
    """
    column = "Metadata_Gene" if "Metadata_Gene" in evaluation.profiles.metadata else evaluation.label
    genes = evaluation.column(column)
    named = np.array([isinstance(g, str) and g != "" for g in genes])
    rows = np.flatnonzero(named & (evaluation.column("Metadata_Control") != "negcon"))
    if not len(rows):
        raise NotApplicable("no row is a perturbed gene")
    names, codes = np.unique(genes[rows].astype(str), return_inverse=True)
    sums = np.zeros((len(names), evaluation.profiles.features.shape[1]))
    np.add.at(sums, codes, evaluation.profiles.features[rows].astype(np.float64))
    return names.astype(object), sums / np.bincount(codes)[:, None]


def sets_of(
    evaluation: Evaluation, collection: str, names: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return gene index, set index and set names of a collection's memberships among ``names``."""
    if evaluation.annotations is None:
        raise NotApplicable(f"the data set has no annotations, hence no collection {collection}")
    table = evaluation.annotations
    table = table[(table["collection"] == collection) & table["entity"].isin(names)].drop_duplicates(
        ["entity", "set"]
    )
    if table.empty:
        raise NotApplicable(f"no gene of the profiles is in collection {collection}")
    table = table.sort_values(["entity", "set"])
    position = {name: i for i, name in enumerate(names)}
    genes = np.array([position[e] for e in table["entity"]])
    codes, set_names = codes_of(table["set"].to_numpy())
    return genes, codes, set_names
