"""What is watched while a network trains: losses, speed, validation, collapse; and the table and picture of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, Trainer
from torch import nn

from morphobench.files import atomic_path
from morphobench.learning.augment import CentreCrop
from morphobench.learning.collapse import LEAST_RANK, LEAST_SPREAD, WATCHED, draw_collapse, watch
from morphobench.learning.data import ScreenData
from morphobench.learning.embed import features_of
from morphobench.learning.runs import DivergedError
from morphobench.learning.training import TrainingModule
from morphobench.metrics.accuracy import knn_predictions
from morphobench.report.figures_style import COLOURS, pyplot, save

# Seconds between pictures during training; drawing one takes half a second.
DRAW_EVERY = 60.0
SELECTIONS = ("knn", "last")


class Monitor(Callback):
    """Keeps the history of a training, judges the network on validation images, and keeps the best encoder.

    The history and the best weights are part of every checkpoint, so that a resumed training has those of an
    uninterrupted one. The test images are never looked at.

    Parameters
    ----------
    data
        The fold.
    view
        How an image is shown when it is judged.
    folder
        Where ``losses.csv`` and ``losses.png`` go.
    select
        ``knn``: keep the encoder of the epoch with the highest weighted k-NN accuracy (k = 10) of the validation
        images among the training images; of equal ones the first. ``last``: keep the last.
    check_every
        Epochs between judgements; the last epoch is always judged.
    log_every
        Steps that one row of the history is the mean of.

    Attributes
    ----------
    rows
        The history, one dict a row.
    best
        ``epoch`` (from 1), ``score`` (None for ``last``), ``weights`` of the selected encoder, and ``head``, those
        of the linear layer on its features at that epoch (None if there is none).
    """

    def __init__(
        self,
        data: ScreenData,
        view: CentreCrop,
        folder: Path,
        *,
        select: str = "knn",
        check_every: int = 1,
        log_every: int = 25,
    ) -> None:
        self.data, self.view, self.folder = data, view, folder
        self.select, self.check_every, self.log_every = select, check_every, log_every
        self.rows: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.seconds = 0.0
        self._sums: dict[str, torch.Tensor] = {}
        self._steps = 0
        self._begun = self._drawn = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"rows": self.rows, "best": self.best, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.rows, self.best = list(state_dict["rows"]), dict(state_dict["best"])
        self.seconds = state_dict["seconds"]

    def on_train_start(self, trainer: Trainer, pl_module: TrainingModule) -> None:
        """Begin to measure time."""
        self._begun = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TrainingModule, outputs: Mapping[str, Any], batch: Any, batch_idx: int
    ) -> None:
        """Add up the parts of the loss, on the device; a row when there are enough."""
        for name, value in outputs.items():
            if torch.is_tensor(value):
                self._sums[name] = self._sums.get(name, 0.0) + value.detach().float()
        self._steps += 1
        if self._steps == self.log_every:
            self._add_row(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainingModule) -> None:
        """Judge the network, before the epoch's checkpoint is written."""
        if self._steps:
            self._add_row(trainer, pl_module)
        self._check_weights(trainer, pl_module)
        epoch = trainer.current_epoch + 1
        last = epoch == trainer.max_epochs
        if trainer.is_global_zero and (last or epoch % self.check_every == 0):
            self._judge(trainer, pl_module, epoch, last)
            self.write(picture=time.monotonic() - self._drawn > DRAW_EVERY)
        trainer.strategy.barrier()

    def _add_row(self, trainer: Trainer, module: TrainingModule) -> None:
        names = sorted(self._sums)
        values = torch.stack([self._sums[name] for name in names]) / self._steps
        values = trainer.strategy.reduce(values, reduce_op="mean").tolist()
        parts = dict(zip(names, values, strict=True))
        loss = parts.pop("loss")
        now = time.monotonic()
        passed, self._begun = now - self._begun, now
        self.seconds += passed
        groups = {g.get("name"): g for g in trainer.optimizers[0].param_groups}
        trained = groups.get("decayed") or trainer.optimizers[0].param_groups[0]
        self.rows.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "seconds": self.seconds,
                "images_per_second": self._steps * self.data.batch_size / max(passed, 1e-9),
                "learning_rate": trained["lr"],
                "weight_decay": trained["weight_decay"],
                "loss": parts.pop("objective", loss),
                **parts,
            }
        )
        module.log("loss", self.rows[-1]["loss"], prog_bar=True, logger=False)
        self._sums, self._steps = {}, 0

    def _check_weights(self, trainer: Trainer, module: TrainingModule) -> None:
        """Raise DivergedError before weights that are not finite are kept as a checkpoint."""
        for name, value in module.state_dict().items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                rate = trainer.optimizers[0].param_groups[0]["lr"]
                raise DivergedError(
                    f"{name} is not finite after step {trainer.global_step - 1} of "
                    f"{trainer.estimated_stepping_batches} "
                    f"(epoch {trainer.current_epoch}) with learning rate {rate:.3g}; a lower learning rate may "
                    f"help"
                )

    def _judge(self, trainer: Trainer, module: TrainingModule, epoch: int, last: bool) -> None:
        begun = time.monotonic()
        kept = self.data.split_rows["val"]
        kept = kept[self.data.labels[kept] >= 0] if self.select == "knn" else kept
        rows = kept if len(kept) else self.data.rows
        if self.select == "last":
            rows = rows[np.linspace(0, len(rows) - 1, min(WATCHED, len(rows))).astype(int)]
        features = self._features(trainer, module, rows)
        found: dict[str, Any] = {}
        if self.select == "knn":
            bank = self.data.split_rows["train"]
            bank = bank[self.data.labels[bank] >= 0]
            predicted = knn_predictions(self._features(trainer, module, bank), self.data.labels[bank], features)
            found["val_knn"] = float((predicted == self.data.labels[rows]).mean())
        found |= watch(features[np.linspace(0, len(rows) - 1, min(WATCHED, len(rows))).astype(int)])
        better = not self.best or (self.select == "knn" and found["val_knn"] > self.best["score"])
        if better or (self.select == "last" and last):
            self.best = {
                "epoch": epoch,
                "score": found.get("val_knn"),
                "weights": _copied(module.encoder),
                "head": _copied(module.linear_head) if module.linear_head is not None else None,
            }
        self.rows[-1] |= {**found, "check_seconds": time.monotonic() - begun}
        self._begun = time.monotonic()
        self._say(epoch, trainer.max_epochs)

    def _features(self, trainer: Trainer, module: TrainingModule, rows: np.ndarray) -> np.ndarray:
        half = torch.bfloat16 if trainer.precision == "bf16-mixed" else None
        return features_of(module.encoder, self.data.store, rows, self.view, precision=half)

    def _say(self, epoch: int, epochs: int | None) -> None:
        row = self.rows[-1]
        knn = f", k-NN accuracy on validation {row['val_knn']:.3f}" if "val_knn" in row else ""
        print(
            f"epoch {epoch} of {epochs}: loss {row['loss']:.4g}{knn}, spread {row['embedding_spread']:.3f}, "
            f"effective "
            f"rank {row['effective_rank']:.1f}, {row['images_per_second']:.0f} images/s",
            flush=True,
        )
        if row["collapsed"]:
            print(
                f"warning: the features collapse (spread below {LEAST_SPREAD:g} or effective rank below "
                f"{LEAST_RANK:g}): images are hardly told apart after epoch {epoch}",
                flush=True,
            )

    def write(self, *, picture: bool) -> None:
        """Write ``losses.csv``, and ``losses.png`` if there is to be a picture."""
        table = pd.DataFrame(self.rows)
        with atomic_path(self.folder / "losses.csv") as part:
            table.to_csv(part, index=False)
        if picture:
            draw_losses(table, self.folder / "losses.png")
            self._drawn = time.monotonic()


def _copied(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def draw_losses(table: pd.DataFrame, path: Path) -> None:
    """Draw the history of a training: losses and rate, validation, collapse watch, each over steps."""
    known = {"epoch", "step", "seconds", "images_per_second", "learning_rate", "weight_decay", "collapsed"}
    known |= {"val_knn", "embedding_spread", "effective_rank", "check_seconds", "loss"}
    judged = table[table["embedding_spread"].notna()] if "embedding_spread" in table else table.iloc[:0]
    with pyplot() as plt:
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.4), constrained_layout=True)
        for colour, name in zip(COLOURS, ["loss", *[c for c in table if c not in known]], strict=False):
            left.plot(table["step"], table[name], color=colour, label=name, lw=2 if name == "loss" else 1)
        left.set(xlabel="step", title="Losses and their parts")
        left.legend(frameon=False)
        if "val_knn" in judged:
            middle.plot(judged["step"], judged["val_knn"], color=COLOURS[0], marker="o", ms=3)
        middle.set(xlabel="step", title="k-NN accuracy on validation", ylim=(0, None))
        rate = middle.twinx()
        rate.plot(table["step"], table["learning_rate"], color="#8A8A8A", lw=1)
        rate.set_ylabel("learning rate (grey)")
        draw_collapse(right, judged, "step", "features")
        save(figure, path)
