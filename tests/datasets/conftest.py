"""Raw files of tiny simulated screens, to be damaged, and those of the mirror."""

import pytest
import yaml

from morphobench.datasets.reading import read_dataset
from morphobench.fetch import local_path
from morphobench.simulate import bbbc021, funk22, jump

SIMULATORS = {
    "cpg0016": (
        jump.simulate,
        {"sources": 2, "batches_per_source": 1, "wells": 24, "compounds": 6, "mechanisms": 3},
    ),
    "bbbc021": (bbbc021.simulate, {"weeks": 2, "compounds_per_mechanism": 1, "doses": 1, "features": 12}),
    "funk22_published": (funk22.simulate, {"genes": 60, "complexes": 12}),
}


class Raw:
    """A dataset's spec and its folder of raw files."""

    def __init__(self, spec, folder):
        self.spec, self.folder = spec, folder

    def path(self, name):
        return local_path(next(e["url"] for e in self.spec["files"] if e["name"] == name), self.folder)

    def read(self):
        return read_dataset(self.spec, self.folder)


def load_spec(root, dataset):
    return yaml.safe_load((root / "specs" / "datasets" / f"{dataset}.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def raw(root, tmp_path):
    """A function that simulates a small screen and gives its raw files."""

    def make(dataset, **parameters):
        simulate, small = SIMULATORS[dataset]
        if dataset == "cpg0016":
            small = {**small, "features": 40}
        simulate({**small, **parameters}, tmp_path / dataset, 0)
        return Raw(load_spec(root, dataset), tmp_path / dataset)

    return make


@pytest.fixture
def real(root, mirror):
    """A function that gives the raw files of the mirror."""
    return lambda dataset: Raw(load_spec(root, dataset), mirror)
