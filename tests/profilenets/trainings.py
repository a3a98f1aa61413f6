"""Scaled profiles with something to learn, and tiny recipes, for the tests of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from morphobench.learning.runs import Hardware, private_randomness
from morphobench.profilenets.data import ProfileData
from morphobench.profilenets.model import CellPainTR
from morphobench.profilenets.objectives import Objective
from morphobench.profilenets.recipe import CellPainTRRecipe
from morphobench.profilenets.stages import Stage, train_stage
from morphobench.profiles import Profiles

from .plates import names

CPU = Hardware(accelerator="cpu")
COMPOUNDS = ("DMSO", "KEY0", "KEY1", "KEY2")


def structured(sources: int = 3, plates: int = 3, wells: int = 16, columns: int = 15) -> Profiles:
    """Plates of sources 9, 10, ...: a compound has a profile of its own, which a source stretches and shifts."""
    rng = np.random.default_rng(5)
    effects = rng.normal(size=(len(COMPOUNDS), columns)) * np.array([[0.2], [2], [2], [2]])
    tables, rows = [], []
    for source in range(sources):
        gain, shift = rng.uniform(0.7, 1.3, columns), rng.normal(size=columns)
        for plate in range(plates):
            compound = np.arange(wells) % len(COMPOUNDS)
            features = effects[compound] * gain + shift + 0.2 * rng.normal(size=(wells, columns))
            # Values imputed by zero, which are never masked.
            features[rng.random(features.shape) < 0.05] = 0
            tables.append(features.astype(np.float32))
            rows += [
                {
                    "Metadata_Batch": f"source_{source + 9} run {plate}",
                    "Metadata_Plate": f"plate{source}{plate}",
                    "Metadata_Well": f"A{well:03d}",
                    "Metadata_Perturbation": COMPOUNDS[code],
                    "Metadata_Control": "trt" if code else "negcon",
                    "Metadata_Split": "train",
                    "Metadata_Source": f"source_{source + 9}",
                    "Metadata_MoA": "moa" if code == 1 else None,
                }
                for well, code in enumerate(compound)
            ]
    return Profiles(pd.DataFrame(rows), np.concatenate(tables), names(columns), {"dataset": "toy"})


PARAMETERS = {
    "stage": 1,
    "width": 16,
    "blocks": 2,
    "expansion": 2,
    "dropout": 0.1,
    "order": 2,
    "window": "two_sided",
    "adapter": "shared",
    "epochs": 2,
    "source_epochs": 0,
    "batch_size": 8,
    "learning_rate": 3e-3,
    "weight_decay": 0.0,
    "clip": 1.0,
    "mask_low": 0.05,
    "mask_high": 0.40,
    "grouped": False,
    "contrast": 0.0,
    "temperature": 0.07,
    "reduction": "mean",
    "composition": "plate",
    "plates_at_once": 2,
    "wells": "all",
    "label": "Metadata_Perturbation",
    "source": "Metadata_Source",
    "split": "sources",
    "split_seed": 0,
    "fraction": 0.3,
    "hidden": ["source_11"],
    "unknown": "error",
    "seed": 0,
}
CONTRAST = {"contrast": 1.0, "wells": "all"}
STAGE = {
    1: {},
    2: {"stage": 2, "composition": "source", "source_epochs": 1, **CONTRAST},
    3: {"stage": 3, "composition": "mixed", **CONTRAST},
    "tokens": {"stage": "tokens", "composition": "source"},
}


def recipe(stage: int | str = 1, **changes) -> CellPainTRRecipe:
    return CellPainTRRecipe(**{**PARAMETERS, **STAGE[stage], **changes})


def data(profiles, composition="plate", **changes) -> ProfileData:
    keywords = {"batch_size": 8, "seed": 1, "plates_at_once": 2, "split": {"strategy": "none"}, **changes}
    return ProfileData(profiles, composition=composition, **keywords)


def network(feed: ProfileData, **changes) -> CellPainTR:
    keywords = {"width": 16, "blocks": 2, "expansion": 2, **changes}
    with private_randomness(3):
        return CellPainTR(feed.space.names, len(feed.sources.names), **keywords)


def stage(contrast=0.0, grouped=False, **changes) -> Stage:
    keywords = {
        "epochs": 2,
        "learning_rate": 3e-3,
        "weight_decay": 0.0,
        "clip": 1.0,
        "ratio": (0.05, 0.40),
        "source_epochs": 0,
        "new_sources": False,
        "seed": 7,
        **changes,
    }
    return Stage(objective=Objective(grouped=grouped, contrast=contrast), **keywords)


def trained(net, feed, how, folder: Path, hardware=CPU):
    """Weights and facts after a stage, whose checkpoints are in ``kept``."""
    facts = train_stage(net, feed, how, folder=folder, checkpoints=folder / "kept", hardware=hardware)
    return {name: value.clone() for name, value in net.state_dict().items()}, facts
