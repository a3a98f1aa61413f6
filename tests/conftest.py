"""Fixtures shared by all tests."""

import os
from pathlib import Path

# Before anything reads it: two workers whose libraries start two threads each wait for one another, and trainings
# of tiny networks then take a hundred times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pandas as pd  # noqa: E402 - see above
import pytest

# pycytominer turns this on where it is imported; without it a result would hang on which test ran before.
pd.options.mode.copy_on_write = True

ROOT = Path(__file__).resolve().parents[1]

# Files that take minutes come first, so that two workers end at about the same time.
LONGEST = ("test_images_run.py", "test_run.py", "test_networks_run.py", "test_screens.py", "test_planted_truth.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; a file stays on one worker (``--dist loadfile``), with what it made once."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def mirror_folder() -> Path | None:
    """The folder of real data: ``MORPHOBENCH_MIRROR`` if set, else ``../shared/mirror`` beside the repository."""
    named = os.environ.get("MORPHOBENCH_MIRROR")
    folder = Path(named) if named else ROOT.parent / "shared" / "mirror"
    return folder.resolve() if folder.is_dir() else None


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The mirror of real data; skips, saying what to set, where there is none."""
    folder = mirror_folder()
    if folder is None:
        pytest.skip("no real data: set MORPHOBENCH_MIRROR to a folder with <host>/<path> copies (docs/data.md)")
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT
