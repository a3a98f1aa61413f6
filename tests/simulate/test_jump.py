import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from morphobench.datasets.jump_features import chosen_features
from morphobench.simulate.cellprofiler_names import catalogue, choose_features
from morphobench.simulate.jump import DMSO, FEATURES, METADATA, PLATE, POSITIVES

from .conftest import excess, explained, path_in, ranked

REAL_METADATA = (
    "raw.githubusercontent.com/jump-cellpainting/datasets/016e865fa0691244e0860943e41c7d6a88ed2580/metadata"
)


def plate_paths(folder):
    table = pd.read_csv(path_in(folder, f"{METADATA}/plate.csv.gz"))
    return [
        path_in(folder, PLATE.format(source=s, batch=b, plate=p))
        for s, b, p in table[["Metadata_Source", "Metadata_Batch", "Metadata_Plate"]].itertuples(index=False)
    ]


def test_layout_and_dirt_of_real_files(screen):
    metadata, features, collection, folder = screen("jump", features=200)
    files = [pq.ParquetFile(path) for path in plate_paths(folder)]
    assert len(files) == 12
    orders = [file.schema_arrow.names for file in files]
    assert all(o[:3] == ["Metadata_Source", "Metadata_Plate", "Metadata_Well"] for o in orders)
    assert len({tuple(sorted(o)) for o in orders}) == 2
    assert len({tuple(o) for o in orders}) == 12
    listed = path_in(folder, FEATURES).read_text().split()
    assert all(set(listed) <= set(o) for o in orders)
    assert sum(len(o) - 3 - len(listed) for o in orders) == 6
    assert any(name.startswith("Image_") for name in listed)
    assert np.isnan(features).any()
    assert not np.isnan(features).all(axis=0).any()
    assert (features[:, ~np.isnan(features).any(axis=0)].std(axis=0) == 0).any()
    spread = np.nanstd(features, axis=0)
    assert np.log10(spread[spread > 0].max() / spread[spread > 0].min()) > 4
    assert (np.nanmedian(features, axis=0) < 0).any()
    reasons = set(collection.excluded["reason"])
    assert {"no label in the well table", "untreated well", "profiled, but not in the well table"} <= reasons
    assert "in the well table, but not profiled" in reasons


def test_some_features_are_near_duplicates(screen):
    metadata, features, _, _ = screen("jump", source_effect=0.0, batch_effect=0.0, plate_effect=0.0)
    scores = ranked(metadata, features)
    close = np.abs(np.corrcoef(scores.T)) > 0.9
    assert (close.sum(axis=0) > 1).mean() > 0.05


def test_controls_have_their_real_ids(screen):
    metadata, _, _, _ = screen("jump")
    ids = metadata.groupby("Metadata_Control")["Metadata_JCP2022"].unique()
    assert list(ids["negcon"]) == [DMSO]
    assert set(ids["poscon"]) == set(POSITIVES)
    assert all(re.fullmatch(r"JCP2022_7\d{5}", jcp) for jcp in ids["trt"])
    treatments = metadata[metadata["Metadata_Control"] != "negcon"]["Metadata_Perturbation"]
    assert treatments.str.fullmatch("SIMULATED[A-Z]{5}-UHFFFAOYSA-N").all()


@pytest.mark.mirror
def test_tables_have_the_real_columns_and_controls(screen, mirror):
    folder = screen("jump")[3]
    for name in ("plate.csv.gz", "perturbation_control.csv", "microscope_config.csv"):
        real = pd.read_csv(mirror / REAL_METADATA / name)
        made = pd.read_csv(path_in(folder, f"{METADATA}/{name}"))
        assert list(made.columns) == list(real.columns)
    real = pd.read_csv(mirror / REAL_METADATA / "perturbation_control.csv")
    made = pd.read_csv(path_in(folder, f"{METADATA}/perturbation_control.csv"))
    assert len(made.merge(real)) == len(made)
    microscopes = pd.read_csv(mirror / REAL_METADATA / "microscope_config.csv")
    made = pd.read_csv(path_in(folder, f"{METADATA}/microscope_config.csv"))
    key = ["Metadata_Source", "Metadata_Microscope_Name"]
    assert len(made[key].merge(microscopes[key])) == len(made)


def test_catalogue_is_cellprofiler_like():
    names = [feature.name for feature in catalogue()]
    assert len(set(names)) == len(names)
    assert [f.name for f in choose_features(400)] == sorted(f.name for f in choose_features(400))
    chosen = chosen_features(names, {"dyes": ["DNA", "ER", "RNA", "AGP", "Mito"], "compartments": ["Cells"]})
    assert chosen
    assert all(name.startswith("Cells_") for name in chosen)
    families = {f.family for f in choose_features(120)}
    assert families == {f.family for f in catalogue()}


def test_zero_treatment_effect_leaves_no_biology(screen):
    found = []
    for seed in range(3):
        metadata, features, _, _ = screen("jump", seed=seed, treatment_effect=0.0)
        found.append(excess(ranked(metadata, features), metadata["Metadata_Perturbation"], seed))
    assert max(np.abs(found)) < 4
    metadata, features, _, _ = screen("jump", treatment_effect=1.0)
    assert excess(ranked(metadata, features), metadata["Metadata_Perturbation"]) > 20


def test_treatment_effect_raises_biology(screen):
    shares = []
    for strength in (0.0, 0.5, 1.0, 2.0):
        metadata, features, _, _ = screen("jump", treatment_effect=strength)
        shares.append(explained(ranked(metadata, features), metadata["Metadata_Perturbation"]))
    assert np.all(np.diff(shares) > 0)


def batch_accuracy(metadata, features):
    """Cross-validated nearest-centroid accuracy for the batch on products of neighbouring scores."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import cross_val_score

    scores = PCA(20, random_state=0).fit_transform(ranked(metadata, features))
    forest = RandomForestClassifier(60, random_state=0)
    return cross_val_score(forest, scores, metadata["Metadata_Batch"], cv=3).mean()


def test_batch_effect_survives_ranks_by_plate_and_grows(screen):
    found = []
    for strength in (0.0, 0.7, 2.0):
        metadata, features, _, _ = screen(
            "jump", batch_effect=strength, source_effect=strength, plate_effect=0.0, treatment_effect=0.5
        )
        found.append(batch_accuracy(metadata, features))
    assert found[0] < 0.3
    assert found[0] + 0.1 < found[1] < found[2]


def test_batch_effect_moves_raw_features(screen):
    shares = []
    for strength in (0.0, 0.5, 1.5):
        metadata, features, _, _ = screen(
            "jump", batch_effect=strength, source_effect=0.0, plate_effect=0.0, missing=0.0
        )
        scale = features.std(axis=0)
        shares.append(explained((features / np.where(scale > 0, scale, 1)), metadata["Metadata_Batch"]))
    assert np.all(np.diff(shares) > 0.05)


def test_mechanisms_share_a_direction(screen):
    metadata, features, _, folder = screen(
        "jump", treatment_effect=3.0, source_effect=0.0, batch_effect=0.0, plate_effect=0.0, position_effect=0.0
    )
    truth = pd.read_csv(folder / "truth.tsv", sep="\t").set_index("perturbation")
    scores = pd.DataFrame(ranked(metadata, features)).groupby(metadata["Metadata_Perturbation"]).median()
    scores = scores.loc[[p for p in scores.index if truth.loc[p, "kind"] == "trt"]]
    mechanism = truth.loc[scores.index, "mechanism"].to_numpy()
    unit = scores.to_numpy() / np.linalg.norm(scores.to_numpy(), axis=1, keepdims=True)
    cosine = unit @ unit.T
    same = mechanism[:, None] == mechanism
    other = ~np.eye(len(unit), dtype=bool)
    assert cosine[same & other].mean() > cosine[~same].mean() + 0.4
