"""The training images of one fold of a screen, as mini-batches with partners.

A mini-batch is a function of the seed, the epoch and its number: nothing depends on what was drawn before, so an
interrupted training goes on with the images that an uninterrupted one would have seen, and several processes see
together what one would.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from morphobench.errors import DataError
from morphobench.images.store import ImageStore
from morphobench.learning.normalise import Normalisation
from morphobench.learning.randomness import sample_keys
from morphobench.learning.sampling import Partners, column_codes, training_subset

# Which of the generators of a seed: the order of an epoch, and the partners of a mini-batch.
_ORDER, _PARTNERS = 0, 1


class ScreenData:
    """Training mini-batches of one fold of an image store.

    Parameters
    ----------
    store
        The images.
    fold
        Number of the fold.
    batch_size
        Images per step, over all processes; each of them adds a partner if there are partners.
    seed
        Of order, partners and augmentation.
    normalisation
        Of the store; by its negative controls if None.
    cross_batch
        Whether every image has a partner of another domain (CDCL, section 3.3).
    domain
        Column that partners differ in, and that has centres: batch or plate.
    hint
        Column (or columns, the first that is not empty) that partners share: treatment, mechanism, ...
    uniform
        See :class:`morphobench.learning.sampling.Partners`.
    label
        Column of the labels of supervised training and of the online probe.
    subset
        See :func:`morphobench.learning.sampling.training_subset`.
    drop_last
        Whether the last, incomplete mini-batch of an epoch is left out.
    unlabelled
        Whether training images without a label (an unknown mechanism) may be left out; they are counted in
        ``facts``. Otherwise they are an error.
    unseen
        Whether the test images may have labels that no training image has; they are listed in ``facts``.

    Attributes
    ----------
    rows
        (N,) int64 rows of the store that the network is trained on, ascending.
    labels
        (samples of the store,) int64 codes, -1 where empty, and ``classes``, their names.
    domains
        (N,) int64 codes of the training images, ``domain_names``, and ``domain_sizes``, images of each.
    partners
        The partners of the training images by position in ``rows``, or None.
    facts
        What to keep beside a model: numbers of images, batches of each split, what is left out or falls back.

    Raises
    ------
    DataError
        If the fold has no training images or fewer than a mini-batch, its training batches lack a label of the
        test images, a column is missing or empty, or partners are asked for and there is only one batch.
    """

    def __init__(
        self,
        store: ImageStore,
        fold: int,
        *,
        batch_size: int,
        seed: int,
        normalisation: Normalisation | None = None,
        cross_batch: bool = False,
        domain: str = "Metadata_Batch",
        hint: str | Sequence[str] = "Metadata_Perturbation",
        uniform: str = "images",
        label: str = "Metadata_Perturbation",
        subset: str = "all",
        drop_last: bool = True,
        unlabelled: bool = False,
        unseen: bool = False,
    ) -> None:
        self.store, self.fold, self.seed = store, fold, seed
        self.batch_size, self.drop_last = batch_size, drop_last
        self.normalisation = normalisation or Normalisation.of_store(store)
        samples = store.samples
        self.split_rows = {split: store.rows(fold, split) for split in ("train", "val", "test")}
        self.labels, self.classes = self._labels(samples, label, unlabelled)
        unseen_names = self._check_seen(label, allowed=unseen)
        rows = training_subset(samples, self.split_rows["train"], subset)
        self.rows = rows[self.labels[rows] >= 0]
        if len(self.rows) < max(1, batch_size if drop_last else 1):
            raise DataError(
                f"{store.folder}: fold {fold} trains on {len(self.rows)} images, expected at least a mini-batch "
                f"of "
                f"{batch_size}"
            )
        here = samples.iloc[self.rows]
        self.domains, self.domain_names = column_codes(here, domain)
        self.domain_sizes = np.bincount(self.domains, minlength=len(self.domain_names))
        self.plates = self.normalisation.codes(samples["Metadata_Plate"].tolist())
        self.partners: Partners | None = None
        alone: list[str] = []
        if cross_batch:
            hints, names = column_codes(here, hint)
            self.partners = Partners(
                hints, self.domains, uniform=uniform, hint_names=names, domain_names=self.domain_names
            )
            alone = [names[code] for code in self.partners.alone]
        self.facts: dict[str, Any] = {
            "fold": fold,
            "subset": subset,
            "images": {split: len(found) for split, found in self.split_rows.items()},
            "batches": {
                split: sorted(samples["Metadata_Batch"].iloc[found].unique().tolist())
                for split, found in self.split_rows.items()
            },
            "trained_on": len(self.rows),
            "without_label": int((self.labels[rows] < 0).sum()),
            "domain": domain,
            "domains": len(self.domain_names),
            "partners_of_the_same_batch": {
                "of": alone,
                "images": self.partners.images_alone if self.partners else 0,
            },
            "tested_but_not_trained": unseen_names,
            "normalisation_replaced": list(self.normalisation.replaced),
        }
        self._order: tuple[int, np.ndarray] | None = None

    def _labels(self, samples: pd.DataFrame, label: str, unlabelled: bool) -> tuple[np.ndarray, list[str]]:
        if label not in samples or not unlabelled:
            return column_codes(samples, label)
        known = (samples[label].notna() & (samples[label] != "")).to_numpy()
        codes = np.full(len(samples), -1, dtype=np.int64)
        codes[known], names = column_codes(samples[known], label)
        return codes, names

    def _check_seen(self, label: str, *, allowed: bool) -> list[str]:
        """Return the labels of the test images that no training image has; DataError unless that is allowed."""
        trained, tested = (np.unique(self.labels[self.split_rows[s]]) for s in ("train", "test"))
        missing = [self.classes[code] for code in np.setdiff1d(tested, trained) if code >= 0]
        if missing and not allowed:
            known = int((tested >= 0).sum())
            raise DataError(
                f"{self.store.folder}: the training batches of fold {self.fold} lack {len(missing)} of the "
                f"{known} "
                f"values of {label} that its test images have: {', '.join(missing[:5])}"
                f"{', ...' if len(missing) > 5 else ''}; expected each among the training images"
            )
        return missing

    @property
    def steps_per_epoch(self) -> int:
        """Number of mini-batches of an epoch."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def batch(self, epoch: int, step: int, rank: int = 0, world: int = 1) -> dict[str, Any]:
        """Return mini-batch number ``step`` of an epoch, or the part of it that one of ``world`` processes has.

        Returns
        -------
        dict
            ``images`` and ``partners`` (B, C, H, W) of stored pixels, ``domain``, ``partner_domain``, ``plate``,
            ``partner_plate`` and ``label`` (B,) int64 codes, ``row`` (B,) int64 rows of the store, ``key`` (B,)
            int64 to draw the samples' augmentation from. Without partners ``partners`` and ``partner_plate`` are
            None and ``partner_domain`` is ``domain``.
        """
        if not 0 <= step < self.steps_per_epoch:
            raise IndexError(f"mini-batch {step} of {self.steps_per_epoch}")
        if self._order is None or self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, _ORDER, epoch])
            self._order = (epoch, rng.permutation(len(self.rows)))
        joint = self._order[1][step * self.batch_size : (step + 1) * self.batch_size]
        mine = slice(rank * len(joint) // world, (rank + 1) * len(joint) // world)
        images = joint[mine]
        rows = self.rows[images]
        made: dict[str, Any] = {
            "images": torch.from_numpy(self.store.take(rows)),
            "partners": None,
            "domain": torch.from_numpy(self.domains[images]),
            "partner_domain": torch.from_numpy(self.domains[images]),
            "plate": torch.from_numpy(self.plates[rows]),
            "partner_plate": None,
            "label": torch.from_numpy(self.labels[rows]),
            "row": torch.from_numpy(rows),
            "key": sample_keys(self.seed, epoch, rows),
        }
        if self.partners is not None:
            rng = np.random.default_rng([self.seed, _PARTNERS, epoch, step])
            others = self.partners.partner(joint, rng)[mine]
            made["partners"] = torch.from_numpy(self.store.take(self.rows[others]))
            made["partner_domain"] = torch.from_numpy(self.domains[others])
            made["partner_plate"] = torch.from_numpy(self.plates[self.rows[others]])
        return made

    def loader(self, rank: int = 0, world: int = 1, *, workers: int = 0, pin: bool = False) -> DataLoader:
        """Return a loader of the mini-batches of one process; its sampler's ``set_epoch`` names the epoch.

        Parameters
        ----------
        rank, world
            This process and how many there are.
        workers
            Reading processes. With 0 images are read where they are used, which is enough for memory maps on a
            local disk.
        pin
            Whether mini-batches are in page-locked memory, which a GPU reads faster.

        Raises
        ------
        DataError
            If the mini-batch cannot be shared evenly: the processes' losses would not be of equal weight.
        """
        if self.batch_size % world or (not self.drop_last and len(self.rows) % self.batch_size % world):
            raise DataError(
                f"mini-batches of {self.batch_size} of {len(self.rows)} images cannot be shared by {world} "
                f"processes; "
                f"expected a multiple, and drop_last"
            )
        return DataLoader(
            _Steps(self, rank, world),
            batch_size=None,
            sampler=EpochSteps(self.steps_per_epoch),
            num_workers=workers,
            pin_memory=pin,
            persistent_workers=workers > 0,
            # Nothing is drawn from it, but without one the loader would draw from everybody's.
            generator=torch.Generator().manual_seed(self.seed),
        )


class EpochSteps(Sampler):
    """Yields (epoch, step); the order of the images is the data's business.

    Parameters
    ----------
    steps
        Mini-batches of an epoch.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.epoch = steps, 0

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch that the next iteration is of."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[int, int]]:
        # A generator reads the epoch when the first mini-batch is asked for, not when the loader is begun.
        for step in range(self.steps):
            yield self.epoch, step


class _Steps(Dataset):
    def __init__(self, data: ScreenData, rank: int, world: int) -> None:
        self.data, self.rank, self.world = data, rank, world

    def __len__(self) -> int:
        return self.data.steps_per_epoch

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        return self.data.batch(*place, self.rank, self.world)
