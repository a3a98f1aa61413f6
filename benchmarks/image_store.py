"""Writing and random reading of the image store, beside a bare np.memmap and one PNG a channel; a markdown table.

Everything is read from a warm cache: the first pass is not timed. Rows with a loader need torch.

Usage: python benchmarks/image_store.py [samples]      (2000 by default)
"""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from morphobench.images.finish import finish_store
from morphobench.images.store import ImageDataset, ImageStore
from morphobench.images.unit import Sample, UnitFiles
from morphobench.images.write import write_unit

BATCH = 64
UNITS = 4
SHAPES = (((6, 256, 256), np.uint8), ((4, 64, 64), np.uint16))
TORCH = importlib.util.find_spec("torch") is not None


def pictures(shape: tuple[int, ...], dtype: type) -> list[np.ndarray]:
    """Blobs on a noisy background, about as compressible as micrographs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[1], : shape[2]] / shape[1]
    few = []
    for _ in range(16):
        light = np.zeros(shape)
        for cy, cx in rng.random((25, 2)):
            light += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 0.003) * rng.random((shape[0], 1, 1))
        light = light / light.max() * 0.7 + 0.05 + rng.normal(0, 0.008, shape)
        few.append((light.clip(0, 1) * np.iinfo(dtype).max).astype(dtype))
    return few


def write_store(folder: Path, images: list[np.ndarray], count: int) -> None:
    channels = [f"channel {i}" for i in range(len(images[0]))]

    def reader(unit: UnitFiles) -> Iterator[Sample]:
        for i in range(count // UNITS):
            row = {"Batch": unit.unit, "Plate": unit.unit, "Well": f"w{i}", "Perturbation": f"p{i % 50}"}
            row |= {"Control": "negcon" if i % 50 == 0 else "trt", "Split": "train"}
            yield Sample({f"Metadata_{k}": v for k, v in row.items()}, images[i % len(images)])

    units = [f"u{i}" for i in range(UNITS)]
    for unit in units:
        write_unit(reader, UnitFiles(unit, {}, (), {}), folder, channels=channels)
    finish_store(folder, units, channels, None)


def write_memmap(path: Path, images: list[np.ndarray], count: int) -> None:
    shape = (count, *images[0].shape)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=images[0].dtype, shape=shape)
    for i in range(count):
        array[i] = images[i % len(images)]
    array.flush()


def write_pngs(folder: Path, images: list[np.ndarray], count: int) -> None:
    folder.mkdir()
    for i in range(count):
        for c, channel in enumerate(images[i % len(images)]):
            Image.fromarray(channel).save(folder / f"{i}_{c}.png")


class Bare:
    """A bare np.memmap as a map-style data set."""

    def __init__(self, path: Path) -> None:
        self.array = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array(self.array[index])


class Pngs:
    """One PNG a channel as a map-style data set."""

    def __init__(self, folder: Path, count: int, channels: int) -> None:
        self.folder, self.count, self.channels = folder, count, channels

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        return np.stack([np.asarray(Image.open(self.folder / f"{index}_{c}.png")) for c in range(self.channels)])


class Batches:
    """A data set whose items are whole batches, from one whose items are images."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, indices: list[int]) -> Any:
        if isinstance(self.dataset, ImageDataset):
            return self.dataset[indices]
        return np.stack([self.dataset[i] for i in indices])


def best(function: Callable[[], object], repeats: int = 3) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def loader_rate(dataset: Any, batches: list[list[int]], workers: int) -> float:
    from torch.utils.data import DataLoader

    loader = DataLoader(
        Batches(dataset), sampler=batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )

    def run() -> None:
        for _ in loader:
            pass

    return sum(map(len, batches)) / best(run)


def measure(root: Path, shape: tuple[int, ...], dtype: type, count: int) -> list[tuple[str, list[float]]]:
    """Return rates in samples per second, by layout: written, one at random, batches, through loaders."""
    images, writes = pictures(shape, dtype), []
    for write, name in ((write_store, "store"), (write_memmap, "bare.npy"), (write_pngs, "png")):
        start = time.perf_counter()
        with open(os.devnull, "w") as null, redirect_stdout(null):
            write(root / name, images, count)
        writes.append(count / (time.perf_counter() - start))
    store = ImageStore(root / "store")
    bare, pngs = Bare(root / "bare.npy"), Pngs(root / "png", count, shape[0])
    order = np.random.default_rng(1).permutation(count)
    batches = [b.tolist() for b in np.array_split(order, -(-count // BATCH))]
    singles: list[Callable[[int], np.ndarray]] = [lambda i: store[i].copy(), bare.__getitem__, pngs.__getitem__]
    gathers: list[Callable[[list[int]], np.ndarray]] = [store.take, Batches(bare).__getitem__]
    gathers.append(Batches(pngs).__getitem__)
    rows = []
    for k, (name, data) in enumerate(
        (("image store", ImageDataset(store)), ("bare np.memmap", bare), ("PNG", pngs))
    ):
        rates = [writes[k], count / best(lambda k=k: [singles[k](i).shape for i in order.tolist()])]
        rates.append(count / best(lambda k=k: [gathers[k](b) for b in batches]))
        rates += [loader_rate(data, batches, workers) for workers in (0, 2)] if TORCH else [np.nan] * 2
        rows.append((name, rates))
    return rows


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    heads = ["sample", "layout", "written", "one at random", f"batches of {BATCH}", "loader, 0 workers"]
    heads.append("loader, 2 workers")
    print(f"{platform.machine()}, {os.cpu_count()} cores, {count:,} samples, samples/s, warm cache, best of 3\n")
    print(f"| {' | '.join(heads)} |\n|{' --- |' * 2}{' ---: |' * (len(heads) - 2)}")
    for shape, dtype in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            for name, rates in measure(Path(folder), shape, dtype, count):
                cells = ["n/a" if np.isnan(r) else f"{r:,.0f}" for r in rates]
                sample = f"{' x '.join(map(str, shape))} {np.dtype(dtype).name}"
                print(f"| {' | '.join([sample, name, *cells])} |", flush=True)
    if not TORCH:
        print("\nLoaders were not measured: torch is not installed here.")


if __name__ == "__main__":
    main()
