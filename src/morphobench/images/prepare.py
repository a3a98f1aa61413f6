"""From a unit's manifest to its part of the image store, as the workflow's jobs do it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from morphobench.errors import DataError
from morphobench.fetch.dataset import load_callable
from morphobench.fetch.manifest import read_unit_manifest
from morphobench.fetch.screens import fixed_files
from morphobench.fetch.unit import HAD
from morphobench.images.unit import UnitFiles
from morphobench.images.write import write_unit


def prepare_unit(
    spec: Mapping[str, Any],
    unit: str,
    *,
    files: str | Path,
    manifest: str | Path,
    folder: str | Path,
    keep_raw: bool = True,
) -> dict[str, Any]:
    """Read the raw images of one unit into the store's folder.

    Parameters
    ----------
    spec
        Keys used: ``files`` and ``images`` with ``lister``, ``reader`` (module:callable), ``options`` and
        ``channels``.
    unit
        The unit's name.
    files, manifest
        The manifests of the files that all units share, and of the unit's own.
    folder
        The store's folder, see :func:`morphobench.images.write.write_unit`.
    keep_raw
        False: delete the unit's raw files afterwards, and first its manifest, except a user's own copies and what
        other units need too.

    Returns
    -------
    dict
        What ``<unit>.json`` holds.

    Raises
    ------
    DataError
        If a raw file that was fetched is gone; see also the reader and :func:`write_unit`.
    """
    records = tuple(read_unit_manifest(manifest))
    for path in {record["path"] for record in records if record["status"] in HAD}:
        if not Path(path).is_file():
            raise DataError(f"{path}: was fetched and is gone; remove {manifest} to fetch it again")
    images = spec["images"]
    reader = load_callable(images["reader"], "images.reader")
    unit_files = UnitFiles(unit, fixed_files(spec["files"], files), records, images["options"])
    facts = write_unit(reader, unit_files, folder, channels=images["channels"])
    if not keep_raw:
        _remove_raw(images, unit_files, Path(manifest))
    return facts


def _remove_raw(images: Mapping[str, Any], unit: UnitFiles, manifest: Path) -> None:
    variants = load_callable(images["lister"], "images.lister")(unit.unit, unit.files, unit.options)
    shared = {file.url for variant in variants for file in variant.files if file.shared}
    doomed = [r["path"] for r in unit.records if r["status"] in HAD - {"local"} and r["url"] not in shared]
    if doomed:
        # First, so that after an interruption the unit counts as not fetched rather than as damaged.
        manifest.unlink(missing_ok=True)
    for path in doomed:
        Path(path).unlink(missing_ok=True)
