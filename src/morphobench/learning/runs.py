"""What every training has, on images or on profiles: hardware, a seed of its own, an end, names of its files.

Neither lightning nor timm is imported here: a training that needs neither should not wait for them.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch

from morphobench.errors import MorphobenchError

PACKAGES = ("morphobench", "torch", "lightning", "timm", "numpy", "pandas", "safetensors")
ENCODER, FACTS = "encoder.safetensors", "model.json"
LAST = "last.ckpt"


@dataclass(frozen=True)
class Hardware:
    """What a training runs on.

    Parameters
    ----------
    accelerator, devices, strategy
        As lightning's ``Trainer`` takes them; several devices share each mini-batch by ``ddp``.
    precision
        ``bf16-mixed`` or ``32-true``; None for the first on a GPU and the second elsewhere (bf16 on a CPU is more
        than ten times slower).
    workers
        Reading processes, see :meth:`morphobench.learning.data.ScreenData.loader`.
    threads
        How many threads torch may use on the CPU; None for its default.
    """

    accelerator: str = "auto"
    devices: int = 1
    strategy: str = "auto"
    precision: str | None = None
    workers: int = 0
    threads: int | None = None

    @classmethod
    def of_job(cls, *, gpus: int, threads: int) -> Hardware:
        """Return what a job has that was given so many GPUs and CPU cores.

        Without a GPU all cores compute. With some, a few of the cores read mini-batches ahead of them.
        """
        if not gpus:
            return cls(accelerator="cpu", threads=threads)
        return cls(accelerator="gpu", devices=gpus, workers=min(4, max(0, threads - 1)), threads=threads)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Let torch use that many threads inside the block, and as many as before after it."""
        before = torch.get_num_threads()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class DivergedError(MorphobenchError):
    """A loss is not finite any more; the message names the step and the learning rate."""


@contextmanager
def private_randomness(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Draw torch's random numbers by a seed inside the block, and leave the generators outside as they were.

    Parameters
    ----------
    seed
        Of the CPU's generator, and of the device's if it is a GPU.
    device
        Where else random numbers are drawn.
    """
    gpu = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if gpu else []):
        torch.default_generator.manual_seed(seed)
        if gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that make a model."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    # With the build, such as +cu128, which a package's metadata may leave out.
    return {**found, "torch": str(torch.__version__)}


def hashed(facts: Mapping[str, Any]) -> str:
    """Return a name for a model, 20 hexadecimal digits: a hash of all that determines it."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:20]


def origin_of(facts: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return what the provenance of an embedding says of the model that made it, from its ``model.json``."""
    return {
        "method": facts["method"],
        "method_spec": facts["configuration"]["parameters"],
        "seed": seed,
        "model": facts["digest"],
        "collapsed": facts["collapsed"],
        "selected": facts["selected"],
    }
