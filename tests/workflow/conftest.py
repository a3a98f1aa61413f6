"""A checkout of the workflow that a test may run and spoil."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PARTS = ("Snakefile", "config.yaml", "rules", "workflow", "specs", "src", "profiles", "slurm", "envs")


@dataclass
class Checkout:
    """A copy of the workflow and how to run it."""

    path: Path

    def snakemake(self, *arguments: str, check: bool | None = True) -> subprocess.CompletedProcess:
        """Run snakemake in the copy; ``check=None`` accepts any exit status."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("SNAKEMAKE", "PYTEST"))}
        environment |= {"OMP_NUM_THREADS": "1", "NUMBA_CACHE_DIR": str(self.path / "numba")}
        result = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if check is not None:
            assert (result.returncode == 0) == check, result.stdout + result.stderr
        return result

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text in one file of the copy."""
        path = self.path / file
        text = path.read_text()
        assert old in text, f"{file} has no {old!r}"
        path.write_text(text.replace(old, new, 1))

    def copy(self, target: Path) -> "Checkout":
        """Copy the checkout with all its results and their times."""
        shutil.copytree(self.path, target, symlinks=True)
        return Checkout(target)


def fresh(target: Path, root: Path) -> Checkout:
    target.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for part in PARTS:
        source = root / part
        if source.is_symlink():
            (target / part).symlink_to(os.readlink(source))
        elif source.is_dir():
            shutil.copytree(source, target / part, ignore=ignore)
        else:
            shutil.copy(source, target / part)
    return Checkout(target)


@pytest.fixture
def checkout(tmp_path, root):
    """A fresh copy without results."""
    return fresh(tmp_path / "checkout", root)


TINY = ("--config", "scale=tiny", "seeds=[0]")
# The tables of profiles: those of trained methods have a run of their own.
TABLES = ("bbbc021_corrections", "cellpaintr_table1", "funk22_published")
PROFILES = (*TINY, f"tables=[{','.join(TABLES)}]")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, root):
    """A copy in which the tables of profiles are made at scale tiny; tests copy it before they spoil it."""
    made = fresh(tmp_path_factory.mktemp("finished") / "checkout", root)
    made.snakemake("--cores", "2", *PROFILES, "--", "tables")
    return made
