"""The Funk et al. 2022 screen as profiles: the authors' CellProfiler features, averaged by guide or gene and well.

The table has tens of millions of cells with about a thousand features each. It is read once, part by part; what a
part adds to the sums of a well is written to a scratch file of that well, so that memory holds one part's sums,
then one well's.
"""

from __future__ import annotations

import tempfile
import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from morphobench.datasets.collection import (
    ANNOTATION_COLUMNS,
    PlateCollection,
    PlateSource,
    excluded_table,
    need_file,
    refuse_unknown_options,
)
from morphobench.datasets.funk22_published import read_complexes as read_complexes
from morphobench.datasets.funk22_published import read_functions as read_functions
from morphobench.datasets.funk22_table import CONTROL, Part, batches, choose_parts, open_part
from morphobench.errors import DataError, SpecError
from morphobench.fetch.addresses import local_path
from morphobench.profiles import Profiles

GROUPS = ("plate", "well", "sgRNA_0", "gene_symbol_0")
LEVELS = ("guide", "gene")
# Columns of these beginnings are features, but for those that say where a cell lies.
_PREFIXES = ("cell_", "nucleus_")
_PLACES = ("i", "j", "bounds_0", "bounds_1", "bounds_2", "bounds_3")
_OPTIONS = ("plates", "level", "wells")


@dataclass
class _Sums:
    """Sums and counts of cells by well, guide and gene, spilled to one scratch file a well."""

    folder: Path
    width: int
    keys: dict[tuple[str, str], list[tuple[str, str, int]]] = field(default_factory=dict)
    lost: Counter = field(default_factory=Counter)
    seen: Counter = field(default_factory=Counter)

    def path(self, well: tuple[str, str]) -> Path:
        return self.folder / f"{list(self.keys).index(well)}.bin"

    def add(self, keys: pd.DataFrame, values: np.ndarray) -> None:
        """Add cells: their :data:`GROUPS` and features (n, D)."""
        good = np.isfinite(values).all(axis=1)
        wells = list(zip(keys["plate"], keys["well"], strict=True))
        self.seen.update(wells)
        self.lost.update(well for well, ok in zip(wells, good, strict=True) if not ok)
        keys, values = keys[good].reset_index(drop=True), values[good]
        for well, places in keys.groupby(["plate", "well"]).indices.items():
            codes, found = pd.factorize(
                pd.MultiIndex.from_frame(keys.loc[places, ["sgRNA_0", "gene_symbol_0"]]), sort=True
            )
            order = np.argsort(codes, kind="stable")
            starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
            sums = np.add.reduceat(values[places][order], starts, axis=0)
            counts = np.bincount(codes)
            self.keys.setdefault(well, []).extend((g, s, int(n)) for (g, s), n in zip(found, counts, strict=True))
            with self.path(well).open("ab") as stream:
                stream.write(np.ascontiguousarray(sums, np.float64).tobytes())

    def means(self, well: tuple[str, str], level: str) -> tuple[pd.DataFrame, np.ndarray]:
        """Return guide, gene and number of cells of each row of a well, and the means (n, D) float32."""
        sums = np.fromfile(self.path(well), np.float64).reshape(-1, self.width)
        table = pd.DataFrame(self.keys[well], columns=["guide", "gene", "count"])
        by = ["gene", "guide"] if level == "guide" else ["gene"]
        codes, found = pd.factorize(pd.MultiIndex.from_frame(table[by]), sort=True)
        count = np.bincount(codes, table["count"]).astype(np.int64)
        total = np.zeros((len(found), self.width))
        np.add.at(total, codes, sums)
        return found.set_names(by).to_frame(index=False).assign(count=count), (total / count[:, None]).astype(
            np.float32
        )


def read(files: Mapping[str, Path], plates_root: Path | None, options: Mapping[str, Any]) -> PlateCollection:
    """Average the screen's cell table.

    Parameters
    ----------
    files
        ``listing`` (the Dataverse's listing of the table), ``corum`` (complex, tab, genes), ``functions`` (JSON,
        gene to group).
    plates_root
        Folder of raw files, in which the parts lie under their addresses.
    options
        ``plates``: the ``plates`` part of the spec, whose ``select`` says which parts; ``level``: ``guide`` (a row
        a guide and well, the default) or ``gene``; ``wells``: names of plate-wells, by default all of the table.

    Returns
    -------
    PlateCollection
        One plate a plate-well, which is the batch and gives ``Metadata_Plate``; ``Metadata_Site`` is the guide (or
        gene), ``Metadata_CellCount`` the cells averaged. Cells with a feature that is NaN or infinite are left out
        as the mcVAE authors do, and counted in ``excluded``, with columns that are no features. Annotations:
        ``corum`` and ``function``.

    Raises
    ------
    DataError
        If a part is missing, unreadable or unlike the others, or no cell is left.
    """
    refuse_unknown_options(options, _OPTIONS)
    level = options.get("level", "guide")
    if level not in LEVELS:
        raise SpecError(f"reader_options.level is {level!r}, expected one of {', '.join(LEVELS)}")
    if plates_root is None or "plates" not in options:
        raise SpecError("the reader needs the folder of raw files and the plates part of the spec")
    select = options["plates"].get("select") or {}
    parts = choose_parts(need_file(files, "listing"), select.get("tables"), select.get("parts"))
    paths = [_path(part, Path(plates_root)) for part in parts]
    names, others = _features(paths[0])
    scratch = tempfile.TemporaryDirectory(prefix="funk22-")
    sums = _Sums(Path(scratch.name), len(names))
    unnamed = 0
    for path in paths:
        unnamed += _add_part(sums, path, names, options.get("wells"))
    excluded = [("feature", name, "says where or what a cell is, not how it looks") for name in others]
    if unnamed:
        excluded.append(("cell", "all", f"{unnamed} cells without a plate, well, guide or gene"))
    for well, lost in sorted(sums.lost.items()):
        excluded.append(
            ("cell", "_".join(well), f"{lost} of {sums.seen[well]} cells with a NaN or infinite feature")
        )
    if not sums.keys:
        raise DataError(f"{paths[0].parent}: no cell with finite features in {len(paths)} parts; see the options")
    sources = tuple(
        PlateSource("_".join(well), "_".join(well), _reader(sums, well, level, names))
        for well in sorted(sums.keys)
    )
    # The scratch files live as long as somebody may read them.
    weakref.finalize(sums, scratch.cleanup)
    screened = {gene for rows in sums.keys.values() for _, gene, _ in rows} - {CONTROL}
    annotations, left_out = _annotations(files, screened)
    notes = {"parts": len(paths), "cells": sum(sums.seen.values()), "genes": len(screened), "level": level}
    return PlateCollection(sources, names, annotations, excluded_table([*excluded, *left_out]), notes)


def _path(part: Part, root: Path) -> Path:
    path = local_path(part.raw.url, root)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected part {part.name} of the cell table")
    return path


def _features(path: Path) -> tuple[tuple[str, ...], list[str]]:
    """Return the names of the features and of the numeric columns that are none."""
    with open_part(path, GROUPS) as file:
        schema = file.schema_arrow
    numeric = [f.name for f in schema if pa.types.is_floating(f.type) or pa.types.is_integer(f.type)]
    places = {prefix + place for prefix in _PREFIXES for place in _PLACES}
    names = tuple(sorted(n for n in numeric if n.startswith(_PREFIXES) and n not in places))
    if not names:
        raise DataError(f"{path}: has no numeric column that starts with {' or '.join(_PREFIXES)}")
    return names, sorted(set(numeric) - set(names) - set(GROUPS))


def _add_part(sums: _Sums, path: Path, names: tuple[str, ...], wells: Iterable[str] | None) -> int:
    """Add one part to the sums; return how many of its cells have no name."""
    unnamed = 0
    with open_part(path, (*GROUPS, *names)) as file:
        for table in batches(file, path, (*GROUPS, *names)):
            keys = table.select(list(GROUPS)).to_pandas(ignore_metadata=True).astype(object)
            known = keys.notna().all(axis=1).to_numpy()
            unnamed += int((~known).sum())
            if wells is not None:
                wanted = (keys["plate"].astype(str) + "_" + keys["well"].astype(str)).isin(list(wells))
                known = known & wanted.to_numpy()
            values = np.empty((len(keys), len(names)))
            for i, name in enumerate(names):
                values[:, i] = table.column(name).to_numpy()
            sums.add(keys[known].reset_index(drop=True), values[known])
    return unnamed


def _reader(sums: _Sums, well: tuple[str, str], level: str, names: tuple[str, ...]):
    def read_well() -> Profiles:
        table, features = sums.means(well, level)
        gene = table["gene"].astype(object)
        metadata = pd.DataFrame(
            {
                "Metadata_Batch": "_".join(well),
                # Preprocessing goes by plates of one batch, and here that is a well.
                "Metadata_Plate": "_".join(well),
                "Metadata_Well": well[1],
                "Metadata_Site": table[level].astype(object),
                "Metadata_Perturbation": gene,
                "Metadata_Control": np.where(gene == CONTROL, "negcon", "trt"),
                "Metadata_Split": "train",
                "Metadata_Gene": gene,
            }
        )
        if level == "guide":
            metadata["Metadata_Guide"] = table["guide"].astype(object)
        return Profiles(metadata.assign(Metadata_CellCount=table["count"]), features, names)

    return read_well


def _annotations(files: Mapping[str, Path], screened: set[str]) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    complexes, small = read_complexes(need_file(files, "corum"), screened)
    functions, unscreened = read_functions(need_file(files, "functions"), screened)
    rows = [(gene, name, "corum") for name, members in complexes.items() for gene in members]
    rows += [(gene, group, "function") for gene, group in functions]
    return pd.DataFrame(rows, columns=list(ANNOTATION_COLUMNS)), [*small, *unscreened]
