"""Mini-batches of profiles for CellPainTR: of one plate, of one source, or of sources mixed.

The rows of an epoch are dealt out by *hands*: a few plates are read, their rows shuffled together and cut into
mini-batches, then they are let go of. Only the plates of one hand, and of the next, which is read ahead, are in
memory. Which plates make a hand, and in which order their rows come, is a function of the seed and the epoch: an
interrupted training goes on at any mini-batch with the rows that an uninterrupted one would have seen, and reads
only the plates that it still needs.

The authors mix sources once, before the third stage: three times over they put the rows of five files together,
shuffle them and write them again, so that a row shares a file with rows of up to 125 plates. Here a hand is drawn
anew in each epoch, its plates spread over the sources in proportion, so in the course of the epochs every plate
meets every other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from morphobench.datasets.jump_annotations import chosen_wells
from morphobench.datasets.splits import split as split_rows
from morphobench.errors import DataError, SpecError
from morphobench.learning.randomness import sample_keys
from morphobench.learning.sampling import column_codes
from morphobench.profilenets.features import FeatureSpace
from morphobench.profilenets.rows import FileRows, HeldRows, Rows
from morphobench.profilenets.sources import Sources
from morphobench.profiles import Profiles

__all__ = ["COMPOSITIONS", "FeatureSpace", "ProfileData", "Sources"]

COMPOSITIONS = ("plate", "source", "mixed")
# Which of the generators of a seed: the order of plates, and that of the rows of a hand.
_PLATES, _ROWS = 0, 1


class ProfileData:
    """Mini-batches of the training wells of a profiles file.

    A hand of n rows is cut into ceil(n / batch_size) mini-batches of sizes that differ by at most one, so that no
    mini-batch has a handful of rows; every row is in one mini-batch of each epoch.

    Parameters
    ----------
    profiles
        The model's branch of a data set: a profiles file, or profiles in memory.
    composition
        ``plate``: a hand is one plate (CellPainTR's first stage; its code's second too); ``source``: plates of one
        source (the second stage, as described); ``mixed``: plates of all sources (the third).
    batch_size
        The largest number of rows of a mini-batch.
    seed
        Of the orders and the keys.
    space
        The network's features; those of the profiles if None.
    sources
        The network's sources; those of the training wells if None.
    wells
        ``all``, ``controls`` or ``curated``, see :func:`morphobench.datasets.jump_annotations.chosen_wells`.
    split
        ``strategy`` and further arguments of :func:`morphobench.datasets.splits.split`.
    source
        Column of the source tokens: ``Metadata_Source``, or the batch where all is of one source.
    label
        Column (or columns, the first that is not empty) of the contrastive labels.
    contrastive
        Whether the labels are used: there must then be two of them, and one with two wells.
    plates_at_once
        Plates of a hand of one source or of mixed sources, at most.
    unknown
        What becomes of features that the network does not know, see :meth:`FeatureSpace.align`.

    Attributes
    ----------
    rows
        (N,) int64 rows of the file that are trained on, ascending.
    space, sources, classes
        The network's features and sources, and the names of the labels.
    alignment
        Where the network's features are among the profiles'.
    facts
        What to keep beside a model.

    Raises
    ------
    SpecError
        If there is no such composition or choice of wells, or a number is not positive.
    DataError
        If the file is unsound, a column is missing, no well is left, or labels or sources are too few.
    """

    def __init__(
        self,
        profiles: str | Path | Profiles,
        *,
        composition: str,
        batch_size: int,
        seed: int,
        space: FeatureSpace | None = None,
        sources: Sources | None = None,
        wells: str = "all",
        split: Mapping[str, Any] | None = None,
        source: str = "Metadata_Source",
        label: str | Sequence[str] = "Metadata_Perturbation",
        contrastive: bool = False,
        plates_at_once: int = 25,
        unknown: str = "error",
    ) -> None:
        if composition not in COMPOSITIONS:
            raise SpecError(f"composition is {composition!r}, expected one of {', '.join(COMPOSITIONS)}")
        if min(batch_size, plates_at_once) < 1:
            raise SpecError(f"batch_size is {batch_size}, plates_at_once {plates_at_once}; expected at least 1")
        self.composition, self.batch_size, self.seed = composition, batch_size, seed
        self.plates_at_once = 1 if composition == "plate" else plates_at_once
        self._file: Rows = HeldRows(profiles) if isinstance(profiles, Profiles) else FileRows(profiles)
        self.where = self._file.where
        self.space = space or FeatureSpace.from_names(self._file.names)
        self.alignment = self.space.align(self._file.names, self.where, unknown=unknown)
        metadata = self._file.metadata()
        split = dict(split or {"strategy": "prepared"})
        side = split_rows(metadata, **split, source=source)
        self.rows = self._chosen(metadata, side, wells)
        # Codes are kept and the table is not: it would be the larger part of what grows with the plates.
        here = metadata.iloc[self.rows]
        if source not in here:
            raise DataError(
                f"{self.where}: column {source}, whose values have tokens, is missing; name another column"
            )
        origin = here[source].astype(str).to_numpy()
        self.sources = sources or Sources.of(origin)
        self._source = self.sources.codes(origin, self.where)
        self._label, self.classes = column_codes(here, label)
        plates, first, self._plate = np.unique(
            here["Metadata_Plate"].astype(str).to_numpy(), return_index=True, return_inverse=True
        )
        self._plate_source = self._source[first]
        if composition != "plate":
            self._check_plates(plates)
        if contrastive:
            self._check_labels(label)
        # Rows by plate: those of plate p are _by_plate[_start[p] : _start[p + 1]], ascending.
        self._by_plate = np.argsort(self._plate, kind="stable")
        self._start = np.searchsorted(self._plate[self._by_plate], np.arange(len(plates) + 1))
        self._plan_kept: tuple[int, list[np.ndarray], np.ndarray] | None = None
        self._hand_kept: tuple[int, int, np.ndarray] | None = None
        self.facts: dict[str, Any] = {
            "composition": composition,
            "wells": wells,
            "split": split,
            "rows": {name: int((side == name).sum()) for name in ("train", "val", "test")},
            "trained_on": len(self.rows),
            "plates": len(plates),
            "sources": [self.sources.names[code] for code in np.unique(self._source)],
            "classes": len(self.classes),
            "features": len(self.space),
            "absent_features": list(self.alignment.absent),
            "features_left_out": list(self.alignment.unknown),
        }

    def _chosen(self, metadata: pd.DataFrame, side: np.ndarray, wells: str) -> np.ndarray:
        if wells == "curated" and "Metadata_MoA" not in metadata:
            raise DataError(
                f"{self.where}: column Metadata_MoA is missing, and the curated wells are controls and "
                f"compounds of known mechanism; prepare the profiles with mechanisms"
            )
        chosen = chosen_wells(metadata, wells).to_numpy() & (side == "train")
        if not chosen.any():
            raise DataError(
                f"{self.where}: none of {len(metadata)} wells is left to train on (wells {wells}, "
                f"{int((side == 'train').sum())} of the training split); expected some"
            )
        return np.flatnonzero(chosen)

    def _check_plates(self, plates: np.ndarray) -> None:
        """Raise DataError unless each plate is of one source, and there are two sources to mix."""
        strange = self._source != self._plate_source[self._plate]
        if strange.any():
            plate = plates[self._plate[int(strange.argmax())]]
            raise DataError(f"{self.where}: plate {plate} has wells of two sources; expected one")
        if self.composition == "mixed" and len(np.unique(self._plate_source)) < 2:
            raise DataError(
                f"{self.where}: mini-batches of mixed sources need wells of two; all {len(self.rows)} training "
                f"wells are of {self.sources.names[self._source[0]]}"
            )

    def _check_labels(self, label: str | Sequence[str]) -> None:
        column = label if isinstance(label, str) else " or ".join(label)
        if len(self.classes) < 2:
            raise DataError(
                f"{self.where}: contrastive training needs two labels; all {len(self.rows)} training wells have "
                f"{column} {self.classes[0]}"
            )
        if np.bincount(self._label).max() < 2:
            raise DataError(
                f"{self.where}: contrastive training needs a label with two wells; each of the {len(self.rows)} "
                f"training wells has a {column} of its own"
            )

    def _plan(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the plates of each hand of an epoch, and the number of its first mini-batch (and the end)."""
        # Taken once: the reader in the background may ask for another epoch's.
        kept = self._plan_kept
        if kept is None or kept[0] != epoch:
            rng = np.random.default_rng([self.seed, _PLATES, epoch])
            hands = _hands(self._plate_source, self.composition, self.plates_at_once, rng)
            sizes = np.diff(self._start)
            steps = [-(-int(sizes[hand].sum()) // self.batch_size) for hand in hands]
            self._plan_kept = kept = (epoch, hands, np.concatenate([[0], np.cumsum(steps)]))
        return kept[1:]

    def steps(self, epoch: int) -> int:
        """Return the number of mini-batches of an epoch; only with ``plate`` it is the same for all."""
        return int(self._plan(epoch)[1][-1])

    def _order(self, epoch: int, hand: int) -> np.ndarray:
        """Return the training wells of a hand, by their place in ``rows``, in the order of its mini-batches."""
        plates = self._plan(epoch)[0][hand]
        places = np.concatenate([self._by_plate[self._start[p] : self._start[p + 1]] for p in plates])
        return np.random.default_rng([self.seed, _ROWS, epoch, hand]).permutation(places)

    def _read(self, epoch: int, hand: int) -> np.ndarray:
        """Return the features of a hand's wells in the order of its mini-batches, as the network has them."""
        if self._hand_kept is not None and self._hand_kept[:2] == (epoch, hand):
            return self._hand_kept[2]
        return self.alignment.take(self._file.read(self.rows[self._order(epoch, hand)]))

    def _cut(self, epoch: int, hand: int, step: int, features: np.ndarray) -> dict[str, torch.Tensor]:
        """Return a mini-batch of a hand."""
        starts = self._plan(epoch)[1]
        total, n = int(starts[hand + 1] - starts[hand]), len(features)
        mine = slice(n * step // total, n * (step + 1) // total)
        return self._made(self._order(epoch, hand)[mine], features[mine], epoch)

    def _made(self, places: np.ndarray, features: np.ndarray, epoch: int) -> dict[str, torch.Tensor]:
        present = torch.from_numpy(self.alignment.present)
        return {
            "values": torch.from_numpy(np.array(features)),
            "present": present.expand(len(places), -1).clone(),
            "source": torch.from_numpy(self._source[places]),
            "label": torch.from_numpy(self._label[places]),
            "row": torch.from_numpy(self.rows[places]),
            "key": sample_keys(self.seed, epoch, self.rows[places]),
        }

    def batch(self, epoch: int, step: int) -> dict[str, torch.Tensor]:
        """Return mini-batch number ``step`` of an epoch.

        Returns
        -------
        dict
            ``values`` (B, F) float32 in the order of ``space``, 0 where absent; ``present`` (B, F) bool;
            ``source`` and ``label`` (B,) int64 codes; ``row`` (B,) int64 rows of the file; ``key`` (B,) int64 to
            draw what is random of the sample from.
        """
        starts = self._plan(epoch)[1]
        if not 0 <= step < starts[-1]:
            raise IndexError(f"mini-batch {step} of {starts[-1]}")
        hand = int(np.searchsorted(starts, step, side="right")) - 1
        features = self._read(epoch, hand)
        self._hand_kept = (epoch, hand, features)
        return self._cut(epoch, hand, step - int(starts[hand]), features)

    def batches(self, epoch: int, first: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the mini-batches of an epoch from number ``first`` on; the next hand is read meanwhile."""
        hands, starts = self._plan(epoch)
        if not 0 <= first <= starts[-1]:
            raise IndexError(f"mini-batch {first} of {starts[-1]}")
        if first == starts[-1]:
            return
        begin = int(np.searchsorted(starts, first, side="right")) - 1
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, epoch, begin)
            for hand in range(begin, len(hands)):
                features = coming.result()
                if hand + 1 < len(hands):
                    coming = reader.submit(self._read, epoch, hand + 1)
                for step in range(max(first, starts[hand]), starts[hand + 1]):
                    yield self._cut(epoch, hand, int(step - starts[hand]), features)

    def in_order(self, batch_size: int | None = None) -> Iterator[dict[str, torch.Tensor]]:
        """Yield the same wells once in the order of the file, to be embedded; ``key`` is that of epoch 0."""
        size = batch_size or self.batch_size
        for first in range(0, len(self.rows), size):
            places = np.arange(first, min(first + size, len(self.rows)))
            yield self._made(places, self.alignment.take(self._file.read(self.rows[places])), 0)


def _hands(sources: np.ndarray, composition: str, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Deal plates out, at most ``size`` a hand, hands of nearly equal numbers of plates.

    Parameters
    ----------
    sources
        (P,) source of each plate.
    composition
        See :class:`ProfileData`. Mixed hands have of every source about its share of all plates: the k-th of a
        source's n plates, in random order, is put at (k + u) / n of the way, with one random u a source, and the
        way is cut into hands.
    """
    order = rng.permutation(len(sources))
    if composition == "plate":
        return list(order[:, None])
    groups = [order[sources[order] == source] for source in np.unique(sources)]
    if composition == "source":
        hands = [hand for group in groups for hand in np.array_split(group, -(-len(group) // size))]
        return [hands[i] for i in rng.permutation(len(hands))]
    way = np.concatenate([(np.arange(len(group)) + rng.random()) / len(group) for group in groups])
    spread = np.concatenate(groups)[np.argsort(way)]
    hands = np.array_split(spread, -(-len(spread) // size))
    return [hands[i] for i in rng.permutation(len(hands))]
