"""The mcVAE authors' published gene embedding of the Funk et al. 2022 pooled screen, with its gene sets.

One row a gene, 64 dimensions: the first 32 salient, the last 32 background (mcVAE, Wang et al. 2023).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
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
    need_columns,
    need_file,
    read_table,
    refuse_unknown_options,
)
from morphobench.errors import DataError
from morphobench.profiles import Profiles

CONTROL = "nontargeting"
PART = 32
INDEX = "gene_symbol_0"
_DIMENSIONS = tuple(str(i) for i in range(2 * PART))
NAMES = tuple(f"salient_{i:02d}" for i in range(PART)) + tuple(f"background_{i:02d}" for i in range(PART))


def read(files: Mapping[str, Path], plates_root: Path | None, options: Mapping[str, Any]) -> PlateCollection:
    """Read the published embedding and its annotations.

    Parameters
    ----------
    files
        ``embedding`` (parquet, index ``gene_symbol_0``), ``corum`` (complex, tab, genes), ``functions`` (JSON,
        gene to group), and optionally ``corum_pairs`` (``entity1,entity2``).
    plates_root
        Not used.
    options
        None known.

    Returns
    -------
    PlateCollection
        One plate ``published``; annotations of collections ``corum`` (complexes restricted to screened genes, with
        at least two of them) and ``function``; notes with the agreement of complexes and published pairs.

    Raises
    ------
    DataError
        If a file cannot be read or lacks what it must have, or a gene occurs twice.
    """
    refuse_unknown_options(options, ())
    path = need_file(files, "embedding")
    frame = _embedding(path)
    genes = frame.index.to_numpy(dtype=object)
    features = np.ascontiguousarray(frame[list(_DIMENSIONS)].to_numpy(dtype=np.float32))
    metadata = pd.DataFrame(
        {
            "Metadata_Batch": "published",
            "Metadata_Plate": "published",
            "Metadata_Well": genes,
            "Metadata_Perturbation": genes,
            "Metadata_Control": np.where(genes == CONTROL, "negcon", "trt"),
            "Metadata_Split": "test",
            "Metadata_Gene": genes,
        }
    )
    source = PlateSource("published", "published", lambda: Profiles(metadata.copy(), features.copy(), NAMES))
    screened = set(genes) - {CONTROL}
    complexes, small = read_complexes(need_file(files, "corum"), screened)
    functions, unscreened = read_functions(need_file(files, "functions"), screened)
    notes = {
        "genes": len(screened),
        "genes sharing a CORUM complex": len({g for m in complexes.values() for g in m}),
    }
    if "corum_pairs" in files:
        notes["corum pairs"] = _compare_pairs(need_file(files, "corum_pairs"), complexes, screened)
    rows = [(gene, name, "corum") for name, members in complexes.items() for gene in members]
    rows += [(gene, group, "function") for gene, group in functions]
    annotations = pd.DataFrame(rows, columns=list(ANNOTATION_COLUMNS))
    return PlateCollection((source,), NAMES, annotations, excluded_table([*small, *unscreened]), notes)


def _embedding(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a readable parquet file ({reason}); expected the gene embedding") from error
    if frame.index.name != INDEX:
        raise DataError(f"{path}: the index is {frame.index.name!r}, expected {INDEX!r} (one row a gene)")
    need_columns(path, frame.columns, _DIMENSIONS)
    if frame.index.has_duplicates:
        gene = frame.index[frame.index.duplicated()][0]
        raise DataError(f"{path}: gene {gene} occurs twice; expected one row a gene")
    if CONTROL not in frame.index:
        raise DataError(f"{path}: has no row {CONTROL!r}; expected the non-targeting control among the genes")
    return frame


def read_complexes(path: Path, screened: set[str]) -> tuple[dict[str, list[str]], list[tuple[str, str, str]]]:
    """Return the screened genes of each CORUM complex, and what was left out as ``what, id, reason``."""
    complexes: dict[str, list[str]] = {}
    left_out = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, tab, members = line.partition("\t")
        if not tab or not members.split():
            raise DataError(f"{path}: line {number} is not a complex name, a tab and its genes")
        if name in complexes:
            raise DataError(f"{path}: complex {name!r} occurs again in line {number}; expected each once")
        # A complex that is left out still holds its name, so that a second one of that name is noticed.
        complexes[name] = sorted(set(members.split()) & screened)
        if len(complexes[name]) < 2:
            count = len(complexes[name])
            left_out.append(("complex", name, f"{count} of its genes screened, at least 2 needed"))
    return {name: genes for name, genes in complexes.items() if len(genes) >= 2}, left_out


def read_functions(path: Path, screened: set[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Return ``(gene, functional group)`` of the screened genes, and what was left out as ``what, id, reason``."""
    try:
        groups = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not valid JSON ({error.msg}, line {error.lineno})") from error
    if not isinstance(groups, dict) or not all(isinstance(v, str) for v in groups.values()):
        raise DataError(f"{path}: expected one JSON object that gives each gene the name of its group")
    left_out = [
        ("gene", g, f"in functional group {groups[g]!r} but not screened") for g in groups if g not in screened
    ]
    return [(gene, group) for gene, group in groups.items() if gene in screened], left_out


def _compare_pairs(path: Path, complexes: Mapping[str, list[str]], screened: set[str]) -> dict[str, int]:
    table = read_table(path, ("entity1", "entity2"), dtype=str)
    published = {
        frozenset(pair)
        for pair in zip(table["entity1"], table["entity2"], strict=True)
        if pair[0] != pair[1] and pair[0] in screened and pair[1] in screened
    }
    derived = {frozenset(pair) for members in complexes.values() for pair in combinations(members, 2)}
    return {
        "both": len(published & derived),
        "only in complexes": len(derived - published),
        "only in pairs": len(published - derived),
        "disagreeing": len(published ^ derived),
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable text file ({error})") from error
