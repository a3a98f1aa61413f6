"""Which of CDCL's claims hold on the simulated RxRx1 screen at demo scale, over folds and seeds; markdown tables.

Every method of the paper's Tables 1, 2b and 3 is trained with its spec's own recipe, embedded and scored as the
workflow does it. A claim holds if the mean of its paired differences, one for each fold and seed, is more than two
standard errors above 0, fails if it is as far below, and is within noise otherwise. Folds share batches and seeds
share images, so the standard errors are somewhat too small.

Usage: python benchmarks/cdcl_claims.py [--folds 1 2] [--seeds 1 2 3] [--store FOLDER] [--nuisance-off]

Without ``--store`` (the workflow's results/demo/rxrx1_huvec/images) the screen is simulated, half a minute. With
``--nuisance-off`` batches, plates and positions are all alike in it, and only dino, CDCL and the untrained
network are compared: how much of CDCL's lead is left when there is no nuisance. About 10 s of one core a training.
The demo's sizes were chosen on fold 0 with seed 0: leave them out to confirm something.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from morphobench.corrections.apply import correct
from morphobench.fetch.addresses import local_path
from morphobench.fetch.manifest import read_manifest
from morphobench.fetch.unit import fetch_unit
from morphobench.images.finish import finish_store
from morphobench.images.prepare import load_callable
from morphobench.images.store import ImageStore
from morphobench.images.unit import UnitFiles
from morphobench.images.write import write_unit
from morphobench.learning.recipes import build_recipe
from morphobench.learning.runs import Hardware
from morphobench.metrics.accuracy import knn_accuracy
from morphobench.metrics.evaluation import Evaluation
from morphobench.metrics.mixing import kbet_p_values
from morphobench.metrics.neighbours import fraction_of, nearest
from morphobench.profiles import Profiles
from morphobench.specs.house import House, load_house

ROOT = Path(__file__).parents[1]
DATASET = "rxrx1_huvec"
STRENGTHS = ("batch_strength", "plate_strength", "well_strength", "instrument_strength")
METHODS = ["imagenet", "supervised", "dino", "byol", "dino_cb", "byol_cb", "cdcl", "dino_bl", "byol_bl"]
METHODS += [f"{m}_{part}" for m in ("supervised", "cdcl") for part in ("controls", "treatments", "half")]
UNDISTURBED = ["imagenet", "dino", "cdcl"]


class Claim(NamedTuple):
    """``first`` is above ``second``; each is a method and a column, or a number."""

    text: str
    first: tuple[str, str] | float
    second: tuple[str, str] | float


def claims() -> Iterator[Claim]:
    """Yield what the paper states (specs/claims.csv), and that anything is learnt at all."""
    for method in ("dino", "byol"):
        yield Claim(f"{method} separates the training batches (k-BET below 0.1)", 0.1, (method, "k-BET train"))
        yield Claim(f"{method} falls below supervised", ("supervised", "z-norm k-NN"), (method, "z-norm k-NN"))
        for column in ("k-NN", "z-norm k-NN"):
            yield Claim(f"cross-batch sampling improves {method}", (f"{method}_cb", column), (method, column))
        yield Claim(
            f"Barlow loss alone is no gain to {method}", (method, "z-norm k-NN"), (f"{method}_bl", "z-norm k-NN")
        )
    yield Claim("z-norm raises k-NN of dino", ("dino", "z-norm k-NN"), ("dino", "k-NN"))
    for column in ("k-NN", "z-norm k-NN"):
        yield Claim("CDCL is above plain dino", ("cdcl", column), ("dino", column))
    for other in ("dino_cb", "byol_cb", "supervised", "imagenet"):
        yield Claim(f"CDCL is above {other}", ("cdcl", "z-norm k-NN"), (other, "z-norm k-NN"))
    yield Claim(
        "byol_cb mixes the training batches better than CDCL", ("byol_cb", "k-BET train"), ("cdcl", "k-BET train")
    )
    for part in ("controls", "treatments", "half"):
        yield Claim(f"training on {part} lowers CDCL", ("cdcl", "z-norm k-NN"), (f"cdcl_{part}", "z-norm k-NN"))
        yield Claim(
            f"trained on {part} CDCL stays above supervised",
            (f"cdcl_{part}", "z-norm k-NN"),
            (f"supervised_{part}", "z-norm k-NN"),
        )


def make_store(house: House, folder: Path, *, nuisance: bool) -> Path:
    """Simulate and prepare the demo's screen as the workflow does, and return the store's folder."""
    spec = house.datasets[DATASET]
    images = spec["images"]
    parameters = dict(spec["simulate"])
    seed = parameters.pop("seed")
    if not nuisance:
        parameters |= dict.fromkeys(STRENGTHS, 0.0)
    load_callable(spec["simulator"], "simulator")(parameters, folder / "simulated", seed)
    files = {entry["name"]: local_path(entry["url"], folder / "simulated") for entry in spec["files"]}
    pins = {row["url"]: row for row in read_manifest(folder / "simulated" / "manifest.tsv")}
    reader = load_callable(images["reader"], "images.reader")
    with redirect_stdout(StringIO()):
        for unit in images["units"]:
            records = fetch_unit(spec, unit, files, folder / "raw", folder / "simulated", pins=pins)
            unit_files = UnitFiles(unit, files, tuple(records), images["options"])
            write_unit(reader, unit_files, folder / "images", channels=images["channels"])
        facts = finish_store(folder / "images", images["units"], images["channels"], spec["folds"])
    print(f"{facts['samples']} images, {facts['excluded']} left out (saturated, missing)\n", flush=True)
    return folder / "images"


def kbet(profiles: Profiles, split: str) -> float:
    """Return k-BET within a split as Table 4 has it, with the workflow's number of neighbours."""
    rows = (profiles.metadata["Metadata_Split"] == split).to_numpy()
    batches = np.unique(profiles.metadata.loc[rows, "Metadata_Batch"], return_inverse=True)[1]
    graph = nearest(profiles.features[rows], fraction_of(0.005, len(batches), 15))
    return float((kbet_p_values(graph.indices, batches) >= 0.05).mean())


def scores(profiles: Profiles, znorm: dict[str, Any]) -> dict[str, float]:
    """Return the columns of Table 1 but the linear probe, and k-BET on the training images (Table 4)."""

    def knn(judged: Profiles) -> float:
        return knn_accuracy(Evaluation(judged, None, None, 0)).value

    found = {"k-NN": knn(profiles), "z-norm k-NN": knn(correct(profiles, znorm))}
    return {**found, "k-BET train": kbet(profiles, "train"), "k-BET test": kbet(profiles, "test")}


def measure(house: House, store: ImageStore, methods: Sequence[str], folds: Sequence[int], seeds: Sequence[int]):
    """Train all methods; return a frame with method, fold, seed, the scores and seconds of processor time."""
    rows = []
    znorm = house.method_on("znorm", DATASET)
    for method in methods:
        spec = house.method_on(method, DATASET)
        for fold in folds:
            for seed in seeds:
                start = time.process_time()
                recipe = build_recipe(spec, seed)
                with tempfile.TemporaryDirectory() as folder:
                    kept, model = Path(folder) / "checkpoints", Path(folder) / "model"
                    hardware = Hardware(accelerator="cpu")
                    recipe.train(store, fold, model, kept, configuration=spec, hardware=hardware)
                    profiles = recipe.embed(store, fold, model, hardware=hardware)
                seconds = time.process_time() - start
                rows.append(
                    {"method": method, "fold": fold, "seed": seed, **scores(profiles, znorm), "seconds": seconds}
                )
                print(f"{method} fold {fold} seed {seed}: z-norm k-NN {rows[-1]['z-norm k-NN']:.3f}", flush=True)
    return pd.DataFrame(rows)


def print_scores(found: pd.DataFrame) -> None:
    """Print mean and standard deviation over folds and seeds, in percent."""
    columns = [c for c in found if c not in ("method", "fold", "seed", "seconds")]
    print("\n| method | " + " | ".join(columns) + " | CPU s |\n" + "|---" * (len(columns) + 2) + "|")
    for method, runs in found.groupby("method", sort=False):
        cells = [f"{100 * runs[c].mean():.1f} ± {100 * runs[c].std(ddof=0):.1f}" for c in columns]
        print(f"| {method} | " + " | ".join(cells) + f" | {runs['seconds'].mean():.1f} |")


def print_claims(found: pd.DataFrame) -> None:
    """Print for each claim its paired differences over folds and seeds, and what follows."""
    runs = found.set_index(["method", "fold", "seed"])

    def side(what: tuple[str, str] | float) -> pd.Series | float:
        return runs.loc[what[0], what[1]] if isinstance(what, tuple) else what

    print("\n| claim | column | difference, points | true in | verdict |\n|---|---|---|---|---|")
    for claim in claims():
        if not {s[0] for s in (claim.first, claim.second) if isinstance(s, tuple)} <= set(found["method"]):
            continue
        column = next(s[1] for s in (claim.first, claim.second) if isinstance(s, tuple))
        difference = 100 * (side(claim.first) - side(claim.second))
        mean, n = difference.mean(), len(difference)
        error = difference.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
        verdict = "holds" if mean > 2 * error else "does not hold" if mean < -2 * error else "within noise"
        print(
            f"| {claim.text} | {column} | {mean:+.1f} ± {difference.std(ddof=0):.1f} | "
            f"{(difference > 0).sum()} of {n} | {verdict} |"
        )


def main() -> None:
    """Parse the command line, train, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--nuisance-off", action="store_true")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder with config.yaml and specs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    house = load_house(given.root, {"scale": "demo"})
    methods = given.methods or (UNDISTURBED if given.nuisance_off else METHODS)
    with tempfile.TemporaryDirectory() as folder:
        store = given.store or make_store(house, Path(folder), nuisance=not given.nuisance_off)
        found = measure(house, ImageStore(store), methods, given.folds, given.seeds)
    print_scores(found)
    print_claims(found)


if __name__ == "__main__":
    main()
