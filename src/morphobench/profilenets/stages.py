"""Training CellPainTR, a stage at a time (CellPainTR, sections 3 and A.2 to A.4), resuming where interrupted.

What tells the stages apart is how mini-batches are composed, whether the contrastive loss counts, and what may
change: in stage 2 the source tokens alone at first; for new sources (section D.3) their tokens and nothing else.
The rate is constant: the authors' configured cosine falls to the rate that it starts from.

An epoch of profiles can take days, so checkpoints are also written within epochs. All that is random belongs to
the seed and the number of the epoch, mini-batch or row, so a resumed training has an uninterrupted one's weights.
"""

from __future__ import annotations

import math
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from morphobench.errors import DataError, SpecError
from morphobench.files import atomic_path
from morphobench.learning.collapse import WATCHED, watch
from morphobench.learning.runs import LAST, DivergedError, Hardware, private_randomness
from morphobench.profilenets.data import ProfileData
from morphobench.profilenets.history import History
from morphobench.profilenets.masking import draw_mask, draw_ratio
from morphobench.profilenets.model import CellPainTR
from morphobench.profilenets.objectives import Objective

# Seconds between checkpoints within an epoch.
SAVE_EVERY = 600.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How a network is trained in one stage.

    Parameters
    ----------
    objective
        What is minimised; its ``grouped`` also says how features are masked.
    epochs, learning_rate, weight_decay, clip
        Of AdamW; ``clip`` is the largest norm of the gradient (CellPainTR: 1), None does not clip.
    ratio
        Least and largest share of features that a mini-batch masks (CellPainTR: 0.05 and 0.40).
    source_epochs
        Number of first epochs in which the source tokens alone are trained (CellPainTR: 1 in stage 2).
    new_sources
        Whether the source tokens added last are all that is trained.
    seed
        Of masks, ratios and dropout.
    """

    objective: Objective
    epochs: int
    learning_rate: float
    weight_decay: float
    clip: float | None
    ratio: tuple[float, float]
    source_epochs: int
    new_sources: bool
    seed: int

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 <= self.source_epochs <= self.epochs:
            raise SpecError(
                f"epochs is {self.epochs}, source_epochs {self.source_epochs}; expected 1 or more, and 0 to epochs"
            )
        if not (self.learning_rate > 0 and self.weight_decay >= 0 and (self.clip is None or self.clip > 0)):
            raise SpecError(
                f"learning_rate is {self.learning_rate}, weight_decay {self.weight_decay}, clip {self.clip}; "
                f"expected more than 0, 0 or more, and more than 0 or none"
            )
        draw_ratio(0, 0, 0, *self.ratio)

    def trained(self, network: CellPainTR, epoch: int) -> list[nn.Parameter]:
        """Return what an epoch may change."""
        if self.new_sources:
            return network.new_source_parameters()
        return network.source_parameters() if epoch < self.source_epochs else list(network.parameters())


def device_of(hardware: Hardware) -> torch.device:
    """Return the one device to compute on; SpecError if several are asked for, or a GPU that is not there."""
    if hardware.devices != 1:
        raise SpecError(f"CellPainTR trains on 1 device; found devices {hardware.devices}")
    gpu = torch.cuda.is_available()
    if hardware.accelerator in ("gpu", "cuda") and not gpu:
        raise SpecError(f"accelerator is {hardware.accelerator}, but torch finds no GPU; use cpu or auto")
    return torch.device("cuda" if gpu and hardware.accelerator != "cpu" else "cpu")


@torch.no_grad()
def represent(network: CellPainTR, batch: dict[str, torch.Tensor], device: torch.device) -> np.ndarray:
    """Return the (B, W) float32 representations of a mini-batch, nothing masked but what is absent."""
    values, present, source = (batch[name].to(device) for name in ("values", "present", "source"))
    return network.represent(values, ~present, source).float().cpu().numpy()


def train_stage(
    network: CellPainTR,
    data: ProfileData,
    stage: Stage,
    *,
    folder: Path,
    checkpoints: Path,
    hardware: Hardware,
) -> dict[str, Any]:
    """Train a network, which is changed in place.

    Parameters
    ----------
    network
        With the weights that the stage starts from; it gets the last epoch's.
    data
        Mini-batches in the network's features and sources.
    stage
        How to train.
    folder
        Gets ``losses.csv`` and ``losses.png``.
    checkpoints
        This training's own folder, see :func:`morphobench.learning.train.fit`; a checkpoint in it is gone on from.
    hardware
        One device; ``precision`` as for images.

    Returns
    -------
    dict
        ``selected``, ``collapsed``, ``embedding_spread``, ``effective_rank`` and ``cost``, for ``model.json``.

    Raises
    ------
    DataError
        If a checkpoint is damaged.
    SpecError
        If the device or precision cannot be used.
    DivergedError
        If the loss or a weight is not finite; the message names step, learning rate and last good checkpoint.
    """
    run = _Run(network, data, stage, Path(folder), Path(checkpoints) / LAST, hardware)
    run.resume()
    try:
        run.go()
    except DivergedError as error:
        good = f"the last good checkpoint is {run.last}" if run.last.exists() else "there is no checkpoint"
        raise DivergedError(f"{error}; {good}") from error
    finally:
        network.requires_grad_(True)
    return run.facts()


class _Run:
    """A training and where it stands."""

    def __init__(
        self,
        network: CellPainTR,
        data: ProfileData,
        stage: Stage,
        folder: Path,
        last: Path,
        hardware: Hardware,
    ) -> None:
        self.data, self.stage, self.folder, self.last = data, stage, folder, last
        self.device = device_of(hardware)
        gpu = self.device.type == "cuda"
        self.precision = hardware.precision or ("bf16-mixed" if gpu else "32-true")
        if self.precision not in ("bf16-mixed", "32-true"):
            raise SpecError(f"precision is {self.precision!r}, expected bf16-mixed or 32-true")
        self.network = network.to(self.device)
        self.groups = torch.from_numpy(data.space.groups).to(self.device)
        # What is frozen in an epoch has no gradient and is passed over.
        self.parameters = stage.trained(network, stage.epochs)
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=stage.learning_rate, weight_decay=stage.weight_decay
        )
        self.history = History()
        self.epoch = self.batch = self.step = 0
        self.steps = sum(data.steps(epoch) for epoch in range(stage.epochs))

    def resume(self) -> None:
        """Go on from the last checkpoint, if there is one."""
        if not self.last.exists():
            return
        if not zipfile.is_zipfile(self.last):
            raise DataError(f"{self.last}: not a readable checkpoint; delete it to train from the start")
        kept = torch.load(self.last, map_location=self.device, weights_only=True)
        self.network.load_state_dict(kept["network"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.history.load_state_dict(kept["history"])
        self.epoch, self.batch, self.step = kept["epoch"], kept["batch"], kept["step"]
        print(f"resuming after mini-batch {self.step} of {self.steps} from {self.last}", flush=True)

    def save(self) -> None:
        """Write a checkpoint and the history; DivergedError before weights that are not finite are kept."""
        self.history.pause()
        for name, value in self.network.state_dict().items():
            if not torch.isfinite(value).all():
                raise DivergedError(f"{name} is not finite after {self._where()}; a lower learning rate may help")
        kept = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history.state_dict(),
            **{"epoch": self.epoch, "batch": self.batch, "step": self.step},
        }
        with atomic_path(self.last) as part:
            torch.save(kept, part)
        if self.history.rows:
            self.history.write(self.folder, last=False)
        self.history.begin()

    def go(self) -> None:
        """Train to the end."""
        watched = self._watched()
        self.folder.mkdir(parents=True, exist_ok=True)
        while self.epoch < self.stage.epochs:
            trained = {id(parameter) for parameter in self.stage.trained(self.network, self.epoch)}
            for parameter in self.network.parameters():
                parameter.requires_grad_(id(parameter) in trained)
            self.network.train()
            self._epoch()
            self.history.row(self.epoch + 1, self.step, self.stage.learning_rate, last=True)
            self._judge(watched)
            self.epoch, self.batch = self.epoch + 1, 0
            self.save()
        self.network.eval()
        self.history.write(self.folder)

    def _epoch(self) -> None:
        """Train on what is left of an epoch."""
        self.history.begin()
        saved = time.monotonic()
        for batch in self.data.batches(self.epoch, self.batch):
            self.history.add(self._update(batch), len(batch["row"]))
            self.batch, self.step = self.batch + 1, self.step + 1
            if self.batch < self.data.steps(self.epoch):
                self.history.row(self.epoch + 1, self.step, self.stage.learning_rate, last=False)
                if time.monotonic() - saved >= SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
                    print(f"mini-batch {self.step} of {self.steps}", flush=True)

    def _update(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        """Take one step; return the loss and its parts."""
        stage = self.stage
        ratio = draw_ratio(stage.seed, self.epoch, self.batch, *stage.ratio)
        values, present, source, label, key = (
            batch[name].to(self.device) for name in ("values", "present", "source", "label", "key")
        )
        masked = draw_mask(values, present, key, ratio, self.groups if stage.objective.grouped else None)
        seed = int(np.random.SeedSequence([stage.seed, self.step]).generate_state(1)[0])
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed")
        with private_randomness(seed, self.device), half:
            representations, predicted = self.network(values, masked | ~present, source)
            parts = stage.objective(representations, predicted, values, masked, self.groups, label)
        shown = dict(zip(parts, torch.stack([part.detach() for part in parts.values()]).tolist(), strict=True))
        if not math.isfinite(shown["loss"]):
            raise DivergedError(
                f"loss is {shown['loss']} at {self._where()}, expected a finite number; a lower learning rate "
                f"may help"
            )
        self.optimizer.zero_grad()
        parts["loss"].backward()
        if stage.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.parameters, stage.clip)
        self.optimizer.step()
        return shown

    def _where(self) -> str:
        rate = self.stage.learning_rate
        return f"step {self.step} of {self.steps} (epoch {self.epoch}) with learning rate {rate:.3g}"

    def _watched(self) -> list[dict[str, torch.Tensor]]:
        """Return mini-batches from all over an epoch, on which collapse is watched throughout."""
        steps = self.data.steps(0)
        count = min(steps, max(1, WATCHED // self.data.batch_size))
        return [self.data.batch(0, int(step)) for step in np.linspace(0, steps - 1, count)]

    def _judge(self, watched: list[dict[str, torch.Tensor]]) -> None:
        begun = time.monotonic()
        self.network.eval()
        found = np.concatenate([represent(self.network, batch, self.device) for batch in watched])
        if not np.isfinite(found).all():
            raise DivergedError(f"a representation is not finite after {self._where()}; a lower rate may help")
        seconds = time.monotonic() - begun
        self.history.judge({**watch(found), "check_seconds": seconds}, self.stage.epochs)
        self.history.begin()

    def facts(self) -> dict[str, Any]:
        """Return what ``model.json`` keeps of a finished training."""
        rows, device = self.history.rows, self.device
        gpu = device.type == "cuda"
        watch_facts = {name: rows[-1][name] for name in ("collapsed", "embedding_spread", "effective_rank")}
        wells = len(self.data.rows) * self.stage.epochs
        return {
            "selected": {"by": "last", "epoch": self.stage.epochs, "score": None},
            **watch_facts,
            "cost": {
                "device": torch.cuda.get_device_name(device) if gpu else device.type,
                "devices": 1,
                "precision": self.precision,
                "epochs": self.stage.epochs,
                "steps": self.step,
                "seconds": self.history.seconds,
                "check_seconds": sum(row.get("check_seconds", 0.0) for row in rows),
                "profiles_per_second": wells / max(self.history.seconds, 1e-9),
                "parameters": sum(parameter.numel() for parameter in self.parameters),
                "encoder_parameters": sum(parameter.numel() for parameter in self.network.parameters()),
                "gpu_peak_mb": torch.cuda.max_memory_allocated(device) / 2**20 if gpu else None,
            },
        }
