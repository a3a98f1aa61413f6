"""From a dataset's spec and its folder of raw files to its plates."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphobench.datasets.collection import PlateCollection
from morphobench.errors import SpecError
from morphobench.fetch.addresses import local_path


def read_dataset(spec: Mapping[str, Any], raw_root: str | Path) -> PlateCollection:
    """Call the reader of a dataset spec (resolved for a scale) on fetched raw files.

    Parameters
    ----------
    spec
        Keys used: ``reader`` (module:callable), ``files``, ``plates``, ``reader_options``.
    raw_root
        The folder that :func:`morphobench.fetch.fetch_dataset` filled.

    Returns
    -------
    PlateCollection
        See the reader.
    """
    module, _, name = spec["reader"].partition(":")
    try:
        reader = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(f"reader is {spec['reader']!r}, expected module:callable ({error})") from error
    files = {entry["name"]: local_path(entry["url"], raw_root) for entry in spec["files"]}
    options = dict(spec.get("reader_options") or {})
    if spec.get("plates"):
        options["plates"] = spec["plates"]
    return reader(files, Path(raw_root), options)
