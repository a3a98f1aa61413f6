import numpy as np
import pandas as pd
import pytest

from morphobench.simulate.bbbc021 import IMAGES, MECHANISMS, MOA, PROFILES

from .conftest import excess, explained, path_in

REAL = (
    "raw.githubusercontent.com/broadinstitute/BBBC021_Morpheus_Exercise/a7f514772bbe6ee5aae6c02d96551c19ae5b28e6"
)


def trt(metadata, features):
    rows = (metadata["Metadata_Control"] == "trt").to_numpy()
    return metadata[rows].reset_index(drop=True), features[rows]


@pytest.mark.mirror
def test_headers_are_those_of_the_real_files(screen, mirror):
    folder = screen("bbbc021")[3]
    real = pd.read_csv(mirror / REAL / "input_data" / "BBBC021_v1_image.csv", nrows=5)
    made = pd.read_csv(path_in(folder, IMAGES), nrows=5)
    assert list(made.columns) == list(real.columns)
    real = pd.read_csv(mirror / REAL / "csvs" / "BBBC021_feature_selected_mad_robustize.csv")
    made = pd.read_csv(path_in(folder, PROFILES))
    assert list(made.columns[:5]) == list(real.columns[:5])
    assert {c.split("_")[0] for c in made.columns[5:]} == {"Cells", "Cytoplasm", "Nuclei"}
    assert len(set(made.columns) & set(real.columns)) > 20
    assert set(real["Metadata_moa"]) == set(made["Metadata_moa"]) == {*MECHANISMS, "DMSO"}
    first = (mirror / REAL / "input_data" / "BBBC021_v1_moa.csv").read_text().splitlines()[0]
    assert path_in(folder, MOA).read_text().splitlines()[0] == first


def test_shape_of_the_screen(screen):
    metadata, features, collection, _ = screen("bbbc021")
    assert metadata["Metadata_Batch"].nunique() == 4
    assert metadata["Metadata_Plate"].nunique() == 12
    assert (metadata[metadata["Metadata_Control"] == "negcon"].groupby("Metadata_Plate").size() == 6).all()
    treated, _ = trt(metadata, features)
    assert (treated.groupby("Metadata_Compound")["Metadata_Batch"].nunique() == 2).all()
    assert (treated.groupby("Metadata_MoA")["Metadata_Batch"].nunique() > 2).all()
    assert set(treated["Metadata_MoA"]) == set(MECHANISMS)
    assert np.allclose(np.median(features, axis=0), 0, atol=1e-5)
    assert (collection.excluded["reason"] == "imaged, mechanism unknown, no profile").all()
    assert len(collection.excluded) > 0


def test_zero_treatment_effect_leaves_no_biology(screen):
    found = []
    for seed in range(3):
        parameters = {"treatment_effect": 0.0, "batch_effect": 0.0, "plate_effect": 0.0}
        metadata, features, _, _ = screen("bbbc021", seed=seed, **parameters)
        found.append(excess(features, metadata["Metadata_Perturbation"], seed))
    assert max(np.abs(found)) < 4
    metadata, features, _, _ = screen("bbbc021", batch_effect=0.0)
    assert excess(features, metadata["Metadata_Perturbation"]) > 20


def test_effects_are_monotone(screen):
    shares = [
        explained(screen("bbbc021", batch_effect=s)[1], screen("bbbc021", batch_effect=s)[0]["Metadata_Batch"])
        for s in (0.0, 0.35, 1.0)
    ]
    assert np.all(np.diff(shares) > 0.02)
    shares = []
    for strength in (0.0, 1.0, 3.0):
        metadata, features, _, _ = screen("bbbc021", treatment_effect=strength)
        metadata, features = trt(metadata, features)
        shares.append(explained(features, metadata["Metadata_MoA"]))
    assert np.all(np.diff(shares) > 0.02)
