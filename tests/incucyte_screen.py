"""Simulated drug screens, listed and read without the network, for the tests of simulator and reader."""

from pathlib import Path

import yaml

from morphobench.datasets.incucyte import read_unit
from morphobench.datasets.incucyte_layout import list_files
from morphobench.fetch.addresses import local_path
from morphobench.images.unit import Excluded, Sample, UnitFiles
from morphobench.simulate.incucyte import BASE, simulate

ROOT = Path(__file__).resolve().parents[1]
SMALL = {"batches": 1, "lines_per_batch": 2, "drugs": 3, "dmso": 3, "pbs": 1, "frames": 4, "hours": 12, "size": 64}
SMALL |= {"margin": 8, "raw_batches": 0}
OPTIONS = {"size": 64, "tile": 32, "last_times": 2, "control_every": 1}


def spec():
    return yaml.safe_load((ROOT / "specs" / "datasets" / "incucyte.yaml").read_text(encoding="utf-8"))


def options(**changes):
    return {**spec()["images"]["options"], **OPTIONS, **changes}


def at(root, name):
    """Where a file of the simulated tree lies."""
    return local_path(f"{BASE}/{name.replace(' ', '%20')}", root)


def unit_files(root, unit="batch_1", chosen=None, local_root=None):
    """List a unit and take each file for fetched from where it was simulated; absent ones are missing."""
    chosen = chosen or options()
    files = {"listing": at(root, "listing.tsv")}
    if local_root:
        variants = list_files(unit, {}, {**chosen, "local_root": str(local_root)})
    else:
        variants = list_files(unit, files, chosen)
    (variant,) = variants
    records = []
    for file in variant.files:
        path = Path(local_root, file.local) if local_root else local_path(file.url, root)
        status = "mirrored" if path.exists() else "missing"
        records.append({"name": file.local, "member": None, "path": str(path), "status": status})
    return UnitFiles(unit, files, tuple(records), chosen)


def read(root, unit="batch_1", chosen=None, local_root=None):
    """Return the samples and the excluded rows of a unit."""
    found = list(read_unit(unit_files(root, unit, chosen, local_root)))
    return [s for s in found if isinstance(s, Sample)], [e for e in found if isinstance(e, Excluded)]


def small(root, seed=0, **parameters):
    """Simulate a small screen."""
    simulate({**SMALL, **parameters}, root, seed)
    return root
