from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from morphobench.simulate.funk22 import COMPLEXES, EMBEDDING, GROUPS, PAIRS

from .conftest import path_in

NOTEBOOK = "raw.githubusercontent.com/Genentech/contrastive-ops/e90d17eaffd90063c2311be9808982184e573507/notebook"


def pair_auc(collection, metadata, features, collection_name, part):
    """Area under the curve of cosine similarity for sharing a set, over pairs of annotated genes."""
    table = collection.annotations
    table = table[table["collection"] == collection_name]
    members = pd.crosstab(table["entity"], table["set"])
    share = (members.to_numpy() @ members.to_numpy().T) > 0
    z = (features - features.mean(axis=0)) / features.std(axis=0)
    rows = metadata.reset_index().set_index("Metadata_Gene").loc[members.index, "index"].to_numpy()
    z = z[rows][:, part]
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    upper = np.triu_indices(len(z), 1)
    return roc_auc_score(share[upper], (z @ z.T)[upper])


SALIENT, BACKGROUND = slice(0, 32), slice(32, 64)


def test_gene_sets_are_planted_in_the_salient_part(screen):
    metadata, features, collection, _ = screen("funk22", genes=400)
    assert collection.names[0] == "salient_00"
    salient = pair_auc(collection, metadata, features, "corum", SALIENT)
    background = pair_auc(collection, metadata, features, "corum", BACKGROUND)
    assert salient > background + 0.05
    assert background > 0.52
    assert pair_auc(collection, metadata, features, "function", SALIENT) > 0.55


@pytest.mark.parametrize("seed", [0, 1])
def test_zero_effect_leaves_chance(screen, seed):
    metadata, features, collection, _ = screen("funk22", seed=seed, treatment_effect=0.0)
    for name in ("corum", "function"):
        for part in (SALIENT, BACKGROUND):
            assert abs(pair_auc(collection, metadata, features, name, part) - 0.5) < 0.06


def test_effect_is_monotone(screen):
    found = []
    for strength in (0.0, 0.3, 0.6, 1.2):
        metadata, features, collection, _ = screen("funk22", treatment_effect=strength)
        found.append(pair_auc(collection, metadata, features, "corum", SALIENT))
    assert np.all(np.diff(found) > 0)


def test_files_disagree_a_little_as_the_real_ones(screen):
    _, _, collection, folder = screen("funk22")
    lines = path_in(folder, COMPLEXES).read_text().splitlines()
    derived = {p for line in lines[:-1] for p in combinations(sorted(line.split("\t")[1].split()), 2)}
    table = pd.read_csv(path_in(folder, PAIRS))
    published = {tuple(sorted(pair)) for pair in table.itertuples(index=False)}
    notes = collection.notes["corum pairs"]
    assert notes["disagreeing"] == len(derived ^ published) > 0
    assert notes["both"] == len(derived & published)
    assert set(collection.excluded["what"]) == {"gene", "complex"}


@pytest.mark.mirror
def test_layout_is_that_of_the_real_files(screen, mirror):
    folder = screen("funk22")[3]
    real = pd.read_parquet(mirror / NOTEBOOK / "df_standardized_mitosis.parquet")
    made = pd.read_parquet(path_in(folder, EMBEDDING))
    assert list(made.columns) == list(real.columns)
    assert made.index.name == real.index.name
    assert made.dtypes.to_dict() == real.dtypes.to_dict()
    assert "nontargeting" in made.index
    assert made.index.drop("nontargeting").str.startswith("SIMG").all()
    import json

    groups = json.loads((mirror / NOTEBOOK / "modified_functional_clusters.json").read_text())
    assert set(groups.values()) == set(GROUPS)
