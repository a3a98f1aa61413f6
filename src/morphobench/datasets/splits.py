"""What a network is trained on and what is held out: whole sources, whole plates, or wells at random.

CellPainTR (section 4) tried all three; they answer different questions (a laboratory never seen, a plate never
seen, a well never seen) and their scores must not be pooled. The authors' committed scripts hold nothing out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from morphobench.datasets.jump_tables import split_by_plate
from morphobench.errors import DataError, SpecError

STRATEGIES = ("prepared", "none", "sources", "plates", "random")


def split(
    metadata: pd.DataFrame,
    strategy: str,
    seed: int = 0,
    *,
    fraction: float = 0.3,
    hidden: Sequence[str] = (),
    source: str = "Metadata_Source",
) -> np.ndarray:
    """Return ``train`` or ``test`` for every row, to be its ``Metadata_Split``.

    Whether a source, a plate or a well is held out depends on the seed and on names alone, not on the order of the
    rows, so that all branches of a data set agree.

    Parameters
    ----------
    metadata
        ``Metadata_*`` columns of all rows of the data set.
    strategy
        ``prepared``: as ``Metadata_Split`` says, validation rows kept as they are; ``none``: all rows are for
        training; ``sources``: the ``hidden`` sources are for testing or, if none is named, ``fraction`` of them,
        at least one; ``plates``: of each batch of two plates or more about ``fraction`` of the plates, at least
        one (:func:`morphobench.datasets.jump_tables.split_by_plate`), or the ``hidden`` plates; ``random``: each
        well with probability ``fraction``.
    seed
        Of the choice.
    fraction
        Share that is held out.
    hidden
        Names of sources or plates.
    source
        Column of the sources.

    Returns
    -------
    np.ndarray
        (N,) text.

    Raises
    ------
    SpecError
        If there is no such strategy or fraction.
    DataError
        If a hidden name is unknown, a column is missing, or nothing is left on one of the sides.
    """
    if strategy not in STRATEGIES:
        raise SpecError(f"split strategy is {strategy!r}, expected one of {', '.join(STRATEGIES)}")
    if not 0 < fraction < 1:
        raise SpecError(f"split {strategy}: fraction is {fraction}, expected more than 0 and less than 1")
    if hidden and strategy not in ("sources", "plates"):
        raise SpecError(f"split {strategy} takes no names of what is hidden; found {hidden[0]!r}")
    if strategy == "none":
        return np.full(len(metadata), "train", dtype=object)
    if strategy == "prepared":
        return _column(metadata, "Metadata_Split", strategy)
    if strategy == "sources":
        test = _by_name(_column(metadata, source, strategy), seed, fraction, hidden, "source")
    elif strategy == "plates" and hidden:
        test = _by_name(_column(metadata, "Metadata_Plate", strategy), seed, fraction, hidden, "plate")
    elif strategy == "plates":
        test = _plates(metadata, seed, fraction, source)
    else:
        wells = zip(*(_column(metadata, f"Metadata_{c}", strategy) for c in ("Plate", "Well")), strict=True)
        test = np.array([_share(f"{seed}:{plate}/{well}") < fraction for plate, well in wells])
    for side, rows in (("testing", test), ("training", ~test)):
        if not rows.any():
            raise DataError(
                f"split {strategy} leaves none of {len(test)} rows for {side}; expected some on both sides"
            )
    return np.where(test, "test", "train").astype(object)


def _column(metadata: pd.DataFrame, column: str, strategy: str) -> np.ndarray:
    if column not in metadata:
        raise DataError(f"split {strategy} needs column {column}, which the profiles lack")
    return metadata[column].astype(str).to_numpy(dtype=object)


def _by_name(values: np.ndarray, seed: int, fraction: float, hidden: Sequence[str], what: str) -> np.ndarray:
    names = sorted(set(values), key=lambda name: _digest(f"{seed}:{name}"))
    for name in hidden:
        if name not in names:
            raise DataError(
                f"split: hidden {what} {name!r} is not in the profiles; they have {', '.join(sorted(names))}"
            )
    if not hidden and len(names) < 2:
        raise DataError(f"split by {what} needs two of them; all {len(values)} rows are of {what} {names[0]}")
    chosen = list(hidden) or names[: min(len(names) - 1, max(1, round(len(names) * fraction)))]
    return np.isin(values, np.array(chosen, dtype=object))


def _plates(metadata: pd.DataFrame, seed: int, fraction: float, source: str) -> np.ndarray:
    columns = {c: _column(metadata, c, "plates") for c in ("Metadata_Batch", "Metadata_Plate")}
    # Not every data set has sources; a batch then stands for itself.
    columns["Metadata_Source"] = metadata[source].astype(str).to_numpy() if source in metadata else ""
    plates = pd.DataFrame(columns).drop_duplicates()
    sides = split_by_plate(plates, fraction, seed)
    return (sides.loc[columns["Metadata_Plate"]] == "test").to_numpy()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _share(text: str) -> float:
    """Return a number in [0, 1) that is a hash of the text."""
    return int(_digest(text)[:13], 16) / 16**13
