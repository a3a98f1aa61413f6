"""Training methods: weak supervision, DINO and BYOL with their cross-batch, Barlow and CDCL variants.

Variants are parameters. DINO is :class:`SelfDistillation` with one centre and no Barlow loss; DINO-CB is the same
on views from two images; CDCL has a centre for each domain and both losses; DINO-BL has the Barlow loss alone.
BYOL, BYOL-CB and BYOL-BL are :class:`BYOL` in the same way. Which images the views come from is up to the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from morphobench.learning import schedules
from morphobench.learning.backbones import Backbone, create_backbone
from morphobench.learning.heads import DINOHead, byol_predictor, byol_projector
from morphobench.learning.joint import precise
from morphobench.learning.losses import Centres, barlow_loss, byol_loss, dino_loss, view_pairs
from morphobench.learning.runs import private_randomness
from morphobench.learning.training import TrainingModule

Domains = tuple[Tensor | None, Tensor | None]


def encode(backbone: nn.Module, views: Sequence[Tensor]) -> list[Tensor]:
    """Return each view's (B, D) features, with one forward pass for neighbouring views of one size."""
    features: list[Tensor] = []
    for _, group in groupby(views, key=lambda view: view.shape):
        same = list(group)
        features += backbone(torch.cat(same)).chunk(len(same))
    return features


@torch.no_grad()
def move_towards(average: nn.Module, module: nn.Module, momentum: float) -> None:
    """Exponential moving average of parameters: average <- momentum average + (1 - momentum) module."""
    for kept, new in zip(average.parameters(), module.parameters(), strict=True):
        kept.lerp_(new, 1 - momentum)


@torch.no_grad()
def spread(features: Tensor) -> Tensor:
    """Return how far L2-normalised features differ in a mini-batch: 0 if all are equal, about 1 if isotropic.

    Standard deviation over samples, mean over features, times sqrt(D) (SimSiam, Chen and He 2021, section 4.1).
    """
    return functional.normalize(precise(features), dim=-1).std(0).mean() * math.sqrt(features.shape[-1])


class Supervised(TrainingModule):
    """Weak supervision: the treatment is predicted by a linear layer on the backbone, all of it trained.

    CDCL, sections 3.1 and 4 and appendix B. The same class fine-tunes on mechanisms of action: the labels are then
    those, and the backbone's weights come from a file.

    Parameters
    ----------
    backbone
        Arguments of :func:`morphobench.learning.backbones.create_backbone` other than ``drop_path``.
    classes
        Number of labels.
    drop_path
        Stochastic depth.
    **training
        See :class:`morphobench.learning.training.TrainingModule`.
    """

    def __init__(self, *, backbone: Mapping[str, Any], classes: int, drop_path: float, **training: Any) -> None:
        super().__init__(**training)
        with private_randomness(self.seed):
            self.backbone = create_backbone(**backbone, drop_path=drop_path)
            self.classifier = nn.Linear(self.backbone.num_features, classes)

    @property
    def encoder(self) -> Backbone:
        """The network that makes representations."""
        return self.backbone

    @property
    def linear_head(self) -> nn.Linear:
        """The classifier."""
        return self.classifier

    def training_loss(
        self, views: Sequence[Tensor], domains: Domains, labels: Tensor | None, step: int
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of (B,) labels given the first view."""
        with private_randomness(self.step_seed(step), views[0].device):
            features = self.backbone(views[0])
        logits = precise(self.classifier(features))
        return {"loss": functional.cross_entropy(logits, labels), "spread": spread(features.detach())}


class Encoder(nn.Module):
    """A backbone and the head that is trained on it."""

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head


class TeacherStudent(TrainingModule):
    """What DINO and BYOL share: a student that is trained, and a teacher that is its moving average.

    Parameters
    ----------
    backbone
        Arguments of :func:`morphobench.learning.backbones.create_backbone` other than ``drop_path``.
    head
        Makes a head for a number of features.
    drop_path
        Stochastic depth of the student's backbone; the teacher has none.
    momentum, final_momentum
        Of the teacher, at the first and towards the last step of a cosine.
    probe
        Online linear probe, see :class:`morphobench.learning.training.TrainingModule`; it reads the features of
        the encoder's first view.
    """

    def __init__(
        self,
        *,
        backbone: Mapping[str, Any],
        head: Callable[[int], nn.Module],
        drop_path: float,
        momentum: float,
        final_momentum: float,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        with private_randomness(self.seed):
            network = create_backbone(**backbone, drop_path=drop_path)
            self.student = Encoder(network, head(network.num_features))
            # Its own random start is overwritten, so the file of weights need not be read again.
            network = create_backbone(**{**backbone, "pretrained": None})
            self.teacher = Encoder(network, head(network.num_features))
            self.add_probe(network.num_features)
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False)
        self.momentum = schedules.cosine(momentum, final_momentum, self.steps)

    def after_step(self, step: int) -> None:
        """Move the teacher towards the student that step ``step`` has made."""
        move_towards(self.teacher, self.student, schedules.value_at(self.momentum, step))

    def student_features(self, views: Sequence[Tensor], step: int) -> list[Tensor]:
        """Return the student's features of each view; stochastic depth is drawn by seed, step and process."""
        with private_randomness(self.step_seed(step), views[0].device):
            return encode(self.student.backbone, views)


class SelfDistillation(TeacherStudent):
    """DINO (Caron et al. 2021) and CDCL (Haslum et al. 2023, section 3.3).

    loss = ``dino_weight`` DINO + ``barlow_weight`` Barlow, each a mean over the pairs of views.

    Parameters
    ----------
    hidden, bottleneck, outputs
        Widths of :class:`morphobench.learning.heads.DINOHead`.
    student_temperature
        Constant.
    teacher_temperature, final_teacher_temperature, temperature_epochs
        Of :func:`morphobench.learning.schedules.temperature`.
    centre_momentum
        Of the centres.
    domain_sizes
        Training images of each domain, for a centre each (CDCL); None for one centre (DINO).
    dino_weight, barlow_weight
        CDCL: 0.25 and 0.75; DINO: 1 and 0; DINO-BL: 0 and 1. A loss of weight 0 is not computed.
    off_diagonal
        Of :func:`morphobench.learning.losses.barlow_loss`; None without Barlow loss.
    scale_by_entropy
        Whether the DINO loss is divided by ln ``outputs``, as in CDCL's code.
    same_image
        Of :func:`morphobench.learning.losses.view_pairs`.
    freeze_last_epochs
        Epochs in which the head's last layer is not trained.
    **shared
        See :class:`TeacherStudent`.
    """

    def __init__(
        self,
        *,
        hidden: int,
        bottleneck: int,
        outputs: int,
        student_temperature: float,
        teacher_temperature: float,
        final_teacher_temperature: float,
        temperature_epochs: int,
        centre_momentum: float,
        domain_sizes: Sequence[int] | np.ndarray | None,
        dino_weight: float,
        barlow_weight: float,
        off_diagonal: float | None,
        scale_by_entropy: bool,
        same_image: bool,
        freeze_last_epochs: int,
        **shared: Any,
    ) -> None:
        super().__init__(head=lambda width: DINOHead(width, hidden, bottleneck, outputs), **shared)
        self.weights = self.loss_weights(dino_weight, barlow_weight, off_diagonal)
        self.centres = Centres(outputs, centre_momentum, domain_sizes)
        self.student_temperature = student_temperature
        self.temperature = schedules.temperature(
            teacher_temperature, final_teacher_temperature, temperature_epochs, self.epochs, self.steps_per_epoch
        )
        self.off_diagonal = off_diagonal
        self.scale = math.log(outputs) if scale_by_entropy else 1.0
        self.same_image = same_image
        self.freeze_last_epochs = freeze_last_epochs

    @property
    def encoder(self) -> Backbone:
        """The network that makes representations: the teacher's backbone (DINO, section 3.1; CDCL's code)."""
        return self.teacher.backbone

    def training_loss(
        self, views: Sequence[Tensor], domains: Domains, labels: Tensor | None, step: int
    ) -> dict[str, Tensor]:
        """Return the loss of a mini-batch and what it is made of, and move the centres.

        Parameters
        ----------
        views
            Two global crops (B, C, H, W), then any number of local ones; of two images, the first global crop and
            the first half of the local ones are the first image's.
        domains
            (B,) int64 domain codes of the images of the two global crops.
        labels
            (B,) int64, for the probe only.
        step
            Number of the optimiser step, from 0.

        Returns
        -------
        dict
            ``loss``; ``dino`` and ``barlow`` before weighting; ``centre_norm``, the mean length of the centres;
            ``entropy`` of the teacher's mean probabilities as a share of ln K, 0 if all are one output; ``spread``
            of the teacher's features; ``probe``, which is not in ``loss``.
        """
        with torch.no_grad():
            features = encode(self.teacher.backbone, views[:2])
            logits = self.teacher.head(torch.cat(features))
            origin = torch.cat(domains)
            centred = torch.stack((logits - self.centres(origin)).chunk(2))
        students = self.student.head(torch.cat(self.student_features(views, step)))
        students = torch.stack(students.chunk(len(views)))
        pairs = view_pairs(len(views), same_image=self.same_image)
        heat = schedules.value_at(self.temperature, step)
        parts: dict[str, Tensor] = {}
        if self.weights["dino"]:
            parts["dino"] = dino_loss(centred, students, pairs, heat, self.student_temperature) / self.scale
        if self.weights["barlow"]:
            # The temperature matters only beside the constant that keeps variances from 0.
            sharp = students / self.student_temperature
            terms = [barlow_loss([centred[t]], [sharp[s]], self.off_diagonal) for t, s in pairs]
            parts["barlow"] = torch.stack(terms).mean()
        loss = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        self.centres.update(logits, origin)
        with torch.no_grad():
            mean = functional.softmax(centred / heat, dim=-1).mean((0, 1))
            parts["entropy"] = torch.special.entr(mean).sum() / math.log(len(mean))
            parts["centre_norm"] = self.centres.values.norm(dim=-1).mean()
            parts["spread"] = spread(features[0])
        return {"loss": loss, **parts, **self.probe_loss(features[0], labels)}

    def cancel_gradients(self, step: int) -> None:
        """Drop the gradient of the head's last layer in the first epochs (DINO's and CDCL's code: 1 epoch)."""
        if step < self.freeze_last_epochs * self.steps_per_epoch:
            for parameter in self.student.head.last_layer.parameters():
                parameter.grad = None


class BYOL(TeacherStudent):
    """BYOL (Grill et al. 2020), as in CDCL's section 3.2 and code, and its Barlow variant (CDCL, Table 3).

    Parameters
    ----------
    projection_hidden, projection
        Widths of the projector.
    prediction_hidden
        Hidden width of the predictor.
    byol_weight, barlow_weight
        BYOL: 1 and 0; BYOL-BL: 0 and 1. A loss of weight 0 is not computed.
    off_diagonal
        Of :func:`morphobench.learning.losses.barlow_loss`; None without Barlow loss.
    **shared
        See :class:`TeacherStudent`.
    """

    def __init__(
        self,
        *,
        projection_hidden: int,
        projection: int,
        prediction_hidden: int,
        byol_weight: float,
        barlow_weight: float,
        off_diagonal: float | None,
        **shared: Any,
    ) -> None:
        super().__init__(head=lambda width: byol_projector(width, projection_hidden, projection), **shared)
        self.weights = self.loss_weights(byol_weight, barlow_weight, off_diagonal, name="byol")
        self.off_diagonal = off_diagonal
        with private_randomness(self.seed + 1):
            self.predictor = byol_predictor(projection, prediction_hidden, projection)

    @property
    def encoder(self) -> Backbone:
        """The network that makes representations: the student's backbone (BYOL, section 3.1; CDCL's code)."""
        return self.student.backbone

    def training_loss(
        self, views: Sequence[Tensor], domains: Domains, labels: Tensor | None, step: int
    ) -> dict[str, Tensor]:
        """Return the loss of a mini-batch of two views: ``loss``, its parts, ``spread`` and ``probe``.

        Batch normalisation sees one view at a time.
        """
        features = self.student_features(views, step)
        predictions = [self.predictor(self.student.head(f)) for f in features]
        with torch.no_grad():
            targets = [self.teacher.head(f) for f in encode(self.teacher.backbone, views)]
        parts: dict[str, Tensor] = {}
        if self.weights["byol"]:
            parts["byol"] = byol_loss(predictions, targets)
        if self.weights["barlow"]:
            parts["barlow"] = barlow_loss(predictions, targets[::-1], self.off_diagonal)
        loss = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        parts["spread"] = spread(features[0].detach())
        return {"loss": loss, **parts, **self.probe_loss(features[0].detach(), labels)}
