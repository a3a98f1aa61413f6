"""A small screen: three weeks, two plates each, compounds at two doses, four mechanisms, DMSO."""

import numpy as np
import pandas as pd
import pytest

from morphobench.profiles import Profiles


@pytest.fixture
def profiles() -> Profiles:
    rng = np.random.default_rng(0)
    treatments = [(f"c{i}", dose, f"moa{i % 4}") for i in range(12) for dose in (1, 2)]
    rows = []
    for week in range(3):
        for plate in range(2):
            wells = [("DMSO", 0, None)] * 4 + treatments
            rows += [(week, f"w{week}p{plate}", f"A{n:02d}", *well) for n, well in enumerate(wells)]
    frame = pd.DataFrame(rows, columns=["week", "plate", "well", "compound", "dose", "moa"])
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": "week" + frame["week"].astype(str),
            "Metadata_Plate": frame["plate"],
            "Metadata_Well": frame["well"],
            "Metadata_Perturbation": np.where(
                frame["dose"] > 0, frame["compound"] + "@" + frame["dose"].astype(str), "DMSO"
            ),
            "Metadata_Compound": frame["compound"],
            "Metadata_MoA": frame["moa"],
            "Metadata_Control": np.where(frame["dose"] > 0, "trt", "negcon"),
            "Metadata_Split": np.where(frame["plate"].str.endswith("1"), "test", "train"),
        }
    )
    features = rng.normal(size=(len(frame), 10)).astype(np.float32)
    names = tuple(f"salient_{i}" for i in range(5)) + tuple(f"background_{i}" for i in range(5))
    return Profiles(metadata, features, names, {"dataset": "toy"})
