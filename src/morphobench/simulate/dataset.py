"""Simulating the dataset of a spec."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def simulate_dataset(spec: Mapping[str, Any], out_root: str | Path) -> None:
    """Call the simulator that a dataset spec names.

    Parameters
    ----------
    spec
        Keys used: ``simulator`` (module:callable) and ``simulate``, its parameters with the ``seed`` among them.
    out_root
        Files go to ``<out_root>/<host>/<path>``, with ``manifest.tsv`` at the top.
    """
    module, _, name = spec["simulator"].partition(":")
    parameters = dict(spec["simulate"] or {})
    seed = parameters.pop("seed", 0)
    records = getattr(importlib.import_module(module), name)(parameters, out_root, seed)
    print(f"{len(records)} files, {sum(r['size'] for r in records) / 1e6:.1f} MB")
