"""Which of a plate's CellProfiler columns are features here: the same for all plates, in the order of names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from morphobench.errors import DataError, SpecError


def chosen_features(names: Iterable[str], choice: Mapping[str, Any] | None) -> list[str]:
    """Return the names that name a dye and a compartment, sorted.

    Parameters
    ----------
    names
        CellProfiler feature names such as ``Cells_Texture_Contrast_DNA_3_00_256``.
    choice
        ``dyes`` and ``compartments``: lists, or null for any. None keeps every name. CellPainTR (section C) takes
        dyes DNA, ER, Mito, RNA, AGP and compartments Cells, Cytoplasm, Nuclei, which leaves 3,255 of JUMP's 4,762.
    """
    choice = choice or {}
    unknown = [key for key in choice if key not in ("dyes", "compartments")]
    if unknown:
        raise SpecError(
            f"reader_options.features has unknown key {unknown[0]!r}; known keys are dyes, compartments"
        )
    kept = []
    for name in names:
        words = set(re.split("_+", name))
        if all(choice.get(key) is None or words & set(choice[key]) for key in ("dyes", "compartments")):
            kept.append(name)
    return sorted(kept)


def read_mandatory(path: Path) -> list[str]:
    """Read a list of feature names, one a line; DataError if a line is no name or a name occurs twice."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list of feature names ({error})") from error
    names = [line.strip() for line in lines if line.strip()]
    for number, name in enumerate(names, start=1):
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise DataError(f"{path}: line {number} is {name[:40]!r}, expected one feature name")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}: feature {twice[0]} occurs twice; expected each once")
    if not names:
        raise DataError(f"{path}: is empty; expected feature names, one a line")
    return names


def common_features(
    columns: Mapping[str, frozenset[str]],
    mandatory: list[str] | None,
    choice: Mapping[str, Any] | None,
    missing: str,
) -> tuple[tuple[str, ...], list[tuple[str, str, str]]]:
    """Return the features of all plates and what is left out of them.

    Parameters
    ----------
    columns
        Feature columns of every plate, by a name for messages (the file).
    mandatory
        The published list of features that every plate has. Without it a feature is mandatory when more than
        half of the plates have it.
    choice
        See :func:`chosen_features`.
    missing
        ``error``: a chosen mandatory feature that a plate lacks is an error; ``exclude``: it is dropped for all.

    Returns
    -------
    names, excluded
        Sorted names, and ``(what, id, reason)`` rows.

    Raises
    ------
    DataError
        Naming the plate's file and the feature.
    """
    if missing not in ("error", "exclude"):
        raise SpecError(f"reader_options.missing_features is {missing!r}, expected error or exclude")
    counts = Counter(name for found in columns.values() for name in found)
    listed = mandatory is not None
    required = set(mandatory) if listed else {n for n, c in counts.items() if 2 * c > len(columns)}
    names = chosen_features(required, choice)
    excluded = [
        ("feature", name, f"in {counts[name]} of {len(columns)} plates, not a mandatory feature")
        for name in sorted(set(counts) - required)
    ]
    excluded += [
        ("feature", name, "names none of the chosen dyes or compartments")
        for name in sorted(required - set(names))
    ]
    lost = {name for name in names if counts[name] < len(columns)}
    if lost and missing == "error":
        for where, found in columns.items():
            gone = sorted(lost - found)
            if gone:
                more = f" and {len(gone) - 1} more" if len(gone) > 1 else ""
                raise DataError(f"{where}: feature {gone[0]} is missing{more}; expected it in every plate")
    excluded += [
        ("feature", n, f"missing in {len(columns) - counts[n]} of {len(columns)} plates") for n in sorted(lost)
    ]
    names = [name for name in names if name not in lost]
    if not names:
        raise DataError(f"{next(iter(columns))}: no feature is left that all {len(columns)} plates have")
    return tuple(names), excluded
