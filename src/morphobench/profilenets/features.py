"""Features by name: which ones a network knows, which group each belongs to, where a data set has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from morphobench.errors import DataError, nearest

# JUMP's dyes (CellPainTR, section C) and the stains of other screens; CellProfiler writes them as they are or, for
# images corrected for illumination or kept as they came, as CorrDAPI or OrigDAPI.
DYES = ("DNA", "ER", "Mito", "RNA", "AGP", "DAPI", "Actin", "Tub")
COMPARTMENTS = ("Cells", "Cytoplasm", "Nuclei")


def group_of(name: str, dyes: Sequence[str] = DYES) -> str:
    """Return the group of a feature, compartment and dye, such as ``Nuclei DNA``.

    The compartment is the first word of the name, the dye the first further word that names one. A correlation of
    two dyes belongs to the first, so that JUMP has 15 groups. A feature that names no dye (a shape, a neighbour)
    belongs to ``Nuclei no dye``; other schemes of names, such as ``salient_07``, to a group of their first word,
    without a number at its end.
    """
    words = [word for word in re.split("_+", name) if word]
    if not words:
        raise DataError(
            f"feature name {name!r} has no word; expected one such as Cells_Texture_Contrast_DNA_3_00_256"
        )
    bare = (word.removeprefix("Corr").removeprefix("Orig") for word in words[1:])
    dye = next((word for word in bare if word in dyes), None)
    if dye:
        return f"{words[0]} {dye}"
    return f"{words[0]} no dye" if words[0] in COMPARTMENTS else re.sub(r"\d+$", "", words[0]) or words[0]


@dataclass(frozen=True)
class Alignment:
    """Where the features of a network are among those of a data set.

    Attributes
    ----------
    columns
        (F,) int64 place of each of the network's features in the data set, -1 where it has none.
    absent
        The network's features that the data set lacks: they are masked.
    unknown
        The data set's features that the network does not know: they are left out.
    """

    columns: np.ndarray
    absent: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def present(self) -> np.ndarray:
        """(F,) bool: whether the data set has the feature."""
        return self.columns >= 0

    def take(self, features: np.ndarray) -> np.ndarray:
        """Return (n, F) float32 in the network's order of the data set's (n, D); 0 where a feature is absent."""
        if np.array_equal(self.columns, np.arange(features.shape[1])):
            return features
        taken = np.zeros((len(features), len(self.columns)), dtype=np.float32)
        taken[:, self.present] = features[:, self.columns[self.present]]
        return taken


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """The features of a network.

    Attributes
    ----------
    names
        F names, each once, in the order of the network's tokens.
    groups
        (F,) int64 codes of the groups that are masked alike.
    group_names
        The group of each code.
    """

    names: tuple[str, ...]
    groups: np.ndarray
    group_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_names(
        cls, names: Iterable[str], *, dyes: Sequence[str] = DYES, compartments: Sequence[str] | None = None
    ) -> FeatureSpace:
        """Return the space of these features, in their order, grouped by :func:`group_of`.

        Parameters
        ----------
        names
            Feature names.
        dyes
            Words that name a dye.
        compartments
            If given, every name must begin with one of these and name a dye, as CellPainTR's 3,255 do
            (:data:`COMPARTMENTS` and JUMP's five dyes).

        Raises
        ------
        DataError
            If there is no name, a name occurs twice, or one is not of the compartments and dyes asked for.
        """
        names = tuple(names)
        if not names:
            raise DataError("a feature space needs at least one feature name; found none")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"feature {twice} occurs twice; a feature space has each name once")
        found = [group_of(name, dyes) for name in names]
        if compartments is not None:
            for name, group in zip(names, found, strict=True):
                part, _, dye = group.partition(" ")
                if part not in compartments or dye not in dyes:
                    raise DataError(
                        f"feature {name} does not name a compartment ({', '.join(compartments)}) and a dye "
                        f"({', '.join(dyes)})"
                    )
        group_names, groups = np.unique(found, return_inverse=True)
        return cls(names, groups.astype(np.int64), tuple(str(name) for name in group_names))

    def align(self, names: Sequence[str], where: str, *, unknown: str = "error") -> Alignment:
        """Find the features of this space among those of a data set.

        Parameters
        ----------
        names
            The data set's features.
        where
            What the data set is called in messages.
        unknown
            ``error``: every feature of the data set must be known here; ``leave_out``: others are left out and
            listed.

        Raises
        ------
        DataError
            If a feature occurs twice, one is unknown and that is an error, or the data set has none of the
            features.
        """
        if unknown not in ("error", "leave_out"):
            raise ValueError(f"unknown is {unknown!r}, expected error or leave_out")
        places = {name: place for place, name in enumerate(names)}
        if len(places) < len(names):
            twice = next(name for place, name in enumerate(names) if places[name] != place)
            raise DataError(f"{where}: feature {twice} occurs twice; expected each once")
        columns = np.array([places.get(name, -1) for name in self.names], dtype=np.int64)
        strange = tuple(sorted(set(names) - set(self.names)))
        if not (columns >= 0).any():
            raise DataError(
                f"{where}: none of its {len(names)} features (such as {names[0]}) is among the {len(self)} that "
                f"the model knows (such as {self.names[0]})"
            )
        if strange and unknown == "error":
            raise DataError(
                f"{where}: {len(strange)} of {len(names)} features are unknown to the model, the first is "
                f"{strange[0]}{nearest(strange[0], list(self.names))}; leave them out or train on them"
            )
        absent = tuple(name for name, column in zip(self.names, columns, strict=True) if column < 0)
        return Alignment(columns, absent, strange if unknown == "leave_out" else ())

    def facts(self) -> dict[str, Any]:
        """Return the space as JSON-able facts, from which :meth:`from_facts` makes it again."""
        return {
            "names": list(self.names),
            "groups": [int(code) for code in self.groups],
            "group_names": list(self.group_names),
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> FeatureSpace:
        """Return the space that :meth:`facts` described."""
        return cls(tuple(facts["names"]), np.array(facts["groups"], dtype=np.int64), tuple(facts["group_names"]))
