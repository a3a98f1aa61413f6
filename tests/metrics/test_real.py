"""The metrics on real wells and on the published gene embedding, against independent computations."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, silhouette_samples
from sklearn.metrics.pairwise import cosine_distances

from morphobench.metrics.average_precision import map_replicates
from morphobench.metrics.corum import corum_average_precision, corum_curve
from morphobench.metrics.functions import function_accuracy
from morphobench.metrics.grit import grit
from morphobench.metrics.mechanism import moa_accuracy
from morphobench.metrics.silhouette import silhouette_label
from morphobench.profiles import Profiles

from .conftest import evaluation_of
from .test_average_precision import copairs_map
from .test_grit import loop_grit

pytestmark = pytest.mark.mirror
HOST = "raw.githubusercontent.com"


def only(mirror, pattern):
    (path,) = (mirror / HOST).glob(pattern)
    return path


@pytest.fixture(scope="module")
def wells(mirror):
    frame = pd.read_csv(only(mirror, "broadinstitute/BBBC021*/*/csvs/*.csv"))
    names = [c for c in frame if not c.startswith("Metadata_")]
    control = frame["Metadata_Compound"] == "DMSO"
    dose = frame["Metadata_Compound"] + "@" + frame["Metadata_Concentration"].astype(str)
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": frame["Metadata_Plate"].str.split("_").str[0],
            "Metadata_Plate": frame["Metadata_Plate"],
            "Metadata_Well": frame["Metadata_Well"],
            "Metadata_Perturbation": dose.where(~control, "DMSO"),
            "Metadata_Compound": frame["Metadata_Compound"],
            "Metadata_MoA": frame["Metadata_moa"].where(~control, None),
            "Metadata_Control": np.where(control, "negcon", "trt"),
            "Metadata_Split": "test",
        }
    )
    return Profiles(metadata, frame[names].to_numpy(np.float32), tuple(names))


@pytest.fixture(scope="module")
def embedding(mirror):
    frame = pd.read_parquet(only(mirror, "Genentech/contrastive-ops/*/notebook/df_standardized_mitosis.parquet"))
    genes = frame.index.to_numpy().astype(str)
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": "published",
            "Metadata_Plate": "published",
            "Metadata_Well": genes,
            "Metadata_Perturbation": genes,
            "Metadata_Gene": genes,
            "Metadata_Control": np.where(genes == "nontargeting", "negcon", "trt"),
            "Metadata_Split": "test",
        }
    )
    rows = []
    for line in only(mirror, "recursionpharma/EFAAR*/*/*/*/CORUM_clusters.tsv").read_text().splitlines():
        name, members = line.split("\t")[:2]
        rows += [(gene, name, "corum") for gene in members.split()]
    groups = json.loads(only(mirror, "Genentech/*/*/notebook/modified_functional_clusters.json").read_text())
    rows += [(gene, group, "function") for gene, group in groups.items()]
    names = [str(i) for i in range(64)]
    profiles = Profiles(metadata, frame[names].to_numpy(np.float32), tuple(names))
    return evaluation_of(profiles, pd.DataFrame(rows, columns=["entity", "set", "collection"]))


@pytest.mark.parametrize("negatives", ["control", "treatment"])
def test_map_equals_copairs_on_real_wells(wells, negatives):
    score = map_replicates(evaluation_of(wells), negatives)
    assert score.reason.startswith("3 of 302 treated wells left out") == (negatives == "treatment")
    assert score.value == pytest.approx(copairs_map(wells, negatives), abs=1e-6)


def test_silhouette_and_grit_on_real_wells(wells):
    label = wells.column("Metadata_Perturbation").astype(str)
    expected = (silhouette_samples(wells.features, label).mean() + 1) / 2
    assert silhouette_label(evaluation_of(wells)).value == pytest.approx(expected, abs=1e-5)
    several = np.isin(label, [n for n, c in zip(*np.unique(label, return_counts=True), strict=True) if c > 1])
    assert grit(evaluation_of(wells)).value == pytest.approx(loop_grit(wells.rows(several)), rel=1e-6)


def test_treatments_counted_are_those_of_the_literature(wells):
    # 103 treatments, 92 of which have their mechanism in another batch.
    assert moa_accuracy(evaluation_of(wells)).n == 103
    assert moa_accuracy(evaluation_of(wells), other_batch=True).n == 92


def test_complexes_equal_brute_force_on_the_published_embedding(embedding):
    table = embedding.annotations
    table = table[table["collection"] == "corum"]
    genes = embedding.profiles.column("Metadata_Gene")
    features = embedding.profiles.features[genes != "nontargeting"].astype(np.float64)
    genes = genes[genes != "nontargeting"]
    screened = table[table["entity"].isin(genes)].drop_duplicates()
    shared = screened[screened.groupby("set")["entity"].transform("size") > 1]
    chosen = np.isin(genes, shared["entity"].unique())
    features = ((features - features.mean(axis=0)) / features.std(axis=0))[chosen]
    member = pd.crosstab(shared["entity"], shared["set"]).loc[genes[chosen]].to_numpy(np.float32)
    related, other = (member @ member.T) > 0, ~np.eye(len(member), dtype=bool)
    distance = cosine_distances(features)
    recall, precision = (corum_curve(embedding, part, resamples=2) for part in ("recall", "precision"))
    assert recall["80"].n == len(member)
    for p in (80, 95, 99):
        predicted = (distance <= np.percentile(distance, 100 - p)) | (distance >= np.percentile(distance, p))
        hits = (predicted & related & other).sum()
        # The grid of distances (2e-9) may move a pair or two of 1.4 million across a threshold.
        assert recall[str(p)].value == pytest.approx(hits / (related & other).sum(), abs=1e-4)
        assert precision[str(p)].value == pytest.approx(hits / (predicted & other).sum(), abs=1e-4)
    upper = np.triu_indices(len(member), 1)
    expected = average_precision_score(related[upper], -distance[upper])
    assert corum_average_precision(embedding, resamples=2).value == pytest.approx(expected, abs=1e-5)


def test_functional_groups_of_the_published_embedding_are_above_chance(embedding):
    score = function_accuracy(embedding)
    # 17 groups, the largest with a tenth of the genes.
    assert score.low > 0.3
