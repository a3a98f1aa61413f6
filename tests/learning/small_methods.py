"""Methods of a few thousand parameters, and views for them, that several tests share.

All in float64 where a test asks for it: a few samples through batch normalisation magnify rounding, and Adam makes
whole steps of gradients that are nothing else.
"""

import torch

from morphobench.learning.methods import BYOL, SelfDistillation, Supervised

BACKBONE = {
    "name": "deit_tiny_patch16_224",
    "channels": 2,
    "pretrained": None,
    "img_size": 8,
    "patch": 4,
    "dim": 8,
    "depth": 2,
    "heads": 2,
}
TRAINING = {
    "epochs": 3,
    "steps_per_epoch": 4,
    "learning_rate": 7e-4,
    "minimum_rate": 1e-5,
    "warmup_epochs": 1,
    "warmup_steps": None,
    "weight_decay": 4e-3,
    "final_weight_decay": 1e-2,
    "clip": 3.0,
    "probe": None,
    "seed": 5,
}
PROBE = {"classes": 3, "learning_rate": 5e-3, "weight_decay": 1e-3, "minimum_rate": 1e-8}
TEACHER = {"backbone": BACKBONE, "drop_path": 0.0, "momentum": 0.9, "final_momentum": 0.99, **TRAINING}
CDCL = {
    "hidden": 12,
    "bottleneck": 6,
    "outputs": 10,
    "student_temperature": 0.1,
    "teacher_temperature": 0.04,
    "final_teacher_temperature": 0.07,
    "temperature_epochs": 2,
    "centre_momentum": 0.9,
    "domain_sizes": [30, 10, 20],
    "dino_weight": 0.25,
    "barlow_weight": 0.75,
    "off_diagonal": 0.95,
    "scale_by_entropy": True,
    "same_image": True,
    "freeze_last_epochs": 1,
    **TEACHER,
}
DINO = {**CDCL, "domain_sizes": None, "dino_weight": 1.0, "barlow_weight": 0.0, "off_diagonal": None}
BYOL_ = {
    "projection_hidden": 12,
    "projection": 6,
    "prediction_hidden": 12,
    "byol_weight": 1.0,
    "barlow_weight": 0.0,
    "off_diagonal": None,
    **TEACHER,
    "final_weight_decay": None,
}


def cdcl(**changes):
    return SelfDistillation(**{**CDCL, **changes})


def dino(**changes):
    return SelfDistillation(**{**DINO, **changes})


def byol(**changes):
    return BYOL(**{**BYOL_, **changes})


def supervised(**changes):
    return Supervised(**{"backbone": BACKBONE, "classes": 3, "drop_path": 0.0, **TRAINING, **changes})


def make_views(samples=6, local=4, seed=0):
    """Two global and some local crops of a few images, float32."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [8, 8] + [4] * local
    return [torch.randn(samples, 2, size, size, generator=generator) for size in sizes]


def make_domains(samples=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, 3, (samples,), generator=generator) for _ in range(2))
