"""A copy of the shipped specs that a test may spoil."""

import shutil

import pytest


@pytest.fixture
def house(tmp_path, root):
    """A copy of the shipped configuration and specs that a test may spoil."""
    shutil.copy(root / "config.yaml", tmp_path)
    shutil.copytree(root / "specs", tmp_path / "specs")
    shutil.copytree(root / "workflow" / "schemas", tmp_path / "workflow" / "schemas")
    return tmp_path
