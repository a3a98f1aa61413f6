"""cpg0016, the JUMP Cell Painting data: well profiles, one parquet file a plate, and the consortium's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from morphobench.datasets.collection import (
    PlateCollection,
    PlateSource,
    excluded_table,
    need_columns,
    need_file,
    refuse_unknown_options,
)
from morphobench.datasets.jump_annotations import chosen_wells
from morphobench.datasets.jump_features import common_features, read_mandatory
from morphobench.datasets.jump_selection import split_plates
from morphobench.datasets.jump_tables import join_tables, split_by_plate
from morphobench.errors import DataError, SpecError
from morphobench.fetch.addresses import local_path
from morphobench.profiles import PREFIX, Profiles

_KEY = ("Metadata_Source", "Metadata_Plate", "Metadata_Well")
_OPTIONS = ("plates", "wells", "mechanisms", "features", "missing_features", "test_fraction", "split_seed")


@dataclass(frozen=True)
class _File:
    """What the footer and the three key columns of one plate's file say."""

    path: Path
    plate: str
    batch: str
    features: frozenset[str]
    wells: list[str]


def read(files: Mapping[str, Path], plates_root: Path | None, options: Mapping[str, Any]) -> PlateCollection:
    """Read JUMP plates; only metadata is held, features are read plate by plate.

    Parameters
    ----------
    files
        ``plate, well, compound, perturbation_control, microscope_config`` and optionally ``mandatory_features,
        cellprofiler_version, jump_moa``.
    plates_root
        Folder of raw files, in which plates lie under their addresses.
    options
        ``plates``: the ``plates`` part of the spec (``url``, ``select``, ``missing``); ``wells``: ``all``,
        ``controls`` or ``curated``, see :func:`~morphobench.datasets.jump_annotations.chosen_wells`;
        ``mechanisms``: whether profiles have ``Metadata_MoA``; ``features``: see
        :func:`~morphobench.datasets.jump_features.chosen_features`; ``missing_features``: ``error`` or
        ``exclude``; ``test_fraction``, ``split_seed``: see
        :func:`~morphobench.datasets.jump_tables.split_by_plate`.

    Returns
    -------
    PlateCollection
        Plates by source, batch and name; columns ``Metadata_Source, Metadata_Microscope, Metadata_Filter,
        Metadata_PlateType, Metadata_JCP2022`` and, with their files, ``Metadata_CellProfiler, Metadata_MoA``
        beside the required ones. Blocked plates, absent files, wells without a treatment, wells of one table that
        another lacks, and features that are not used are listed in ``excluded``.

    Raises
    ------
    DataError
        If a file is missing, unreadable or not as expected, a well occurs twice, or a plate lacks a feature.
    """
    refuse_unknown_options(options, _OPTIONS)
    if plates_root is None or "plates" not in options:
        raise SpecError("the JUMP reader needs the folder of raw files and the plates part of the spec")
    spec = options["plates"]
    chosen, blocked = split_plates(files, spec.get("select") or {})
    excluded = [("plate", r.Metadata_Plate, r.reason) for r in blocked.itertuples(index=False)]
    plate_files, absent = _plate_files(chosen, spec, Path(plates_root))
    excluded += absent
    tables = join_tables(files, chosen[chosen["Metadata_Plate"].isin([f.plate for f in plate_files])])
    mandatory = read_mandatory(need_file(files, "mandatory_features")) if "mandatory_features" in files else None
    names, left_out = common_features(
        {f"plate {f.plate} ({f.path})": f.features for f in plate_files},
        mandatory,
        options.get("features"),
        options.get("missing_features", "error"),
    )
    excluded += tables.excluded + left_out
    splits = split_by_plate(chosen, options.get("test_fraction", 0.3), options.get("split_seed", 0))
    sources = []
    explained = {id_ for _, id_, _ in tables.excluded}
    wells = _chosen(tables.wells, options.get("wells", "all"), explained, excluded)
    if not options.get("mechanisms", False):
        wells = wells.drop(columns="Metadata_MoA", errors="ignore")
    elif "Metadata_MoA" not in wells:
        raise SpecError("reader_options.mechanisms needs file jump_moa among the dataset's files")
    by_plate = dict(list(wells.groupby("Metadata_Plate")))
    for file in plate_files:
        metadata, rows = _match_wells(file, by_plate.get(file.plate), explained, excluded)
        if metadata is not None:
            metadata = metadata.assign(Metadata_Split=splits[file.plate])
            sources.append(PlateSource(file.plate, file.batch, _reader(file, metadata, rows, names)))
    if not sources:
        raise DataError(f"{plates_root}: no plate has a well with a known treatment; see the metadata tables")
    return PlateCollection(tuple(sources), names, excluded=excluded_table(excluded), notes=tables.notes)


def _plate_files(chosen: pd.DataFrame, spec: Mapping[str, Any], root: Path):
    found, absent = [], []
    # Plates by the thousand have the same few sets of columns: each is held once.
    sets: dict[frozenset[str], frozenset[str]] = {}
    for row in chosen.itertuples(index=False):
        url = spec["url"].format(source=row.Metadata_Source, batch=row.Metadata_Batch, plate=row.Metadata_Plate)
        path = local_path(url, root)
        if path.is_file():
            found.append(_open(path, row, sets))
        elif spec.get("missing", "error") == "record":
            absent.append(("plate", row.Metadata_Plate, "in the plate table, but the provider has no file"))
        else:
            raise DataError(f"{path}: no such file; expected the profiles of plate {row.Metadata_Plate}")
    if not found:
        raise DataError(f"{root}: has no file of any of the {len(chosen)} chosen plates")
    return found, absent


def _open(path: Path, row: Any, sets: dict[frozenset[str], frozenset[str]]) -> _File:
    try:
        with pq.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            need_columns(path, columns, _KEY)
            key = file.read(columns=list(_KEY)).to_pandas()
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error
    twice = sorted({c for c in columns if columns.count(c) > 1}) if len(set(columns)) < len(columns) else []
    if twice:
        raise DataError(f"{path}: column {twice[0]} occurs twice; expected each once")
    for column, expected in (("Metadata_Source", row.Metadata_Source), ("Metadata_Plate", row.Metadata_Plate)):
        other = key[column][key[column] != expected]
        if len(other):
            raise DataError(
                f"{path}: {column} is {other.iloc[0]!r} in row {other.index[0]}, expected {expected!r}"
            )
    if key["Metadata_Well"].isna().any():
        raise DataError(f"{path}: Metadata_Well is empty in row {int(key['Metadata_Well'].isna().argmax())}")
    if key["Metadata_Well"].duplicated().any():
        well = key["Metadata_Well"][key["Metadata_Well"].duplicated()].iloc[0]
        raise DataError(f"{path}: well {well} of plate {row.Metadata_Plate} occurs twice; expected one row a well")
    features = frozenset(c for c in columns if not c.startswith(PREFIX))
    features = sets.setdefault(features, features)
    return _File(path, row.Metadata_Plate, row.Metadata_Batch, features, key["Metadata_Well"].tolist())


def _chosen(
    wells: pd.DataFrame, which: str, explained: set[str], excluded: list[tuple[str, str, str]]
) -> pd.DataFrame:
    """Return the wells of a named choice; one row a plate says in ``excluded`` how many others there are."""
    keep = chosen_wells(wells, which)
    out = wells[~keep]
    explained |= set(out["Metadata_Plate"] + "/" + out["Metadata_Well"])
    for plate, count in out.groupby("Metadata_Plate", sort=True).size().items():
        excluded.append(("well", plate, f"{count} wells are not among those that wells: {which} chooses"))
    return wells[keep]


def _match_wells(
    file: _File, known: pd.DataFrame | None, explained: set[str], excluded: list[tuple[str, str, str]]
):
    """Return metadata of the usable wells in the file's order and their rows; list the rest in ``excluded``."""
    wells = known.set_index("Metadata_Well", drop=False) if known is not None else pd.DataFrame()
    rows = [i for i, well in enumerate(file.wells) if well in wells.index]
    for well in file.wells:
        if well not in wells.index and f"{file.plate}/{well}" not in explained:
            excluded.append(("well", f"{file.plate}/{well}", "profiled, but not in the well table"))
    for well in sorted(set(wells.index) - set(file.wells)):
        excluded.append(("well", f"{file.plate}/{well}", "in the well table, but not profiled"))
    if not rows:
        excluded.append(("plate", file.plate, "no well with a profile and a known treatment"))
        return None, None
    return wells.loc[[file.wells[i] for i in rows]].reset_index(drop=True), np.array(rows)


def _reader(file: _File, metadata: pd.DataFrame, rows: np.ndarray, names: tuple[str, ...]):
    def read_plate() -> Profiles:
        try:
            # Columns are asked for by name: their order differs between files.
            table = pq.read_table(file.path, columns=list(names))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file.path, error) from error
        features = np.empty((len(rows), len(names)), dtype=np.float32)
        with np.errstate(over="ignore"):
            for i, name in enumerate(names):
                column = table.column(name)
                if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
                    raise DataError(f"{file.path}: feature {name} has type {column.type}, expected numbers")
                features[:, i] = column.to_numpy()[rows]
        return Profiles(metadata.copy(), features, names)

    return read_plate


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]}); fetch it again")
