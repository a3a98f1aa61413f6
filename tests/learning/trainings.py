"""A tiny CDCL training that the tests of training share, also those in processes of their own."""

from __future__ import annotations

from pathlib import Path

from morphobench.images.store import ImageStore
from morphobench.learning.augment import CentreCrop, MultiCrop, View
from morphobench.learning.data import ScreenData
from morphobench.learning.methods import SelfDistillation
from morphobench.learning.runs import Hardware
from morphobench.learning.train import fit

BACKBONE = {
    "name": "deit_tiny_patch16_224",
    "channels": 3,
    "pretrained": None,
    "img_size": 16,
    "patch": 4,
    "dim": 12,
    "depth": 2,
    "heads": 2,
}
CPU = Hardware(accelerator="cpu")


def tiny_method(data: ScreenData, epochs: int, **changed) -> SelfDistillation:
    parameters = {
        "backbone": BACKBONE,
        "hidden": 16,
        "bottleneck": 8,
        "outputs": 24,
        "student_temperature": 0.1,
        "teacher_temperature": 0.04,
        "final_teacher_temperature": 0.07,
        "temperature_epochs": 2,
        "centre_momentum": 0.9,
        "domain_sizes": data.domain_sizes,
        "dino_weight": 0.25,
        "barlow_weight": 0.75,
        "off_diagonal": 0.95,
        "scale_by_entropy": True,
        "same_image": True,
        "freeze_last_epochs": 1,
        "drop_path": 0.3,
        "momentum": 0.9,
        "final_momentum": 0.99,
        "epochs": epochs,
        "steps_per_epoch": data.steps_per_epoch,
        "learning_rate": 1e-3,
        "minimum_rate": 1e-5,
        "warmup_epochs": None,
        "warmup_steps": 2,
        "weight_decay": 0.01,
        "final_weight_decay": 0.1,
        "clip": 3.0,
        "probe": None,
        "seed": 0,
    }
    return SelfDistillation(**{**parameters, **changed})


def train(store: ImageStore, folder: Path, checkpoints: Path, *, epochs=3, crops=None, method=None, **options):
    """Train from scratch, or on from a checkpoint, with objects of its own."""
    data = options.pop("data", None) or ScreenData(store, 0, batch_size=16, seed=5, cross_batch=True)
    normalisation = data.normalisation
    made = MultiCrop(View(16, (0.9, 1.1)), View(8, (0.3, 0.5)), normalisation, locals_=2)
    built = tiny_method(data, epochs) if method is None else method(data, epochs)
    options = {"hardware": CPU, "log_every": 2, **options}
    return fit(
        built,
        data,
        made if crops is None else crops(made),
        CentreCrop(normalisation, size=16),
        folder=folder,
        checkpoints=checkpoints,
        configuration={"method": "tiny", "epochs": epochs},
        **options,
    )
