"""What every image method does: from a store of images to a model's folder, and from the folder to profiles."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from morphobench.errors import DataError, SpecError
from morphobench.files import sha256_of
from morphobench.images.store import ImageStore
from morphobench.learning.embed import embed
from morphobench.learning.model import Trained, read_trained
from morphobench.learning.runs import ENCODER, Hardware, origin_of
from morphobench.profiles import Profiles


@dataclass(frozen=True)
class Job:
    """One model to make.

    Attributes
    ----------
    store, fold, folder, checkpoints, hardware
        As given to :meth:`ImageMethod.train`.
    weights
        The file whose weights the backbone starts with, or None for a random start.
    configuration
        JSON-able, all that determines the model besides its images.
    notes
        What else ``model.json`` keeps.
    """

    store: ImageStore
    fold: int
    folder: Path
    checkpoints: Path
    weights: Path | None
    configuration: dict[str, Any]
    notes: dict[str, Any]
    hardware: Hardware


@dataclass(frozen=True, kw_only=True)
class ImageMethod(ABC):
    """A representation of images by a network.

    Subclasses are frozen data classes whose fields are the parameters that a spec may state.

    Parameters
    ----------
    backbone
        A model of timm.
    img_size
        Side in pixels that a transformer's position embedding is made for; None for convolutional networks.
    patch, dim, depth, heads
        Of a transformer, where they shall differ from the named model's.
    normalise
        ``controls``, ``images`` or ``none``, see :meth:`morphobench.learning.normalise.Normalisation.of_store`.
    resize, crop
        How an image is shown when it is embedded, see :class:`morphobench.learning.augment.CentreCrop`.
    seed
        Of all that is random.
    """

    backbone: str
    img_size: int | None
    patch: int | None = None
    dim: int | None = None
    depth: int | None = None
    heads: int | None = None
    normalise: str
    resize: int | None
    crop: int | None
    seed: int = 0

    def train(
        self,
        store: ImageStore | str | Path,
        fold: int,
        folder: str | Path,
        checkpoints: str | Path,
        *,
        configuration: Mapping[str, Any],
        weights: str | Path | None = None,
        start: str | Path | None = None,
        hardware: Hardware | None = None,
    ) -> Trained:
        """Make a model of one fold and write its folder.

        Parameters
        ----------
        store, fold
            The images or their folder, and the number of the fold.
        folder
            Gets the model, see :func:`morphobench.learning.train.fit`.
        checkpoints
            Where an interrupted training is found again. It is known by its recipe, its images, its first weights,
            and ``code`` of the configuration if there is such a key; not by labels or resources.
        configuration
            The resolved spec, JSON-able; kept in ``model.json`` as ``spec``.
        weights
            A file of pretrained weights to start from.
        start
            The folder of another model of the same fold, whose encoder to start from.
        hardware
            What to train on; one device, the best there is, if None.

        Raises
        ------
        SpecError
            If both ``weights`` and ``start`` are given, or a parameter makes no sense.
        DataError
            If images, fold, weights or start do not fit.
        """
        store, hardware = _opened(store), hardware or Hardware()
        first, facts = self._first_weights(fold, weights, start)
        determines = {"class": type(self).__name__, "parameters": asdict(self), **facts}
        if "code" in configuration:
            determines["code"] = configuration["code"]
        notes = {"method": configuration.get("id"), "spec": dict(configuration)}
        job = Job(store, fold, Path(folder), Path(checkpoints), first, determines, notes, hardware)
        with hardware.used():
            return self.make(job)

    def embed(
        self,
        store: ImageStore | str | Path,
        fold: int,
        folder: str | Path,
        *,
        hardware: Hardware | None = None,
    ) -> Profiles:
        """Return the profiles of the images that a fold uses, in the order of the store, by a model's folder.

        Where the model has a linear head, ``Metadata_ProbePrediction`` is the name of the class that it predicts.

        Parameters
        ----------
        store, fold, folder, hardware
            As for :meth:`train`, which must have written the folder.

        Raises
        ------
        DataError
            If the folder has no model, or one of another recipe, fold, seed or other channels.
        """
        store, hardware = _opened(store), hardware or Hardware()
        trained = read_trained(folder)
        self._check_model(trained, store, fold, Path(folder))
        gpu = torch.cuda.is_available() and hardware.accelerator != "cpu"
        provenance = origin_of(trained.facts, self.seed)
        with hardware.used():
            encoder = trained.encoder().to("cuda" if gpu else "cpu")
            profiles = embed(encoder, store, fold, trained.view(), provenance=provenance)
            predicted = trained.predict(profiles.features)
        if predicted is None:
            return profiles
        metadata = profiles.metadata.assign(Metadata_ProbePrediction=predicted)
        return replace(profiles, metadata=metadata)

    def network(self, store: ImageStore) -> dict[str, Any]:
        """Return the arguments of :func:`morphobench.learning.backbones.create_backbone` without weights."""
        sizes = {"patch": self.patch, "dim": self.dim, "depth": self.depth, "heads": self.heads}
        return {"name": self.backbone, "channels": store.shape[0], "img_size": self.img_size, **sizes}

    @abstractmethod
    def make(self, job: Job) -> Trained:
        """Make the model that a job asks for, and write its folder."""

    def _first_weights(
        self, fold: int, weights: str | Path | None, start: str | Path | None
    ) -> tuple[Path | None, dict[str, Any]]:
        if weights is not None and start is not None:
            raise SpecError(
                f"both weights ({weights}) and a model to start from ({start}) are given, expected one"
            )
        if start is not None:
            # Its training images must not be this fold's test images.
            known = read_trained(start).facts["data"]["fold"]
            if known != fold:
                raise DataError(f"{start}: model of fold {known}, expected fold {fold} to start from")
            path = Path(start) / ENCODER
            return path, {"start": sha256_of(path)}
        if weights is None:
            return None, {}
        if not Path(weights).is_file():
            raise DataError(f"{weights}: no such file; expected weights of the backbone")
        return Path(weights), {"weights": sha256_of(weights)}

    def _check_model(self, trained: Trained, store: ImageStore, fold: int, folder: Path) -> None:
        known = trained.facts["configuration"]["parameters"]
        own = json.loads(json.dumps(asdict(self)))
        for key in own:
            if known.get(key) != own[key]:
                raise DataError(f"{folder}: model with {key} {known.get(key)!r}, expected {own[key]!r}")
        if trained.facts["data"]["fold"] != fold:
            raise DataError(f"{folder}: model of fold {trained.facts['data']['fold']}, expected fold {fold}")
        channels = trained.facts["input"]["channels"]
        if channels != list(store.channels):
            raise DataError(
                f"{folder}: model for the channels {', '.join(channels)}, but {store.folder} has "
                f"{', '.join(store.channels)}"
            )


def _opened(store: ImageStore | str | Path) -> ImageStore:
    return store if isinstance(store, ImageStore) else ImageStore(store)
