"""The recipes of image methods: data classes of parameters, which specs name and fill.

The families differ in the training module that they build and in their views: :class:`SupervisedRecipe` (weak
supervision, and fine-tuning on mechanisms), :class:`SelfDistillationRecipe` (DINO, DINO-CB, CDCL, DINO-BL),
:class:`BYOLRecipe` (BYOL, BYOL-CB, BYOL-BL) and :class:`UntrainedRecipe` (ImageNet weights as they are).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from morphobench.corrections.apply import build
from morphobench.images.store import ImageStore
from morphobench.learning.augment import CentreCrop, MultiCrop, View
from morphobench.learning.backbones import create_backbone
from morphobench.learning.collapse import WATCHED, watch
from morphobench.learning.data import ScreenData
from morphobench.learning.embed import features_of
from morphobench.learning.image_method import ImageMethod, Job
from morphobench.learning.methods import BYOL, SelfDistillation, Supervised
from morphobench.learning.model import Trained, no_cost, read_trained, write_model
from morphobench.learning.normalise import Normalisation
from morphobench.learning.runs import Hardware, private_randomness
from morphobench.learning.train import digest_of, fit
from morphobench.learning.training import TrainingModule

__all__ = [
    "BYOLRecipe",
    "Hardware",
    "SelfDistillationRecipe",
    "SupervisedRecipe",
    "UntrainedRecipe",
    "build_recipe",
]


def build_recipe(spec: dict[str, Any], seed: int) -> ImageMethod:
    """Return the recipe that a resolved method spec names; SpecError if it names none or other parameters."""
    return build(spec, ImageMethod, seed)


@dataclass(frozen=True, kw_only=True)
class UntrainedRecipe(ImageMethod):
    """The network with the weights it is given, or a random start: nothing is trained, no losses are written."""

    def make(self, job: Job) -> Trained:
        """Make the model that a job asks for, and write its folder."""
        store = job.store
        normalisation = Normalisation.of_store(store, self.normalise)
        view = CentreCrop(normalisation, resize=self.resize, size=self.crop)
        with private_randomness(self.seed):
            encoder = create_backbone(**self.network(store), pretrained=job.weights)
        rows = {split: store.rows(job.fold, split) for split in ("train", "val", "test")}
        looked = rows["val"] if len(rows["val"]) else rows["train"]
        looked = looked[np.linspace(0, len(looked) - 1, min(WATCHED, len(looked))).astype(int)]
        facts = {
            **job.notes,
            "configuration": job.configuration,
            "digest": digest_of(job.configuration, store, {"fold": job.fold}),
            "backbone": encoder.arguments,
            "data": {
                "fold": job.fold,
                "images": {split: len(found) for split, found in rows.items()},
                "trained_on": 0,
            },
            "input": view.facts(store.channels),
            "selected": {"by": "none", "epoch": 0, "score": None},
            **watch(features_of(encoder, store, looked, view)),
            "cost": no_cost(encoder),
        }
        write_model(job.folder, encoder.state_dict(), None, normalisation, facts)
        return read_trained(job.folder)


@dataclass(frozen=True, kw_only=True)
class TrainedRecipe(ImageMethod):
    """What all trainings share.

    Parameters
    ----------
    label
        Column of the classes: what supervision and the online probe predict, and what k-NN on validation images is
        scored by.
    unlabelled, unseen, subset, batch_size
        See :class:`morphobench.learning.data.ScreenData`; the last, incomplete mini-batch is left out.
    global_size, global_scale
        Side in pixels of a large crop, and the range of its area as a share of the image's.
    ratio, horizontal_flip, vertical_flip, quarter_turn, shift, gain, offset
        Of all crops, see :class:`morphobench.learning.augment.View`.
    drop_path
        Stochastic depth of the network that is trained.
    epochs, learning_rate, minimum_rate, warmup_epochs, warmup_steps, weight_decay, final_weight_decay, clip
        See :class:`morphobench.learning.training.TrainingModule`.
    select, check_every
        See :class:`morphobench.learning.monitor.Monitor`.
    """

    label: str
    unlabelled: bool
    unseen: bool
    subset: str
    batch_size: int
    global_size: int
    global_scale: tuple[float, float]
    ratio: tuple[float, float]
    horizontal_flip: float
    vertical_flip: float
    quarter_turn: float
    shift: float
    gain: float
    offset: float
    drop_path: float
    epochs: int
    learning_rate: float
    minimum_rate: float
    warmup_epochs: int | None
    warmup_steps: int | None = None
    weight_decay: float
    final_weight_decay: float | None
    clip: float | None
    select: str
    check_every: int
    global_crops: ClassVar[int]

    @abstractmethod
    def module(self, data: ScreenData, backbone: dict[str, Any]) -> TrainingModule:
        """Return what is trained, on a backbone of these arguments."""

    def data(self, store: ImageStore, fold: int) -> ScreenData:
        """Return the training images of a fold."""
        return ScreenData(store, fold, **self._data_options(store))

    def crops(self, normalisation: Normalisation) -> MultiCrop:
        """Return how training views are made."""
        return MultiCrop(
            self._view(self.global_size, self.global_scale),
            None,
            normalisation,
            globals_=self.global_crops,
            locals_=0,
        )

    def _data_options(self, store: ImageStore) -> dict[str, Any]:
        return {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "normalisation": Normalisation.of_store(store, self.normalise),
            "label": self.label,
            "unlabelled": self.unlabelled,
            "unseen": self.unseen,
            "subset": self.subset,
        }

    def _view(self, size: int, scale: tuple[float, float]) -> View:
        return View(
            size,
            tuple(scale),
            tuple(self.ratio),
            self.horizontal_flip,
            self.vertical_flip,
            self.quarter_turn,
            self.shift,
            self.gain,
            self.offset,
        )

    def _training(self, data: ScreenData, backbone: dict[str, Any]) -> dict[str, Any]:
        """Return what every training module takes."""
        return {
            "backbone": backbone,
            "drop_path": self.drop_path,
            "epochs": self.epochs,
            "steps_per_epoch": data.steps_per_epoch,
            "learning_rate": self.learning_rate,
            "minimum_rate": self.minimum_rate,
            "warmup_epochs": self.warmup_epochs,
            "warmup_steps": self.warmup_steps,
            "weight_decay": self.weight_decay,
            "final_weight_decay": self.final_weight_decay,
            "clip": self.clip,
            "seed": self.seed,
        }

    def make(self, job: Job) -> Trained:
        """Make the model that a job asks for, and write its folder."""
        data = self.data(job.store, job.fold)
        crops = self.crops(data.normalisation)
        # Before a network is built.
        crops.check(job.store.shape)
        return fit(
            self.module(data, {**self.network(job.store), "pretrained": job.weights}),
            data,
            crops,
            CentreCrop(data.normalisation, resize=self.resize, size=self.crop),
            folder=job.folder,
            checkpoints=job.checkpoints,
            configuration=job.configuration,
            select=self.select,
            check_every=self.check_every,
            hardware=job.hardware,
            notes=job.notes,
        )


@dataclass(frozen=True, kw_only=True)
class SupervisedRecipe(TrainedRecipe):
    """Weak supervision by treatments, and fine-tuning by mechanisms (CDCL, sections 3.1 and 4): one view."""

    global_crops = 1

    def module(self, data: ScreenData, backbone: dict[str, Any]) -> Supervised:
        """Return the network and its classifier."""
        return Supervised(classes=len(data.classes), probe=None, **self._training(data, backbone))


@dataclass(frozen=True, kw_only=True)
class SelfSupervisedRecipe(TrainedRecipe):
    """What DINO and BYOL share.

    Parameters
    ----------
    cross_batch, domain, hint, uniform
        See :class:`morphobench.learning.data.ScreenData`.
    momentum, final_momentum
        Of the teacher.
    barlow_weight, off_diagonal
        Of the Barlow loss.
    probe_rate, probe_minimum_rate, probe_decay
        Of the online linear probe; with a rate of None there is none.
    """

    cross_batch: bool
    domain: str
    hint: str | list[str]
    uniform: str
    momentum: float
    final_momentum: float
    barlow_weight: float
    off_diagonal: float | None
    probe_rate: float | None
    probe_minimum_rate: float
    probe_decay: float
    global_crops = 2

    def _data_options(self, store: ImageStore) -> dict[str, Any]:
        own = {"cross_batch": self.cross_batch, "domain": self.domain, "hint": self.hint, "uniform": self.uniform}
        return {**super()._data_options(store), **own}

    def _training(self, data: ScreenData, backbone: dict[str, Any]) -> dict[str, Any]:
        probe = None
        if self.probe_rate is not None:
            probe = {
                "classes": len(data.classes),
                "learning_rate": self.probe_rate,
                "minimum_rate": self.probe_minimum_rate,
                "weight_decay": self.probe_decay,
            }
        return {
            **super()._training(data, backbone),
            "probe": probe,
            "momentum": self.momentum,
            "final_momentum": self.final_momentum,
            "barlow_weight": self.barlow_weight,
            "off_diagonal": self.off_diagonal,
        }


@dataclass(frozen=True, kw_only=True)
class SelfDistillationRecipe(SelfSupervisedRecipe):
    """DINO and CDCL, see :class:`morphobench.learning.methods.SelfDistillation`.

    Parameters
    ----------
    centre_by_domain
        Whether each domain has a centre of its own (CDCL).
    local_crops, local_size, local_scale
        Number, side and area of the small crops.
    """

    hidden: int
    bottleneck: int
    outputs: int
    student_temperature: float
    teacher_temperature: float
    final_teacher_temperature: float
    temperature_epochs: int
    centre_momentum: float
    centre_by_domain: bool
    dino_weight: float
    scale_by_entropy: bool
    same_image: bool
    freeze_last_epochs: int
    local_crops: int
    local_size: int
    local_scale: tuple[float, float]

    def crops(self, normalisation: Normalisation) -> MultiCrop:
        """Return how training views are made."""
        return MultiCrop(
            self._view(self.global_size, self.global_scale),
            self._view(self.local_size, self.local_scale),
            normalisation,
            globals_=self.global_crops,
            locals_=self.local_crops,
        )

    def module(self, data: ScreenData, backbone: dict[str, Any]) -> SelfDistillation:
        """Return student, teacher and centres."""
        return SelfDistillation(
            hidden=self.hidden,
            bottleneck=self.bottleneck,
            outputs=self.outputs,
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
            final_teacher_temperature=self.final_teacher_temperature,
            temperature_epochs=self.temperature_epochs,
            centre_momentum=self.centre_momentum,
            domain_sizes=data.domain_sizes if self.centre_by_domain else None,
            dino_weight=self.dino_weight,
            scale_by_entropy=self.scale_by_entropy,
            same_image=self.same_image,
            freeze_last_epochs=self.freeze_last_epochs,
            **self._training(data, backbone),
        )


@dataclass(frozen=True, kw_only=True)
class BYOLRecipe(SelfSupervisedRecipe):
    """BYOL, see :class:`morphobench.learning.methods.BYOL`: two large views."""

    projection_hidden: int
    projection: int
    prediction_hidden: int
    byol_weight: float

    def module(self, data: ScreenData, backbone: dict[str, Any]) -> BYOL:
        """Return student, predictor and teacher."""
        return BYOL(
            projection_hidden=self.projection_hidden,
            projection=self.projection,
            prediction_hidden=self.prediction_hidden,
            byol_weight=self.byol_weight,
            **self._training(data, backbone),
        )
