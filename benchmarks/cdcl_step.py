"""One training step of CDCL at the paper's size: DeiT-S, 224 pixels, 6 channels, 2 x (1 + 3) crops.

Images and labels are random numbers; everything else (crops, losses, clipping, AdamW, teacher, centres) is what a
training does, with the parameters of specs/methods. The first step is not timed.

Usage: python benchmarks/cdcl_step.py [--batch 16] [--steps 1] [--device cpu|cuda] [--threads 2] [--precision ...]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import numpy as np
import torch

from morphobench.corrections.apply import build
from morphobench.images.finish import finish_store
from morphobench.images.store import ImageStore
from morphobench.images.unit import Sample, UnitFiles
from morphobench.images.write import write_unit
from morphobench.learning.image_method import ImageMethod
from morphobench.specs.lines import load_yaml
from morphobench.specs.methods import at_scale, inherited

SPECS = Path(__file__).resolve().parents[1] / "specs" / "methods"
CHANNELS = [f"channel {i}" for i in range(6)]


def full_recipe(method: str, batch: int) -> ImageMethod:
    paths = sorted(SPECS.glob("*.yaml"))
    spec = at_scale(inherited({path.stem: load_yaml(path) for path in paths})[method], "full")
    spec["parameters"]["batch_size"] = {"value": batch, "source": "guess"}
    return build(spec, ImageMethod, seed=0)


def write_store(folder: Path, images: int) -> ImageStore:
    """Six experiments of 256 x 256 pixels; training needs ``images`` of four of them."""
    rng = np.random.default_rng(0)

    def reader(unit: UnitFiles) -> Iterator[Sample]:
        for i in range(-(-images // 4)):
            row = {"Batch": unit.unit, "Plate": unit.unit, "Well": f"w{i}", "Perturbation": f"p{i // 2}"}
            row |= {"Control": "negcon" if i < 2 else "trt", "Split": "train"}
            pixels = rng.integers(0, 256, (len(CHANNELS), 256, 256), dtype=np.uint8)
            yield Sample({f"Metadata_{k}": v for k, v in row.items()}, pixels)

    units = [f"u{i}" for i in range(6)]
    for unit in units:
        write_unit(reader, UnitFiles(unit, {}, (), {}), folder, channels=CHANNELS)
    folds = {"kind": "rotate_groups", "by": "Metadata_Batch", "train": 4, "val": 1, "test": 1, "step": 1}
    finish_store(folder, units, CHANNELS, folds)
    return ImageStore(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--method", default="cdcl", help="dino, dino_cb, cdcl, dino_bl, byol, byol_cb, byol_bl, supervised"
    )
    parser.add_argument("--batch", type=int, default=16, help="images per step; each has a partner")
    parser.add_argument("--steps", type=int, default=1, help="steps that are timed, after one that is not")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=None, help="of torch on the CPU")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="bfloat16 on a GPU, else float32")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    gpu = device.type == "cuda"
    half = (given.precision or ("bfloat16" if gpu else "float32")) == "bfloat16"
    recipe = full_recipe(given.method, given.batch)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(None):
        data = recipe.data(write_store(Path(folder), given.batch), 0)
        batch = data.batch(0, 0)
    crops = recipe.crops(data.normalisation)
    module = recipe.module(data, {**recipe.network(data.store), "pretrained": None}).to(device)
    optimizer = module.configure_optimizers()

    def step() -> float:
        moved = {k: v.to(device) if torch.is_tensor(v) else v for k, v in batch.items()}
        views, domains = crops(moved), (moved["domain"], moved["partner_domain"])
        with torch.autocast(device.type, torch.bfloat16) if half else nullcontext():
            parts = module.training_loss(views, domains, moved["label"], 0)
        (parts["loss"] + parts.get("probe", 0.0)).backward()
        torch.nn.utils.clip_grad_norm_(
            [p for n, p in module.named_parameters() if p.grad is not None], recipe.clip
        )
        module.set_rates(optimizer, 0)
        optimizer.step()
        optimizer.zero_grad()
        module.after_step(0)
        return parts["loss"].item()

    step()
    begun, used = time.perf_counter(), time.process_time()
    losses = [step() for _ in range(given.steps)]
    seconds = (time.perf_counter() - begun) / given.steps
    cpu = (time.process_time() - used) / given.steps
    if gpu:
        peak, where = torch.cuda.max_memory_allocated() / 2**30, "GPU memory"
    else:
        peak, where = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "memory"
    shapes = Counter(" x ".join(map(str, view.shape)) for view in crops(batch))
    name = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    trained = sum(p.numel() for p in module.parameters() if p.requires_grad)
    encoder = sum(p.numel() for p in module.encoder.parameters())
    print(f"{given.method} on {name}, {'bfloat16' if half else 'float32'}, torch {torch.__version__}")
    print("views: " + ", ".join(f"{count} of {shape}" for shape, count in shapes.items()))
    print(f"parameters: {trained:,} trained, {encoder:,} in the encoder; loss {losses[-1]:.3f}")
    print(f"batch {given.batch}: {seconds:.2f} s a step ({cpu:.2f} s of CPU time), peak {peak:.2f} GiB of {where}")
    print(f"{given.batch / seconds:.2f} images/s")


if __name__ == "__main__":
    main()
