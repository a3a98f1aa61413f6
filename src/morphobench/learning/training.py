"""What all methods do alike around their loss: rates, clipping, probe, randomness, and stopping when it breaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional

from morphobench.errors import SpecError
from morphobench.learning import schedules
from morphobench.learning.joint import joint_sum, precise, rank
from morphobench.learning.runs import DivergedError


class TrainingModule(LightningModule):
    """Base of the methods: AdamW with schedules, an optional online probe, and hooks that lightning calls.

    A mini-batch is a dict with ``views`` (or what ``augment`` makes them of), ``label``, and for methods that need
    them ``domain`` and ``partner_domain``. ``training_step`` returns the parts of the loss for callbacks.

    Parameters
    ----------
    epochs, steps_per_epoch
        Length of training in optimiser steps; all schedules are laid out for it.
    learning_rate, minimum_rate
        Peak, and both ends of the schedule, see :func:`morphobench.learning.schedules.warmup_cosine`.
    warmup_epochs, warmup_steps
        Length of the rise, one of the two; neither is no rise.
    weight_decay, final_weight_decay
        Start and end of a cosine; constant if the end is None. Biases and other one-dimensional parameters do not
        decay (DINO's code, CDCL's code).
    clip
        Largest norm of the gradient; None does not clip. The probe is left out.
    probe
        None, or ``classes``, ``learning_rate``, ``weight_decay`` and ``minimum_rate`` of a linear layer that
        predicts labels from features while they are learnt, and from which nothing flows back. Its rate follows a
        cosine that restarts each epoch, and its decay is Adam's (added to the gradient), as in CDCL's code.
    seed
        Of the initial weights, and with step and process of stochastic depth.

    Attributes
    ----------
    augment
        None, or a function of a mini-batch on its device that returns the views. Called when a mini-batch has no
        ``views``.
    """

    def __init__(
        self,
        *,
        epochs: int,
        steps_per_epoch: int,
        learning_rate: float,
        minimum_rate: float,
        warmup_epochs: int | None,
        warmup_steps: int | None,
        weight_decay: float,
        final_weight_decay: float | None,
        clip: float | None,
        probe: Mapping[str, Any] | None,
        seed: int,
    ) -> None:
        super().__init__()
        if warmup_epochs is not None and warmup_steps is not None:
            raise SpecError("both warmup_epochs and warmup_steps are given, expected one of them")
        self.epochs, self.steps_per_epoch = epochs, steps_per_epoch
        self.steps = epochs * steps_per_epoch
        warmup = warmup_epochs * steps_per_epoch if warmup_epochs is not None else (warmup_steps or 0)
        self.learning_rate = schedules.warmup_cosine(learning_rate, minimum_rate, self.steps, warmup)
        final = weight_decay if final_weight_decay is None else final_weight_decay
        self.weight_decay = schedules.cosine(weight_decay, final, self.steps)
        self.clip = clip
        self.seed = seed
        self.augment: Callable[[dict[str, Any]], list[Tensor]] | None = None
        self.probe: nn.Linear | None = None
        self._probe_settings = dict(probe) if probe is not None else None

    @staticmethod
    def loss_weights(
        first: float, barlow: float, off_diagonal: float | None, name: str = "dino"
    ) -> dict[str, float]:
        """Return the weights of two losses, checked."""
        if min(first, barlow) < 0 or first + barlow == 0:
            raise SpecError(f"{name}_weight is {first}, barlow_weight {barlow}; expected one above 0, none below")
        if barlow and off_diagonal is None:
            raise SpecError(f"barlow_weight is {barlow}, off_diagonal not given; expected a number from 0 to 1")
        return {name: first, "barlow": barlow}

    @property
    def linear_head(self) -> nn.Linear | None:
        """The linear layer that predicts labels from the encoder's features, if there is one."""
        return self.probe

    # Losses ---------------------------------------------------------------------------------------------------

    def training_loss(
        self, views: list[Tensor], domains: tuple[Any, Any], labels: Tensor | None, step: int
    ) -> dict[str, Tensor]:
        """Return ``loss`` and its parts."""
        raise NotImplementedError

    def step_seed(self, step: int) -> int:
        """Return a seed for this step on this process; a resumed run draws what an uninterrupted one does."""
        return int(np.random.SeedSequence([self.seed, step, rank()]).generate_state(1)[0])

    def add_probe(self, features: int) -> None:
        """Add the online probe on that many features, if there is to be one."""
        if self._probe_settings is not None:
            self.probe = nn.Linear(features, self._probe_settings["classes"])
            self.probe_rate = schedules.cosine_restarts(
                self._probe_settings["learning_rate"],
                self._probe_settings["minimum_rate"],
                self.steps_per_epoch,
                self.steps,
            )

    def probe_loss(self, features: Tensor, labels: Tensor | None) -> dict[str, Tensor]:
        """Return the probe's cross-entropy as ``probe``, and its accuracy; nothing without a probe."""
        if self.probe is None:
            return {}
        logits = precise(self.probe(features.detach()))
        accuracy = (logits.detach().argmax(-1) == labels).float().mean()
        return {"probe": functional.cross_entropy(logits, labels), "probe_accuracy": accuracy}

    def _probe_decay(self) -> Tensor:
        """Half the squared weights times the decay, whose gradient is what Adam's weight decay adds."""
        squares = torch.stack([p.square().sum() for p in self.probe.parameters()]).sum()
        return self._probe_settings["weight_decay"] / 2 * squares

    def check_finite(self, loss: Tensor, step: int) -> None:
        """Stop before a loss that is not finite reaches the weights; on all processes together.

        Raises
        ------
        DivergedError
            If the loss of any process is NaN or infinite.
        """
        broken = joint_sum((~torch.isfinite(loss.detach())).float())
        if broken.item():
            rate = schedules.value_at(self.learning_rate, step)
            raise DivergedError(
                f"loss is {loss.item()} at step {step} of {self.steps} (epoch {step // self.steps_per_epoch}) "
                f"with learning rate {rate:.3g}, expected a finite number; a lower learning rate may help"
            )

    # Lightning's hooks ----------------------------------------------------------------------------------------

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make the views of a training mini-batch on its device."""
        if self.augment is not None and self.trainer.training and "views" not in batch:
            batch = {**batch, "views": self.augment(batch)}
        return batch

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Return the sum to minimise as ``loss``, the method's own as ``objective``, and its parts, detached."""
        step = self.global_step
        own, partner = batch.get("domain"), batch.get("partner_domain")
        domains = (own, own if partner is None else partner)
        parts = self.training_loss(batch["views"], domains, batch.get("label"), step)
        total = parts["loss"]
        if self.probe is not None:
            total = total + parts["probe"] + self._probe_decay()
        self.check_finite(total, step)
        shown = {name: part.detach() for name, part in parts.items() if name != "loss"}
        return {**shown, "objective": parts["loss"].detach(), "loss": total}

    def configure_optimizers(self) -> torch.optim.AdamW:
        """Return AdamW over parameters that decay, that do not, and the probe's; rates are set at each step."""
        groups: dict[str, list[nn.Parameter]] = {"decayed": [], "plain": [], "probe": []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                own = "plain" if parameter.ndim == 1 or name.endswith(".bias") else "decayed"
                groups["probe" if name.startswith("probe.") else own].append(parameter)
        return torch.optim.AdamW(
            [{"params": members, "name": name} for name, members in groups.items() if members],
            lr=float(self.learning_rate[0]),
            weight_decay=0.0,
        )

    def set_rates(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Put the learning rates and weight decay of a step into the optimiser's groups."""
        for group in optimizer.param_groups:
            rate = self.probe_rate if group["name"] == "probe" else self.learning_rate
            group["lr"] = schedules.value_at(rate, step)
            group["weight_decay"] = (
                schedules.value_at(self.weight_decay, step) if group["name"] == "decayed" else 0.0
            )

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Take a step at the rates of its number, then do what follows it."""
        step = self.global_step
        self.set_rates(optimizer, step)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.after_step(step)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of all gradients but the probe's, then cancel those of frozen parts."""
        if self.clip is not None:
            trained = (p for name, p in self.named_parameters() if not name.startswith("probe."))
            torch.nn.utils.clip_grad_norm_(trained, self.clip)
        self.cancel_gradients(self.global_step)

    def cancel_gradients(self, step: int) -> None:
        """Drop gradients of parts that this step must not train."""

    def after_step(self, step: int) -> None:
        """Do what follows the optimiser's step number ``step``."""
