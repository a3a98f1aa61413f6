"""Recipes of networks of a few thousand parameters, for a store of 16 pixels, that several tests share."""

from __future__ import annotations

from typing import Any

from morphobench.learning.recipes import (
    BYOLRecipe,
    SelfDistillationRecipe,
    SupervisedRecipe,
    UntrainedRecipe,
)
from morphobench.learning.runs import Hardware

CPU = Hardware(accelerator="cpu")
NETWORK: dict[str, Any] = {
    "backbone": "deit_tiny_patch16_224",
    "img_size": 16,
    "patch": 4,
    "dim": 12,
    "depth": 2,
    "heads": 2,
    "normalise": "controls",
    "resize": None,
    "crop": 16,
}
TRAINING: dict[str, Any] = {
    **NETWORK,
    "label": "Metadata_Perturbation",
    "unlabelled": False,
    "unseen": False,
    "subset": "all",
    "batch_size": 16,
    "global_size": 16,
    "global_scale": [0.9, 1.1],
    "ratio": [0.75, 4 / 3],
    "horizontal_flip": 0.5,
    "vertical_flip": 0.5,
    "quarter_turn": 0.5,
    "shift": 0.5,
    "gain": 0.1,
    "offset": 0.1,
    "drop_path": 0.1,
    "epochs": 2,
    "learning_rate": 1e-3,
    "minimum_rate": 1e-5,
    "warmup_epochs": 0,
    "weight_decay": 0.01,
    "final_weight_decay": 0.02,
    "clip": 3.0,
    "select": "knn",
    "check_every": 1,
}
PAIRS: dict[str, Any] = {
    **TRAINING,
    "cross_batch": False,
    "domain": "Metadata_Batch",
    "hint": "Metadata_Perturbation",
    "uniform": "images",
    "momentum": 0.9,
    "final_momentum": 0.99,
    "barlow_weight": 0.0,
    "off_diagonal": None,
    "probe_rate": 0.01,
    "probe_minimum_rate": 1e-8,
    "probe_decay": 1e-3,
}
DINO: dict[str, Any] = {
    **PAIRS,
    "hidden": 16,
    "bottleneck": 8,
    "outputs": 24,
    "student_temperature": 0.1,
    "teacher_temperature": 0.04,
    "final_teacher_temperature": 0.07,
    "temperature_epochs": 2,
    "centre_momentum": 0.9,
    "centre_by_domain": False,
    "dino_weight": 1.0,
    "scale_by_entropy": True,
    "same_image": True,
    "freeze_last_epochs": 1,
    "local_crops": 2,
    "local_size": 8,
    "local_scale": [0.3, 0.5],
}
CDCL: dict[str, Any] = {
    **DINO,
    "cross_batch": True,
    "centre_by_domain": True,
    "dino_weight": 0.25,
    "barlow_weight": 0.75,
    "off_diagonal": 0.95,
}
BYOL: dict[str, Any] = {
    **PAIRS,
    "cross_batch": True,
    "projection_hidden": 16,
    "projection": 8,
    "prediction_hidden": 16,
    "byol_weight": 1.0,
}
FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "untrained": (UntrainedRecipe, NETWORK),
    "supervised": (SupervisedRecipe, TRAINING),
    "dino": (SelfDistillationRecipe, DINO),
    "cdcl": (SelfDistillationRecipe, CDCL),
    "byol_cb": (BYOLRecipe, BYOL),
}
TRAINED = [name for name in FAMILIES if name != "untrained"]


def recipe(name, **changed):
    cls, parameters = FAMILIES[name]
    return cls(**{**parameters, **changed})


def train(made, store, folder, checkpoints, fold=0, **options):
    options = {"hardware": CPU, "configuration": {"id": "tiny"}, **options}
    return made.train(store, fold, folder, checkpoints, **options)
