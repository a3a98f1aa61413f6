"""Running preprocessing steps: plates streamed to a profiles file, or a table in memory, to equal numbers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from morphobench.errors import DataError
from morphobench.files import atomic_path
from morphobench.preprocessing.base import Step
from morphobench.preprocessing.steps import build_steps
from morphobench.preprocessing.stores import MemoryStore, PlateSource, PlateStore, ScratchStore
from morphobench.profiles import PROVENANCE_KEY, Profiles, check_profiles

# The footer of a parquet file takes about 1.75 kB per feature and row group, in memory too: a row group per plate
# would cost as much as keeping all plates.
ROW_GROUP_BYTES = 64 * 2**20


def run_pipeline(
    steps: Sequence[dict[str, Any]],
    plates: Iterable[PlateSource],
    out_path: str | Path,
    scratch_dir: str | Path,
    *,
    row_group_bytes: int = ROW_GROUP_BYTES,
) -> dict[str, Any]:
    """Preprocess plates one at a time and write one profiles file.

    Memory holds one plate, one row group of the output and, for selection by correlation, a few feature-by-feature
    matrices. The output's rows are in plate order, its features sorted by name, float32; it appears only when
    complete.

    Parameters
    ----------
    steps
        The ``preprocessing`` list of a dataset spec.
    plates
        The plates in the order of the output; each is read once.
    out_path
        The profiles file to write.
    scratch_dir
        Folder for intermediate files (as large as the features in float32); what is made there is removed.
    row_group_bytes
        A row group is closed at the first plate with which its features reach this size.

    Returns
    -------
    dict
        The report: ``plates``, ``rows``, ``features_in``, ``features_out`` and, for each step, its parameters,
        feature counts, dropped features with reasons, and values imputed. JSON-able.

    Raises
    ------
    SpecError
        If the steps are wrong (see :func:`morphobench.preprocessing.steps.build_steps`).
    DataError
        If plates are unsound or disagree, lack the controls a step needs, or missing values are left at the end.
    """
    built = build_steps(steps)
    Path(scratch_dir).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch_dir, prefix="preprocessing-") as folder:
        store = ScratchStore(plates, Path(folder))
        report = _run(built, store)
        facts = {**store.provenance, "preprocessing": summary(report)}
        _write(store, Path(out_path), facts, built, row_group_bytes)
        _count(report, built)
    return report


def preprocess(profiles: Profiles, steps: Sequence[dict[str, Any]]) -> tuple[Profiles, dict[str, Any]]:
    """Preprocess a table in memory; the numbers equal those of :func:`run_pipeline` on its plates.

    Parameters
    ----------
    profiles
        Any rows, features may hold missing values. Rows keep their order; features come back sorted by name.
    steps
        The ``preprocessing`` list of a dataset spec.

    Returns
    -------
    tuple
        The profiles, finite, with ``preprocessing`` in their provenance; and the report.
    """
    built = build_steps(steps)
    store = MemoryStore(profiles)
    report = _run(built, store)
    features = np.empty((len(profiles), len(store.names)), dtype=np.float32)
    for index, block in enumerate(store.blocks()):
        features[store.rows[index]] = block.features
    _count(report, built)
    result = profiles.with_features(features, store.names, preprocessing=summary(report))
    _check_finite(result, "preprocessed profiles", built)
    check_profiles(result, "preprocessed profiles")
    return result, report


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report for the provenance: the same, with the number of dropped features for their list."""
    steps = [{**step, "dropped": len(step["dropped"])} for step in report["steps"]]
    return {**report, "steps": [{k: v for k, v in step.items() if k != "imputed"} for step in steps]}


def _run(steps: list[Step], store: PlateStore) -> dict[str, Any]:
    """Fit the steps in turn and return the report."""
    rows = sum(entry.rows for entry in store.entries)
    report: dict[str, Any] = {"plates": len(store.entries), "rows": rows, "features_in": len(store.names)}
    report["steps"] = []
    for step in steps:
        before = len(store.names)
        dropped = store.add(step)
        report["steps"].append(
            {
                **_plain(step.parameters()),
                "features_in": before,
                "features_out": len(store.names),
                "dropped": dropped,
            }
        )
    report["features_out"] = len(store.names)
    return report


def _count(report: dict[str, Any], steps: list[Step]) -> None:
    """Add to the report what is known only after the last plate."""
    for entry, step in zip(report["steps"], steps, strict=True):
        entry.update(step.facts())


def _plain(parameters: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in parameters.items()}


def _write(
    store: ScratchStore, path: Path, provenance: dict[str, Any], steps: list[Step], row_group_bytes: int
) -> None:
    """Write the plates, each checked, in row groups of whole plates."""
    fields = [*store.schema, *(pa.field(name, pa.float32()) for name in store.names)]
    text = json.dumps(provenance, sort_keys=True).encode()
    schema = pa.schema(fields, metadata={PROVENANCE_KEY: text})
    labels = list(store.schema.names)
    waiting: list[pa.Table] = []
    with (
        atomic_path(path) as part,
        # Statistics and dictionaries of features would only make the footer larger.
        pq.ParquetWriter(
            part, schema, compression="zstd", write_statistics=labels, use_dictionary=labels
        ) as writer,
    ):
        for index, entry in enumerate(store.entries):
            metadata = store.table(index)
            features = store.current(index).features
            plate = Profiles(metadata.to_pandas(), features, store.names)
            where = f"plate {entry.plate} after preprocessing"
            _check_finite(plate, where, steps)
            check_profiles(plate, where)
            arrays = [*metadata.columns, *(pa.array(column) for column in np.ascontiguousarray(features.T))]
            waiting.append(pa.table(arrays, schema=schema))
            rows = sum(map(len, waiting))
            if rows * len(store.names) * 4 >= row_group_bytes or index == len(store.entries) - 1:
                writer.write_table(pa.concat_tables(waiting), row_group_size=rows)
                waiting = []


def _check_finite(profiles: Profiles, where: str, steps: list[Step]) -> None:
    """Raise DataError naming a feature that still has missing values and the step to add."""
    finite = np.isfinite(profiles.features)
    if finite.all():
        return
    row, col = (int(i) for i in np.argwhere(~finite)[0])
    found = profiles.features[row, col]
    metadata = profiles.metadata.iloc[row]
    remedy = (
        "the impute step comes too early or does not cover this kind"
        if any(step.step == "impute" for step in steps)
        else "add {step: impute, scope: all, value: 0.0} to the preprocessing"
    )
    raise DataError(
        f"{where}: feature {profiles.names[col]} is {found} in well {metadata['Metadata_Well']} of plate "
        f"{metadata['Metadata_Plate']} and profiles must be finite; {remedy}"
    )
