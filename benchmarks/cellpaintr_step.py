"""One training step of CellPainTR at the paper's size: 3,255 features, 3,257 tokens of width 256, four blocks.

Values and labels are random numbers, names those of CellProfiler; everything else (masks, loss, clipping, AdamW)
is what a training does, by the code that trains, with the parameters of specs/methods. Each case runs in a process
of its own, whose peak memory is its own ("idle" is before there is a network). The first step is not timed, and of
the others the one that took least CPU time is shown. "forward" is masking, network and loss; "backward" ends after
clipping. CPU time of two threads includes what they wait for each other.

With --peer, the authors' code is timed on the same mini-batches: a checkout of their repository, see
cellpaintr_peer.py.

Usage: python benchmarks/cellpaintr_step.py [--batch 4 16] [--stage 1|3] [--steps 2] [--threads 1 2]
    [--device cpu|cuda] [--precision ...] [--features 3255 | --lengths 257 1025 3257]
    [--peer DIR [--agree]] [--convolution]
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from morphobench.learning.runs import Hardware
from morphobench.profilenets.data import ProfileData
from morphobench.profilenets.hyena import fft_convolution
from morphobench.profilenets.model import CellPainTR
from morphobench.profilenets.objectives import Objective
from morphobench.profilenets.profile_method import ProfileMethod, build_recipe
from morphobench.profilenets.stages import Stage, train_stage
from morphobench.profiles import Profiles
from morphobench.simulate.cellprofiler_names import CHANNELS, COMPARTMENTS
from morphobench.specs.lines import load_yaml
from morphobench.specs.methods import at_scale, inherited

SPECS = Path(__file__).resolve().parents[1] / "specs" / "methods"
METHODS = {1: "cellpaintr_coded_1", 3: "cellpaintr_coded"}
SOURCES = 12
PARTS = ("forward", "backward", "AdamW")
# Haralick's measures of texture: with scales and angles there are enough of them for any size.
MEASURES = (
    *("AngularSecondMoment", "Contrast", "Correlation", "DifferenceEntropy", "DifferenceVariance", "Entropy"),
    *("InfoMeas1", "InfoMeas2", "InverseDifferenceMoment", "SumAverage", "SumEntropy", "SumVariance", "Variance"),
)


@dataclass(frozen=True)
class Case:
    """What is timed: ``peer`` is the authors' checkout, or None for our network."""

    batch: int
    stage: int
    steps: int
    threads: int
    features: int
    device: str
    precision: str | None
    peer: Path | None = None


class EnoughError(Exception):
    """Ends a training after the steps that are timed."""


class Clock:
    """Wall and CPU seconds of the parts of steps."""

    def __init__(self, device: str) -> None:
        self.gpu = device == "cuda"
        self.steps: list[dict[str, tuple[float, float]]] = []

    def _now(self) -> tuple[float, float]:
        if self.gpu:
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def begin(self) -> None:
        """Start a step."""
        self.steps.append({})
        self._last = self._now()

    def mark(self, part: str) -> None:
        """Book what passed since the last mark to a part of the step."""
        now = self._now()
        self.steps[-1][part] = (now[0] - self._last[0], now[1] - self._last[1])
        self._last = now

    def best(self) -> dict[str, tuple[float, float]]:
        """Return the seconds of the parts of the step that took the least CPU time, but for the first."""
        return min(self.steps[1:], key=lambda step: sum(cpu for _, cpu in step.values()))


def names(count: int) -> list[str]:
    """Return so many names of CellProfiler's that name a compartment and a dye."""
    every = product(range(3, 11), range(4), MEASURES, COMPARTMENTS, CHANNELS)
    made = (f"{part}_Texture_{what}_{dye}_{scale}_{angle:02d}_256" for scale, angle, what, part, dye in every)
    return sorted(islice(made, count))


def full_recipe(stage: int, batch: int) -> ProfileMethod:
    paths = sorted(SPECS.glob("*.yaml"))
    spec = at_scale(inherited({path.stem: load_yaml(path) for path in paths})[METHODS[stage]], "full")
    spec["parameters"]["batch_size"] = {"value": batch, "source": "guess"}
    return build_recipe(spec, seed=0)


def wells(case: Case, composition: str) -> Profiles:
    """Return wells for all steps, two of each treatment; mini-batches of mixed sources need a plate of each."""
    count = max(case.batch * (case.steps + 1), SOURCES)
    index = np.arange(count)
    source = [f"source_{i % SOURCES + 1}" for i in index]
    row = {"Batch": "batch", "Plate": "plate" if composition == "plate" else source, "Source": source}
    row |= {"Well": [f"w{i}" for i in index], "Perturbation": [f"p{i // 2 % 50}" for i in index]}
    row |= {"Control": "trt", "Split": "train", "MoA": "known"}
    features = np.random.default_rng(0).normal(size=(count, case.features)).astype(np.float32)
    metadata = pd.DataFrame({f"Metadata_{name}": value for name, value in row.items()}, index=index)
    return Profiles(metadata, features, tuple(names(case.features)), {})


def timed_data(case: Case, recipe: Any, clock: Clock) -> ProfileData:
    """Return the mini-batches of a training, each timed from when it is there to when the next is asked for."""

    class Timed(ProfileData):
        def batches(self, epoch: int, first: int = 0) -> Iterator[dict[str, Tensor]]:
            for batch in super().batches(epoch, first):
                clock.begin()
                yield batch
                clock.mark("rest")
                if len(clock.steps) > case.steps:
                    raise EnoughError

    return Timed(
        wells(case, recipe.composition),
        composition=recipe.composition,
        batch_size=case.batch,
        seed=0,
        wells=recipe.wells,
        split={"strategy": "none"},
        source=recipe.source,
        label=recipe.label,
        contrastive=bool(recipe.contrast),
        plates_at_once=recipe.plates_at_once,
    )


def our_network(recipe: Any, features: int) -> CellPainTR:
    torch.manual_seed(0)
    sizes = {
        name: getattr(recipe, name) for name in ("width", "blocks", "expansion", "dropout", "order", "adapter")
    }
    return CellPainTR(names(features), SOURCES, **sizes, filter_options={"window": recipe.window})


def our_steps(case: Case, recipe: Any, data: ProfileData, clock: Clock) -> int:
    """Train; return the number of parameters."""
    network = our_network(recipe, case.features)
    stage = Stage(
        objective=Objective(
            grouped=recipe.grouped,
            contrast=recipe.contrast,
            temperature=recipe.temperature,
            reduction=recipe.reduction,
        ),
        epochs=1,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
        ratio=(recipe.mask_low, recipe.mask_high),
        source_epochs=0,
        new_sources=False,
        seed=0,
    )

    def watch(module: CellPainTR, given: Any, made: tuple[Tensor, Tensor]) -> None:
        # The gradient of the predictions is the first that the network gets.
        made[1].register_hook(lambda gradient: clock.mark("forward"))

    network.register_forward_hook(watch)
    register_optimizer_step_pre_hook(lambda *given: clock.mark("backward"))
    register_optimizer_step_post_hook(lambda *given: clock.mark("AdamW"))
    hardware = Hardware(accelerator="gpu" if clock.gpu else "cpu", precision=case.precision)
    with tempfile.TemporaryDirectory() as folder:
        where = {"folder": Path(folder) / "model", "checkpoints": Path(folder) / "checkpoints"}
        with contextlib.suppress(EnoughError):
            train_stage(network, data, stage, **where, hardware=hardware)
    return sum(p.numel() for p in network.parameters())


def their_steps(case: Case, recipe: Any, data: ProfileData, clock: Clock) -> int:
    """Do with their network what their loop does; return the number of its parameters."""
    from cellpaintr_peer import network

    torch.manual_seed(0)
    module = network(case.peer, case.features, case.stage).to(case.device).train()
    groups = torch.from_numpy(data.space.groups).to(case.device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, weight_decay=0.0)
    with contextlib.suppress(EnoughError):
        for batch in data.batches(0):
            given = (batch[name].to(case.device) for name in ("source", "label"))
            optimizer.zero_grad()
            loss = module(batch["values"].to(case.device), groups, *given, contrast=case.stage > 1)
            clock.mark("forward")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            clock.mark("backward")
            optimizer.step()
            clock.mark("AdamW")
            loss.item()
    return sum(p.numel() for p in module.parameters())


def measured(case: Case) -> dict[str, Any]:
    """Time a case, in a process that does nothing else."""
    torch.set_num_threads(case.threads)
    recipe, clock = full_recipe(case.stage, case.batch), Clock(case.device)
    data = timed_data(case, recipe, clock)
    idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    parameters = (their_steps if case.peer else our_steps)(case, recipe, data, clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if clock.gpu:
        idle, peak = 0.0, torch.cuda.max_memory_allocated() / 2**30
    return {"parameters": parameters, "idle": idle, "peak": peak, "parts": clock.best()}


def alone(call: Callable[..., Any], *given: Any) -> Any:
    """Return what a function returns in a new process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *given).result()


def show(case: Case, found: dict[str, Any]) -> None:
    parts = found["parts"]
    wall, cpu = (sum(pair[i] for pair in parts.values()) for i in (0, 1))
    sizes = (case.features + 2, case.batch, case.threads)
    numbers = (*(parts[part][1] for part in PARTS), cpu, wall, case.batch / wall, found["peak"], found["idle"])
    row = [*map(str, sizes), *(f"{number:.2f}" for number in numbers), f"{found['parameters']:,}"]
    print(f"{'authors' if case.peer else 'here':8}" + "".join(f"{cell:>11}" for cell in row), flush=True)


def _direct(u: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Return what ``fft_convolution`` does, as a matrix for each channel."""
    at = torch.arange(u.shape[-1])
    return torch.einsum("wts,bws->bwt", kernel[:, len(at) - 1 + at[:, None] - at], u) + bias[:, None] * u


def _conv1d(u: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Return the same by PyTorch's convolution."""
    padded = functional.pad(u, (u.shape[-1] - 1,) * 2)
    return functional.conv1d(padded, kernel.flip(-1)[:, None], groups=len(bias)) + bias[:, None] * u


def convolution(which: str, batch: int, width: int, length: int) -> float:
    """Return the least CPU seconds of three convolutions, forward and backward, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    call = {"FFT": fft_convolution, "matrix": _direct, "conv1d": _conv1d}[which]
    given = [torch.randn(batch, width, length), torch.randn(width, 2 * length - 1), torch.randn(width)]
    seconds = []
    for _ in range(4):
        leaves = [x.clone().requires_grad_() for x in given]
        begun = time.process_time()
        call(*leaves).sum().backward()
        seconds.append(time.process_time() - begun)
    return min(seconds[1:])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[4], help="wells per step")
    parser.add_argument(
        "--stage", type=int, choices=sorted(METHODS), default=1, help="3 adds the contrastive loss"
    )
    parser.add_argument("--steps", type=int, default=2, help="steps that are timed, after one that is not")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="of torch on the CPU")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], help="bf16-mixed on a GPU, else 32-true")
    parser.add_argument("--features", type=int, default=3255)
    parser.add_argument("--lengths", type=int, nargs="+", help="numbers of tokens, instead of --features")
    parser.add_argument("--peer", type=Path, help="a checkout of the authors' repository")
    parser.add_argument("--agree", action="store_true", help="compare outputs with theirs, and time nothing")
    parser.add_argument("--convolution", action="store_true", help="time only the long convolution")
    given = parser.parse_args()
    if given.agree and not given.peer:
        parser.error("--agree needs --peer")
    return given


def main() -> None:
    given = parsed()
    sizes = [length - 2 for length in given.lengths] if given.lengths else [given.features]
    if given.peer:
        from cellpaintr_peer import agreement, commit

        print(f"authors' code: {given.peer.name}, {commit(given.peer)}")
    if given.agree:
        for features in sizes:
            ours = partial(our_network, full_recipe(1, 2), features)
            print(f"{features + 2} tokens: " + alone(agreement, ours, given.peer.resolve()), flush=True)
        return
    if given.convolution:
        for which, features in product(("FFT", "matrix", "conv1d"), sizes):
            seconds = alone(convolution, which, 2, 8, features + 2)
            print(f"{which:7} 2 x 8 x {features + 2}: {seconds:.4f} s of CPU time", flush=True)
        return
    where = torch.cuda.get_device_name() if given.device == "cuda" else "CPU"
    print(f"stage {given.stage} on {where}, {given.precision or 'usual precision'}, torch {torch.__version__}")
    heads = ("tokens", "batch", "threads", *PARTS, "step CPU", "wall", "wells/s", "peak GiB", "idle", "parameters")
    print(" " * 8 + "".join(f"{head:>11}" for head in heads))
    for features, batch, threads in product(sizes, given.batch, given.threads):
        for peer in (None, given.peer.resolve()) if given.peer else (None,):
            case = Case(batch, given.stage, given.steps, threads, features, given.device, given.precision, peer)
            show(case, alone(measured, case))


if __name__ == "__main__":
    main()
