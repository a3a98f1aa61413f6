"""A trained model on disk: what its folder holds, and how it is used without what trained it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from morphobench.errors import DataError
from morphobench.files import atomic_path, write_json
from morphobench.learning.augment import CentreCrop
from morphobench.learning.backbones import Backbone, create_backbone
from morphobench.learning.normalise import Normalisation
from morphobench.learning.runs import ENCODER, FACTS, versions

HEAD, NORMALISATION = "head.safetensors", "normalisation.parquet"


@dataclass(frozen=True)
class Trained:
    """A model as its folder holds it.

    Attributes
    ----------
    weights
        Of the selected encoder (``encoder.safetensors``).
    facts
        ``model.json``.
    normalisation
        ``normalisation.parquet``.
    head
        ``weight`` (classes, D) and ``bias`` (classes,) of the linear layer that was trained on the encoder's
        features up to the same epoch (``head.safetensors``), or None if there was none.
    """

    weights: dict[str, torch.Tensor]
    facts: dict[str, Any]
    normalisation: Normalisation
    head: dict[str, torch.Tensor] | None = None

    def encoder(self) -> Backbone:
        """Return the network with its weights, in evaluation mode. Nothing is downloaded."""
        backbone = create_backbone(**self.facts["backbone"], pretrained=None)
        backbone.load_state_dict(self.weights)
        return backbone.eval().requires_grad_(False)

    def view(self, normalisation: Normalisation | None = None) -> CentreCrop:
        """Return how an image is shown to the network.

        Parameters
        ----------
        normalisation
            Of other images than those the model was trained and tested on; its own by default.
        """
        shown = self.facts["input"]
        return CentreCrop(normalisation or self.normalisation, resize=shown["resize"], size=shown["size"])

    def predict(self, features: np.ndarray) -> np.ndarray | None:
        """Return the names of the classes that the head predicts for (N, D) features; None without a head."""
        if self.head is None:
            return None
        logits = torch.from_numpy(features) @ self.head["weight"].T + self.head["bias"]
        return np.asarray(self.facts["classes"], dtype=object)[logits.argmax(1).numpy()]


def write_model(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    head: Mapping[str, torch.Tensor] | None,
    normalisation: Normalisation,
    facts: Mapping[str, Any],
) -> None:
    """Write a model's folder, ``model.json`` last; ``versions`` are added to its facts."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in ((ENCODER, weights), (HEAD, head)):
        if tensors is None:
            (folder / name).unlink(missing_ok=True)
        else:
            with atomic_path(folder / name) as part:
                save_file({key: value.contiguous() for key, value in tensors.items()}, part)
    normalisation.save(folder / NORMALISATION)
    write_json(folder / FACTS, {**facts, "versions": versions()})


def no_cost(encoder: Backbone) -> dict[str, Any]:
    """Return the facts about cost, named as those of a training, of a model that was not trained."""
    nothing = dict.fromkeys(("epochs", "steps", "seconds", "check_seconds", "parameters"), 0)
    unknown = dict.fromkeys(("images_per_second", "gpu_peak_mb"))
    size = sum(p.numel() for p in encoder.parameters())
    made = {"device": "cpu", "devices": 1, "precision": "32-true", "encoder_parameters": size}
    return {**made, **nothing, **unknown}


def read_trained(folder: str | Path) -> Trained:
    """Read a model's folder.

    Raises
    ------
    DataError
        If there is no complete model in it.
    """
    folder = Path(folder)
    for name in (FACTS, ENCODER, NORMALISATION):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: no such file; expected the folder of a trained model")
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    head = load_file(folder / HEAD) if (folder / HEAD).is_file() else None
    return Trained(load_file(folder / ENCODER), facts, Normalisation.read(folder / NORMALISATION), head)
