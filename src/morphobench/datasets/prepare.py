"""Preparing a dataset: raw files to profiles, with gene sets, what was left out, and a report beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from morphobench.datasets.collection import ANNOTATION_COLUMNS, PlateSource
from morphobench.datasets.reading import read_dataset
from morphobench.errors import SpecError
from morphobench.fetch.manifest import read_manifest
from morphobench.files import atomic_path, write_json
from morphobench.preprocessing.pipeline import run_pipeline


def prepare(
    spec: Mapping[str, Any],
    *,
    manifest: str | Path,
    raw_root: str | Path,
    profiles: str | Path,
    annotations: str | Path,
    excluded: str | Path,
    report: str | Path,
) -> None:
    """Read a dataset's raw files, preprocess them plate by plate, and write what every later step starts from.

    Parameters
    ----------
    spec
        A dataset spec, resolved for a scale.
    manifest
        What was fetched; files that the provider lacks are listed in ``excluded``.
    raw_root
        The folder of the raw files.
    profiles, annotations, excluded, report
        The files to write: profiles, gene sets (``entity, set, collection``; empty where there are none), what was
        left out and why (``what, id, reason``, features dropped by preprocessing included), and counts as JSON.
    """
    collection = read_dataset(spec, raw_root)
    profiles = Path(profiles)
    plates = [_with_provenance(plate, {"dataset": spec["id"], "source": spec["source"]}) for plate in collection]
    steps = _run(spec["preprocessing"], plates, profiles)
    missing = [
        ("file", r["url"], "the provider does not have it") for r in read_manifest(manifest) if not r["size"]
    ]
    dropped = [
        ("feature", name, f"{step['step']}: {reason}")
        for step in steps["steps"]
        for name, reason in step["dropped"].items()
    ]
    left_out = pd.concat(
        [collection.excluded, pd.DataFrame([*missing, *dropped], columns=collection.excluded.columns)]
    )
    with atomic_path(excluded) as part:
        left_out.to_csv(part, index=False)
    sets = collection.annotations
    if sets is None:
        sets = pd.DataFrame(columns=list(ANNOTATION_COLUMNS), dtype="string")
    with atomic_path(annotations) as part:
        sets.to_parquet(part, index=False)
    counts = left_out.groupby("what").size().to_dict()
    facts = {"dataset": spec["id"], "source": spec["source"], "notes": collection.notes}
    write_json(report, {**facts, "excluded": {k: int(v) for k, v in counts.items()}, "preprocessing": steps})
    print(
        f"{steps['rows']} rows of {steps['plates']} plates, {steps['features_out']} features; left out: {counts}"
    )


def prepare_model(
    spec: Mapping[str, Any], *, raw_root: str | Path, profiles: str | Path, report: str | Path
) -> None:
    """Preprocess a dataset's plates for a network that takes profiles, by ``preprocessing_model`` of its spec.

    The rows are those of :func:`prepare`, in the same order, with the same metadata; the features differ. The raw
    plates are read a second time, so that a run without such a network need not prepare for it.

    Parameters
    ----------
    spec
        A dataset spec, resolved for a scale.
    raw_root
        The folder of the raw files.
    profiles, report
        The files to write: profiles, and counts as JSON with the features that were dropped and why.

    Raises
    ------
    SpecError
        If the spec has no ``preprocessing_model``.
    """
    if not spec.get("preprocessing_model"):
        raise SpecError(
            f"dataset {spec['id']} has no preprocessing_model; no network can be trained on its profiles"
        )
    facts = {"dataset": spec["id"], "source": spec["source"]}
    collection = read_dataset(spec, raw_root)
    plates = [_with_provenance(plate, {**facts, "branch": "model"}) for plate in collection]
    steps = _run(spec["preprocessing_model"], plates, Path(profiles))
    write_json(report, {**facts, "notes": collection.notes, "preprocessing": steps})
    print(f"{steps['rows']} rows of {steps['plates']} plates, {steps['features_out']} features for networks")


def _run(steps: list[dict[str, Any]], plates: list[PlateSource], profiles: Path) -> dict[str, Any]:
    """Preprocess plates to a file, with a scratch folder of its own: two branches may be prepared at once."""
    scratch = profiles.parent / f"scratch-{profiles.stem}"
    report = run_pipeline(steps, plates, profiles, scratch)
    scratch.rmdir()
    return report


def _with_provenance(plate: PlateSource, facts: dict[str, Any]) -> PlateSource:
    def read():
        profiles = plate.read()
        return replace(profiles, provenance={**profiles.provenance, **facts})

    return replace(plate, read=read)
