"""Training a method on one fold of a screen, resuming where it was interrupted, and what is kept of it."""

from __future__ import annotations

import logging
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch.utils.data import DataLoader

from morphobench.errors import DataError, SpecError
from morphobench.images.store import ImageStore
from morphobench.learning.augment import CentreCrop, MultiCrop
from morphobench.learning.data import ScreenData
from morphobench.learning.model import Trained, read_trained, write_model
from morphobench.learning.monitor import SELECTIONS, Monitor
from morphobench.learning.runs import LAST, DivergedError, Hardware, hashed
from morphobench.learning.training import TrainingModule


class _Feed(LightningDataModule):
    """Gives lightning the mini-batches of this process."""

    def __init__(self, data: ScreenData, workers: int) -> None:
        super().__init__()
        self.data, self.workers = data, workers

    def train_dataloader(self) -> DataLoader:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        pin = self.trainer.strategy.root_device.type == "cuda"
        loader = self.data.loader(rank, world, workers=self.workers, pin=pin)
        # Workers begin to read before lightning names the epoch, and before it has counted a resumed one.
        loader.sampler.set_epoch(self.trainer.global_step // self.data.steps_per_epoch)
        return loader


def digest_of(configuration: Mapping[str, Any], store: ImageStore, facts: Mapping[str, Any]) -> str:
    """Return a name for a model: a hash of its configuration, its images, and what is drawn from them."""
    return hashed({"configuration": configuration, "store": store.facts, "data": facts})


def fit(
    method: TrainingModule,
    data: ScreenData,
    crops: MultiCrop,
    view: CentreCrop,
    *,
    folder: str | Path,
    checkpoints: str | Path,
    configuration: Mapping[str, Any],
    select: str = "knn",
    check_every: int = 1,
    log_every: int = 25,
    checkpoint_every: int = 1,
    hardware: Hardware | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a method and write what is needed to use its encoder elsewhere.

    Parameters
    ----------
    method
        As built from its parameters; the initial weights come from its own seed.
    data
        The fold's training images; of the others only validation images are looked at.
    crops
        How training views are made; put on the method as ``augment``.
    view
        How an image is shown when the network is judged, and later used.
    folder
        Gets ``encoder.safetensors`` (the selected weights), ``head.safetensors`` (the linear layer that predicts
        labels from its features, if there is one), ``model.json`` (configuration, data, selection, versions,
        cost), ``normalisation.parquet``, ``losses.csv`` and ``losses.png``.
    checkpoints
        Where interrupted trainings are kept, each in a folder named by :func:`digest_of`; not among the outputs of
        a workflow, which may be wiped before a second attempt. A training that finds its own goes on from there.
    configuration
        JSON-able, all that determines the result.
    select, check_every, log_every
        See :class:`morphobench.learning.monitor.Monitor`.
    checkpoint_every
        Epochs between checkpoints.
    hardware
        One device, the best there is, if None.
    notes
        More to keep in ``model.json``, which does not determine the result.

    Raises
    ------
    DataError
        If a crop is larger than the images, there are no validation images to select by, or a checkpoint is
        damaged.
    SpecError
        If an option is unknown.
    DivergedError
        If the loss or a weight is not finite; the message names step, learning rate and last good checkpoint.
    """
    folder, hardware = Path(folder), hardware or Hardware()
    _check(method, data, crops, view, select, (check_every, log_every, checkpoint_every))
    facts = {**data.facts, "seed": data.seed, "batch_size": data.batch_size}
    digest = digest_of(configuration, data.store, facts)
    kept = Path(checkpoints) / digest
    folder.mkdir(parents=True, exist_ok=True)
    method.augment = crops
    monitor = Monitor(data, view, folder, select=select, check_every=check_every, log_every=log_every)
    saving = ModelCheckpoint(
        kept,
        filename=LAST.removesuffix(".ckpt"),
        every_n_epochs=checkpoint_every,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    with _quiet():
        trainer = _trainer(method, hardware, [monitor, saving], kept)
        _run(trainer, method, _Feed(data, hardware.workers), kept / LAST)
    if trainer.is_global_zero:
        monitor.write(picture=True)
        facts = {**(notes or {}), "configuration": configuration, "digest": digest}
        _write(folder, method, data, view, monitor, trainer, facts)
    trainer.strategy.barrier()
    return read_trained(folder)


def _run(trainer: Trainer, method: TrainingModule, feed: _Feed, last: Path) -> None:
    """Train, from the last checkpoint on if there is one."""
    if last.exists() and not zipfile.is_zipfile(last):
        raise DataError(f"{last}: not a readable checkpoint; delete it to train from the start")
    resumed = _epoch_of(last) if last.exists() else None
    if resumed is not None:
        print(f"resuming after epoch {resumed} of {method.epochs} from {last}", flush=True)
    try:
        trainer.fit(method, feed, ckpt_path=last if resumed is not None else None)
    except DivergedError as error:
        good = f"the last good checkpoint is {last} (epoch {_epoch_of(last)})" if last.exists() else None
        raise DivergedError(f"{error}; {good or 'there is no checkpoint before it'}") from error


def _check(
    method: TrainingModule,
    data: ScreenData,
    crops: MultiCrop,
    view: CentreCrop,
    select: str,
    intervals: tuple[int, ...],
) -> None:
    crops.check(data.store.shape)
    view.check(data.store.shape)
    if select not in SELECTIONS:
        raise SpecError(f"select is {select!r}, expected one of {', '.join(SELECTIONS)}")
    if min(intervals) < 1:
        raise SpecError(f"check_every, log_every and checkpoint_every are {intervals}, expected 1 or more")
    val = data.split_rows["val"]
    if select == "knn" and not (data.labels[val] >= 0).any():
        raise DataError(
            f"{data.store.folder}: fold {data.fold} has no validation images with a label to select by; select: "
            f"last "
            f"takes the last epoch"
        )
    if method.steps_per_epoch != data.steps_per_epoch:
        raise SpecError(
            f"the method is laid out for {method.steps_per_epoch} steps an epoch, the data have "
            f"{data.steps_per_epoch}"
        )


def _trainer(method: TrainingModule, hardware: Hardware, callbacks: list[Any], kept: Path) -> Trainer:
    gpu = hardware.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    strategy = hardware.strategy
    if strategy == "auto" and hardware.devices > 1:
        strategy = "ddp"
    return Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        strategy=strategy,
        precision=hardware.precision or ("bf16-mixed" if gpu else "32-true"),
        max_epochs=method.epochs,
        callbacks=callbacks,
        # A job is one task that starts its own processes, also where a scheduler's variables suggest otherwise.
        plugins=[LightningEnvironment()],
        default_root_dir=kept,
        logger=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what lightning says about choices that were made on purpose."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for known in (
                "does not have many workers",
                "overridden `on_after_batch_transfer`",
                "Checkpoint directory",
                "already configured with model summary",
                "LeafSpec",
            ):
                warnings.filterwarnings("ignore", message=f".*{known}.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
            yield
    finally:
        logger.setLevel(level)


def _epoch_of(checkpoint: Path) -> int:
    """Return how many epochs a checkpoint has seen."""
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    return int(kept["epoch"]) + 1


def _write(
    folder: Path,
    method: TrainingModule,
    data: ScreenData,
    view: CentreCrop,
    monitor: Monitor,
    trainer: Trainer,
    facts: Mapping[str, Any],
) -> None:
    """Write the selected model."""
    judged = [row for row in monitor.rows if "collapsed" in row]
    chosen = next(row for row in judged if row["epoch"] == monitor.best["epoch"])
    device = trainer.strategy.root_device
    images = data.steps_per_epoch * data.batch_size * method.epochs
    head = monitor.best["head"]
    write_model(
        folder,
        monitor.best["weights"],
        head,
        data.normalisation,
        {
            **facts,
            "backbone": method.encoder.arguments,
            **({"classes": data.classes} if head else {}),
            "data": data.facts,
            "input": view.facts(data.store.channels),
            "selected": {"by": monitor.select, "epoch": monitor.best["epoch"], "score": monitor.best["score"]},
            "collapsed": chosen["collapsed"],
            "embedding_spread": chosen["embedding_spread"],
            "effective_rank": chosen["effective_rank"],
            "cost": {
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
                "devices": trainer.world_size,
                "precision": trainer.precision,
                "epochs": method.epochs,
                "steps": trainer.global_step,
                "seconds": monitor.seconds,
                "check_seconds": sum(row["check_seconds"] for row in judged),
                "images_per_second": images / max(monitor.seconds, 1e-9),
                "parameters": sum(p.numel() for p in method.parameters() if p.requires_grad),
                "encoder_parameters": sum(p.numel() for p in method.encoder.parameters()),
                "gpu_peak_mb": torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None,
            },
        },
    )
