"""Folds over the samples of a store: which sample trains, validates and tests in which fold."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from morphobench.errors import DataError, SpecError

SPLITS = ("train", "val", "test")
UNUSED = "unused"
IDENTITY = tuple(f"Metadata_{c}" for c in ("Plate", "Well", "Site", "Time", "Tile", "Crop", "Cell"))
_KEYS = {
    "rotate_groups": ({"by", "train", "val", "test"}, {"step", "folds"}),
    "replicates": (set(), {"train", "val", "test", "step", "folds"}),
    "random": ({"train", "val"}, {"test", "seed", "stratify", "folds"}),
}


def fold_columns(spec: Mapping[str, Any] | None) -> list[str]:
    """Return the columns of the samples that :func:`assign_folds` reads, as far as samples have them."""
    if spec is None:
        return ["Metadata_Split"]
    if spec.get("kind") == "rotate_groups":
        return [spec["by"]]
    if spec.get("kind") == "replicates":
        return ["Metadata_Plate", "Metadata_Well", "Metadata_Control", "Metadata_Replicate"]
    return list(dict.fromkeys([*IDENTITY, "Metadata_Unit", *([spec["stratify"]] if spec.get("stratify") else [])]))


def assign_folds(samples: pd.DataFrame, spec: Mapping[str, Any] | None) -> pd.DataFrame:
    """Return what each sample is used for in each fold.

    Parameters
    ----------
    samples
        The samples' ``Metadata_*`` columns.
    spec
        ``kind`` and its parameters, or None for the one fold that ``Metadata_Split`` states.

        ``rotate_groups``
            Groups are the sorted values of column ``by`` (``week 10`` after ``week 9``), in a circle. Fold k
            trains on ``train`` groups from group k times ``step`` on, validates on the next ``val``, tests on the
            next ``test``; the others are unused. There are ``folds`` folds, by default as many as it takes to go
            round. CDCL (Haslum et al. 2023, section 4; authors' code, 24 HUVEC experiments): 16, 4, 4, step 4.
        ``replicates``
            The same over the replicate number of plates, by default 3, 1, 1, step 1: CDCL's five folds of CPG0004
            (123/4/5, 234/5/1, 345/1/2, 451/2/3, 512/3/4). A plate's number is the median of
            ``Metadata_Replicate`` over its wells, each once, rounded down; wells of negative controls count only
            on plates that have no others. A plate without any number is unused.
        ``random``
            Fractions ``train``, ``val`` and ``test`` (default: the rest) of the samples of each unit and of each
            value of column ``stratify``, drawn by ``seed`` (default 0); ``folds`` (default 1) independent draws.
            The draw depends on what a sample is (plate, well, site, ... cell), not on its row, and units do not
            influence each other.

    Returns
    -------
    DataFrame
        Columns ``fold0`` ... with ``train``, ``val``, ``test`` or ``unused``; one row a sample, in their order.

    Raises
    ------
    SpecError
        If the spec has an unknown kind or key, lacks one, or has numbers that make no folds.
    DataError
        If the samples lack a column or have fewer groups than a fold needs.
    """
    if spec is None:
        return pd.DataFrame({"fold0": _column(samples, "Metadata_Split").astype(str).to_numpy()})
    spec = _checked(spec)
    if spec["kind"] == "random":
        return _random(samples, spec)
    if spec["kind"] == "replicates":
        groups, what = plate_replicates(samples), "replicates"
        spec = {"train": 3, "val": 1, "test": 1, "step": 1, **spec}
    else:
        groups, what = _column(samples, spec["by"]), f"values of {spec['by']}"
    codes, names = _sorted_codes(groups)
    windows = rotations(
        len(names), spec["train"], spec["val"], spec["test"], spec.get("step", 1), spec.get("folds")
    )
    if not windows:
        needed = spec["train"] + spec["val"] + spec["test"]
        raise DataError(
            f"folds need {needed} {what} ({spec['train']} to train, {spec['val']} to validate, {spec['test']} to "
            f"test), the samples have {len(names)}: {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
        )
    # The last entry is what code -1, a sample without a group, gets.
    return pd.DataFrame({f"fold{k}": np.array([*w, UNUSED], dtype=object)[codes] for k, w in enumerate(windows)})


def rotations(
    groups: int, train: int, val: int, test: int, step: int, folds: int | None = None
) -> list[list[str]]:
    """Return, for each fold, the split of each of the groups; empty if there are fewer groups than a fold needs.

    Parameters
    ----------
    groups
        Number of groups, in a circle.
    train, val, test
        How many consecutive groups of each.
    step
        By how many groups a fold starts after the one before.
    folds
        How many folds; by default ``groups // step``, at least one.
    """
    if train + val + test > groups:
        return []
    splits = ["train"] * train + ["val"] * val + ["test"] * test + [UNUSED] * (groups - train - val - test)
    count = folds or max(1, groups // step)
    return [[splits[(g - k * step) % groups] for g in range(groups)] for k in range(count)]


def plate_replicates(samples: pd.DataFrame) -> pd.Series:
    """Return for each sample the replicate number of its plate as nullable text, see :func:`assign_folds`."""
    plates, wells = _column(samples, "Metadata_Plate"), _column(samples, "Metadata_Well")
    numbers = pd.to_numeric(_column(samples, "Metadata_Replicate"))
    negative = samples["Metadata_Control"] == "negcon" if "Metadata_Control" in samples else plates != plates
    frame = pd.DataFrame({"plate": plates, "well": wells, "number": numbers, "negative": negative})
    frame = frame.dropna(subset="number").drop_duplicates(["plate", "well"])
    treated = frame[~frame["negative"]].groupby("plate")["number"].median()
    others = frame[frame["negative"]].groupby("plate")["number"].median()
    medians = np.floor(treated.combine_first(others)).astype("Int64").astype("string")
    return plates.map(medians)


def _checked(spec: Mapping[str, Any]) -> dict[str, Any]:
    kind = spec.get("kind")
    if kind not in _KEYS:
        raise SpecError(f"folds: kind is {kind!r}, expected one of {', '.join(_KEYS)}")
    needed, others = _KEYS[kind]
    for key in [*sorted(needed - set(spec)), *sorted(set(spec) - needed - others - {"kind"})]:
        problem = "is missing" if key in needed else "is unknown"
        raise SpecError(
            f"folds: key {key!r} of kind {kind} {problem}; it has {', '.join(sorted(needed | others))}"
        )
    for key in SPLITS if kind != "random" else ():
        if key in spec and (not isinstance(spec[key], int) or spec[key] < 0):
            raise SpecError(f"folds: {key} is {spec[key]!r}, expected a whole number of groups")
    for key in ("step", "folds"):
        if spec.get(key) is not None and (not isinstance(spec[key], int) or spec[key] < 1):
            raise SpecError(f"folds: {key} is {spec[key]!r}, expected a whole number, 1 or more")
    return dict(spec)


def _column(samples: pd.DataFrame, name: str) -> pd.Series:
    if name not in samples:
        raise DataError(f"folds need column {name}, which the samples do not have")
    return samples[name].reset_index(drop=True)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Return a sort key that puts ``week 10`` after ``week 9``."""
    return [(0, int(t), "") if t.isdigit() else (1, 0, t) for t in re.split(r"(\d+)", name) if t]


def _sorted_codes(groups: pd.Series) -> tuple[np.ndarray, list[str]]:
    codes, found = pd.factorize(groups)
    names = [str(v) for v in found]
    order = sorted(range(len(names)), key=lambda i: natural_key(names[i]))
    ranks = np.full(len(names) + 1, -1)
    ranks[order] = np.arange(len(names))
    return ranks[codes], [names[i] for i in order]


def _random(samples: pd.DataFrame, spec: Mapping[str, Any]) -> pd.DataFrame:
    train, val = float(spec["train"]), float(spec["val"])
    test = float(spec.get("test", 1 - train - val))
    if min(train, val, test) < -1e-9 or not np.isclose(train + val + test, 1):
        raise SpecError(f"folds: fractions train {train}, val {val} and test {test:.3g} do not add up to 1")
    names = sample_names(samples)
    units = samples["Metadata_Unit"] if "Metadata_Unit" in samples else _column(samples, "Metadata_Plate")
    blocks = units.astype(str).reset_index(drop=True)
    if spec.get("stratify"):
        blocks = blocks + "\t" + _column(samples, spec["stratify"]).astype(str)
    codes, found = pd.factorize(blocks)
    sizes = np.bincount(codes, minlength=len(found))
    edges = np.array([train, train + val if test > 1e-9 else np.inf])
    folds = {}
    for fold in range(spec.get("folds") or 1):
        salt = f"{spec.get('seed', 0)}\t{fold}\t"
        # Systematic sampling: the samples of a block, in the order of their hashes, share the unit interval
        # evenly, from a random start so that blocks of few samples are not all training.
        order = np.lexsort((_hashes(names, salt), codes))
        ranks = np.empty(len(codes), dtype=np.int64)
        ranks[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        starts = (_hashes(found, salt + "block\t") >> np.uint64(11)) / 2.0**53
        places = (ranks + starts[codes]) / sizes[codes]
        folds[f"fold{fold}"] = np.array(SPLITS, dtype=object)[np.searchsorted(edges, places, side="right")]
    return pd.DataFrame(folds)


def sample_names(samples: pd.DataFrame) -> np.ndarray:
    """Return a text that names each sample by its plate, well, site and so on; whole numbers without a point."""
    _column(samples, "Metadata_Plate")
    names = np.full(len(samples), "", dtype=object)
    for column in IDENTITY:
        if column in samples:
            values = samples[column]
            if pd.api.types.is_float_dtype(values):
                values = values.map(lambda v: str(int(v)) if float(v).is_integer() else str(v), na_action="ignore")
            names = (
                names
                + column
                + "="
                + values.astype(object).where(values.notna(), "").astype(str).to_numpy()
                + "\t"
            )
    return names


def _hashes(names: Sequence[str], salt: str) -> np.ndarray:
    start = hashlib.blake2b(salt.encode(), digest_size=8)

    def one(name: str) -> bytes:
        digest = start.copy()
        digest.update(name.encode())
        return digest.digest()

    return np.frombuffer(b"".join(map(one, names)), dtype="<u8")
