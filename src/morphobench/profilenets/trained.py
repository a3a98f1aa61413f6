"""A trained CellPainTR on disk: what its folder holds, and how it is used without what trained it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from morphobench.errors import DataError
from morphobench.files import atomic_path, write_json
from morphobench.learning.runs import ENCODER, FACTS, versions
from morphobench.profilenets.features import FeatureSpace
from morphobench.profilenets.model import CellPainTR
from morphobench.profilenets.sources import Sources


@dataclass(frozen=True)
class TrainedNetwork:
    """A model as its folder holds it.

    Attributes
    ----------
    folder
        Where it was read.
    weights
        Of the network (``encoder.safetensors``).
    facts
        ``model.json``.
    """

    folder: Path
    weights: dict[str, torch.Tensor]
    facts: dict[str, Any]

    @cached_property
    def space(self) -> FeatureSpace:
        """The features that the network knows."""
        return FeatureSpace.from_facts(self.facts["features"])

    @property
    def sources(self) -> Sources:
        """The sources that it has tokens for."""
        return Sources(tuple(self.facts["sources"]))

    def network(self) -> CellPainTR:
        """Return the network with its weights, in evaluation mode."""
        network = CellPainTR(names=self.space.names, **self.facts["network"])
        network.load_state_dict(self.weights)
        return network.eval().requires_grad_(False)


def write_network(
    folder: Path, network: CellPainTR, space: FeatureSpace, sources: Sources, facts: Mapping[str, Any]
) -> None:
    """Write a model's folder, ``model.json`` last; features, sources and ``versions`` are added to its facts."""
    folder.mkdir(parents=True, exist_ok=True)
    # Copies, since a filter's layers share their frequencies, which a file of separate tensors cannot.
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    with atomic_path(folder / ENCODER) as part:
        save_file(weights, part)
    arguments = {name: value for name, value in network.arguments.items() if name != "names"}
    own = {"network": arguments, "features": space.facts(), "sources": list(sources.names)}
    write_json(folder / FACTS, {**facts, **own, "versions": versions()})


def read_network(folder: str | Path) -> TrainedNetwork:
    """Read a model's folder.

    Raises
    ------
    DataError
        If there is no complete model of profiles in it.
    """
    folder = Path(folder)
    for name in (FACTS, ENCODER):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: no such file; expected the folder of a trained model")
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    if not {"network", "features", "sources"} <= facts.keys():
        raise DataError(f"{folder}: model of method {facts.get('method')}, expected one of CellPainTR's stages")
    return TrainedNetwork(folder, load_file(folder / ENCODER), facts)
