"""Which images are shown together: partners of another batch, and the subsets a network is trained on.

Everything is looked up in integer arrays that are computed once; drawing the partners of B images takes O(B).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from morphobench.errors import DataError
from morphobench.images.folds import natural_key

SUBSETS = ("all", "controls", "treatments", "half_treatments", "half_images")


def column_codes(samples: pd.DataFrame, columns: str | Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return a code per row and the names of the codes, in natural order (``week 10`` after ``week 9``).

    Parameters
    ----------
    samples
        Metadata, one row a sample.
    columns
        A column, or several: the first that is not empty counts, so ``[Metadata_MoA, Metadata_Perturbation]``
        takes the mechanism where it is known and the treatment elsewhere.

    Returns
    -------
    codes
        (N,) int64.
    names
        The value of each code.

    Raises
    ------
    DataError
        If a column is missing or all of them are empty in a row.
    """
    columns = [columns] if isinstance(columns, str) else list(columns)
    for column in columns:
        if column not in samples:
            raise DataError(f"samples have no column {column}; they have {', '.join(map(str, samples.columns))}")
    values = pd.Series([None] * len(samples), dtype=object)
    for column in columns:
        found = samples[column].reset_index(drop=True)
        values = values.where(values.notna(), found.where(found.notna() & (found != "")))
    if values.isna().any():
        row = int(np.flatnonzero(values.isna())[0])
        what = f"column {columns[0]} is" if len(columns) == 1 else f"columns {', '.join(columns)} are"
        raise DataError(f"{what} empty in sample {row}; name a further column that tells what such samples share")
    codes, found = pd.factorize(values.map(str))
    order = sorted(range(len(found)), key=lambda i: natural_key(found[i]))
    ranks = np.empty(len(found), dtype=np.int64)
    ranks[order] = np.arange(len(found))
    return ranks[codes], [str(found[i]) for i in order]


class Partners:
    """Draws for each image another one that shares its biology but not its batch (CDCL, Haslum et al. 2023, 3.3).

    A partner is uniform over all images of the same hint in the other domains, as in the authors' code
    (``uniform="images"``), or uniform over the other domains that have the hint and then over the images there
    (``uniform="batches"``); in a balanced screen the two are the same.

    Fall-back: a hint that occurs in one domain only gets a partner of that domain, uniform over its other images
    (the authors' code for CPG0004 does so too, but may draw the image itself); an image that is the only one of
    its hint is its own partner. ``alone`` counts them.

    Parameters
    ----------
    hints
        (N,) int codes of what images share: treatment, mechanism, ...
    domains
        (N,) int codes of what they should differ in: batch or plate.
    uniform
        ``images`` or ``batches``.
    hint_names, domain_names
        Names of the codes, for messages.

    Attributes
    ----------
    alone
        Codes of the hints that occur in one domain only.
    images_alone
        Number of images with such a hint.

    Raises
    ------
    DataError
        If there is one domain only, or no hint occurs in two: then every partner would come from the same batch.
    """

    def __init__(
        self,
        hints: np.ndarray,
        domains: np.ndarray,
        *,
        uniform: str = "images",
        hint_names: Sequence[str] | None = None,
        domain_names: Sequence[str] | None = None,
    ) -> None:
        hints, domains = np.asarray(hints, dtype=np.int64), np.asarray(domains, dtype=np.int64)
        if uniform not in ("images", "batches"):
            raise DataError(f"partners are uniform over {uniform!r}, expected images or batches")
        self.uniform = uniform
        different = np.unique(domains)
        if len(different) < 2:
            name = domain_names[different[0]] if domain_names and len(different) else "the same"
            raise DataError(
                f"cross-batch sampling needs images of at least two batches; all {len(domains)} training images "
                f"are "
                f"of batch {name}"
            )
        # Images sorted by hint and domain. A block is one hint in one domain, a group is all blocks of one hint.
        self._order = np.lexsort((domains, hints))
        places = np.empty(len(hints), dtype=np.int64)
        places[self._order] = np.arange(len(hints))
        self._place = places
        h, d = hints[self._order], domains[self._order]
        new_group = np.r_[True, h[1:] != h[:-1]]
        new_block = new_group | np.r_[True, d[1:] != d[:-1]]
        group, block = np.cumsum(new_group) - 1, np.cumsum(new_block) - 1
        self._block_start = np.flatnonzero(new_block)
        self._block_size = np.bincount(block)
        first_block = block[np.flatnonzero(new_group)]
        blocks = np.bincount(group[self._block_start])
        # Per image, in its own order.
        self._own_block = block[places]
        self._group_start = np.flatnonzero(new_group)[group][places]
        self._group_size = np.bincount(group)[group][places]
        self._first_block = first_block[group][places]
        self._blocks = blocks[group][places]
        single = self._blocks == 1
        self.images_alone = int(single.sum())
        self.alone = np.unique(hints[single])
        if single.all():
            example = f" (such as {hint_names[self.alone[0]]})" if hint_names else ""
            raise DataError(
                f"cross-batch sampling is impossible: none of the {len(self.alone)} treatments{example} occurs "
                f"in two "
                f"batches"
            )

    def __len__(self) -> int:
        return len(self._order)

    def partner(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the partner of each image.

        Parameters
        ----------
        images
            (B,) positions in the arrays given to the constructor.
        rng
            Where the numbers come from; two are drawn for each image.

        Returns
        -------
        ndarray
            (B,) int64 positions.
        """
        images = np.asarray(images, dtype=np.int64)
        first, second = rng.random((2, len(images)))
        own, single = self._own_block[images], self._blocks[images] == 1
        start, size = self._block_start[own], self._block_size[own]
        if self.uniform == "images":
            others = self._group_size[images] - size
            place = self._group_start[images] + _index(first, others)
            place += np.where(place >= start, size, 0)
        else:
            block = self._first_block[images] + _index(first, self._blocks[images] - 1)
            block += block >= own
            # For a hint of one domain this is no block of its own; what is drawn there is replaced below.
            block = np.minimum(block, len(self._block_start) - 1)
            place = self._block_start[block] + _index(second, self._block_size[block])
        within = start + _index(second, size - 1)
        within += (within >= self._place[images]) & (size > 1)
        return self._order[np.where(single, within, np.minimum(place, len(self) - 1))]


def _index(uniform: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return whole numbers from 0 to ``count`` - 1 from numbers in [0, 1); 0 where ``count`` is 0."""
    return np.minimum((uniform * count).astype(np.int64), np.maximum(count - 1, 0))


def training_subset(samples: pd.DataFrame, rows: np.ndarray, subset: str) -> np.ndarray:
    """Return the rows that a network is trained on in one of the exploratory settings (CDCL, Table 2b).

    Parameters
    ----------
    samples
        Metadata of the whole store, with ``Metadata_Control``, ``Metadata_Perturbation`` and ``Metadata_Plate``.
    rows
        (N,) rows of the training split.
    subset
        ``all``; ``controls`` (setting I) or ``treatments`` (II) only; ``half_treatments`` (III as the paper has
        it: controls and every second treatment, in natural order from the second on); ``half_images`` (III as the
        authors' code runs it: the first image of each treatment and plate is left out).

    Raises
    ------
    DataError
        If the subset has no images, or its name is unknown.
    """
    if subset not in SUBSETS:
        raise DataError(f"subset of the training images is {subset!r}, expected one of {', '.join(SUBSETS)}")
    if subset == "all":
        return rows
    here = samples.iloc[rows]
    treated = (here["Metadata_Control"] == "trt").to_numpy()
    if subset == "controls":
        kept = ~treated
    elif subset == "treatments":
        kept = treated
    elif subset == "half_treatments":
        names = sorted(here.loc[treated, "Metadata_Perturbation"].unique(), key=natural_key)
        kept = ~here["Metadata_Perturbation"].isin(names[0::2]).to_numpy() | ~treated
    else:
        again = here.duplicated(["Metadata_Perturbation", "Metadata_Plate"]).to_numpy()
        kept = ~treated | again
    if not kept.any():
        raise DataError(f"subset {subset!r} of the {len(rows)} training images is empty")
    return rows[kept]
