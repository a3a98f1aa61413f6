"""Small simulated screens, and a plain pre-processing to look at what was planted."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata

from morphobench.datasets.reading import read_dataset
from morphobench.fetch.addresses import relative_path
from morphobench.simulate import bbbc021, funk22, jump

JUMP_FILES = {
    "plate": f"{jump.METADATA}/plate.csv.gz",
    "well": f"{jump.METADATA}/well.csv.gz",
    "compound": f"{jump.METADATA}/compound.csv.gz",
    "perturbation_control": f"{jump.METADATA}/perturbation_control.csv",
    "microscope_config": f"{jump.METADATA}/microscope_config.csv",
    "cellprofiler_version": f"{jump.METADATA}/cellprofiler_version.csv",
    "jump_moa": jump.MOA,
    "mandatory_features": jump.FEATURES,
}
SPECS = {
    "jump": {
        "simulate": jump.simulate,
        "reader": "morphobench.datasets.jump:read",
        "files": JUMP_FILES,
        "plates": {"url": jump.PLATE, "select": {}},
        "small": {"wells": 48, "compounds": 12, "mechanisms": 4, "features": 80},
    },
    "bbbc021": {
        "simulate": bbbc021.simulate,
        "reader": "morphobench.datasets.bbbc021:read",
        "files": {"profiles": bbbc021.PROFILES, "images": bbbc021.IMAGES, "moa": bbbc021.MOA},
        "plates": None,
        "small": {},
    },
    "funk22": {
        "simulate": funk22.simulate,
        "reader": "morphobench.datasets.funk22_published:read",
        "files": {
            "embedding": funk22.EMBEDDING,
            "functions": funk22.FUNCTIONS,
            "corum": funk22.COMPLEXES,
            "corum_pairs": funk22.PAIRS,
        },
        "plates": None,
        "small": {"genes": 200, "complexes": 40},
    },
}


@pytest.fixture
def screen(tmp_path):
    """A function that simulates and reads a screen: metadata, features, the collection and its folder."""

    def make(kind, seed=0, **parameters):
        spec = SPECS[kind]
        folder = tmp_path / f"{kind}-{seed}-{abs(hash(tuple(sorted(parameters.items()))))}"
        spec["simulate"]({**spec["small"], **parameters}, folder, seed)
        files = [{"name": name, "url": url} for name, url in spec["files"].items()]
        collection = read_dataset({"reader": spec["reader"], "files": files, "plates": spec["plates"]}, folder)
        plates = [source.read() for source in collection]
        metadata = pd.concat([p.metadata for p in plates], ignore_index=True)
        return metadata, np.vstack([p.features for p in plates]).astype(float), collection, folder

    return make


def path_in(folder, url):
    return folder / relative_path(url)


def ranked(metadata, features):
    """Rank inverse normal scores by plate: what no shift or scale of a plate survives."""
    out = np.zeros_like(features)
    for rows in metadata.groupby("Metadata_Plate").indices.values():
        block = np.nan_to_num(features[rows])
        out[rows] = norm.ppf((rankdata(block, axis=0) - 0.375) / (len(rows) + 0.25))
    return out[:, out.std(axis=0) > 1e-3]


def explained(features, labels):
    """Share of the variance that lies between labels, over all features (0 to 1)."""
    centred = features - features.mean(axis=0)
    between = 0.0
    for rows in pd.Series(np.arange(len(labels))).groupby(np.asarray(labels)).indices.values():
        between += len(rows) * (centred[rows].mean(axis=0) ** 2).sum()
    return between / (centred**2).sum()


def excess(features, labels, seed=0, permutations=40):
    """How far the share explained is above that of shuffled labels, in their standard deviations."""
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    chance = [explained(features, rng.permutation(labels)) for _ in range(permutations)]
    return (explained(features, labels) - np.mean(chance)) / np.std(chance)
