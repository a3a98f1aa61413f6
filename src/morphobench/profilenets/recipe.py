"""CellPainTR's recipe: a data class of parameters, which specs name and fill.

CellPainTR is a chain of models. Each stage is a recipe of its own, that starts from the model of an earlier one:
1, 2, 3, and ``tokens`` for sources that were not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.datasets.splits import split as split_rows
from morphobench.errors import DataError, SpecError
from morphobench.files import sha256_of
from morphobench.learning.runs import ENCODER, Hardware, hashed, origin_of, private_randomness
from morphobench.profilenets.data import ProfileData
from morphobench.profilenets.model import CellPainTR
from morphobench.profilenets.objectives import Objective
from morphobench.profilenets.profile_method import ProfileMethod, content_of, plain, rows_of
from morphobench.profilenets.sources import held_out_without_token, with_new_sources
from morphobench.profilenets.stages import Stage, device_of, represent, train_stage
from morphobench.profilenets.trained import TrainedNetwork, read_network, write_network
from morphobench.profiles import Profiles

STAGES = (1, 2, 3, "tokens")
# What a model must share with the one it starts from: its network, and what is held out from training.
SHARED = ("width", "blocks", "expansion", "dropout", "order", "window", "adapter", "source")
HELD_OUT = ("split", "split_seed", "fraction", "hidden")


@dataclass(frozen=True, kw_only=True)
class CellPainTRRecipe(ProfileMethod):
    """A stage of CellPainTR.

    Parameters
    ----------
    stage
        1, 2 or 3; or ``tokens``, which adds tokens for the sources of the profiles that the model has none for and
        fits these alone, to all wells of these sources that ``wells`` chooses, those held out for testing
        included, but to none of their labels (section D.3).
    width, blocks, expansion, dropout, order, adapter
        See :class:`morphobench.profilenets.model.CellPainTR`.
    window
        See :class:`morphobench.profilenets.hyena.ImplicitFilter`.
    epochs, source_epochs, learning_rate, weight_decay, clip
        See :class:`morphobench.profilenets.stages.Stage`.
    mask_low, mask_high
        Least and largest share of features that a mini-batch masks.
    grouped, contrast, temperature, reduction
        See :class:`morphobench.profilenets.objectives.Objective`; ``grouped`` masks by group, too.
    composition, batch_size, plates_at_once, wells, label, source, unknown
        See :class:`morphobench.profilenets.data.ProfileData`; ``label`` is used if the contrast has weight.
    split, split_seed, fraction, hidden
        Arguments of :func:`morphobench.datasets.splits.split`: what is held out for testing.
    seed
        Of all else that is random.

    Raises
    ------
    SpecError
        If a parameter makes no sense by itself.
    """

    stage: int | str
    width: int
    blocks: int
    expansion: int
    dropout: float
    order: int
    window: str
    adapter: str
    epochs: int
    source_epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    clip: float | None
    mask_low: float
    mask_high: float
    grouped: bool
    contrast: float
    temperature: float
    reduction: str
    composition: str
    plates_at_once: int
    wells: str
    label: str | Sequence[str]
    source: str
    split: str
    split_seed: int
    fraction: float
    hidden: Sequence[str]
    unknown: str
    seed: int = 0

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise SpecError(f"stage is {self.stage!r}, expected one of {', '.join(map(str, STAGES))}")
        if self.fits_tokens and (self.contrast or self.source_epochs):
            raise SpecError(
                f"stage tokens uses no labels and trains nothing else; found contrast {self.contrast} and "
                f"source_epochs {self.source_epochs}, expected 0 and 0"
            )
        self._how()

    @property
    def fits_tokens(self) -> bool:
        """Whether tokens are all that is trained."""
        return self.stage == "tokens"

    def train(
        self,
        profiles: Profiles | str | Path,
        folder: str | Path,
        checkpoints: str | Path,
        *,
        configuration: Mapping[str, Any],
        start: str | Path | None = None,
        hardware: Hardware | None = None,
    ) -> TrainedNetwork:
        """Make a model and write its folder.

        Parameters
        ----------
        profiles
            The model's branch of a data set: a profiles file, or profiles in memory.
        folder
            Gets ``encoder.safetensors``, ``model.json`` (configuration, features, sources, data, versions, cost),
            ``losses.csv`` and ``losses.png``.
        checkpoints
            Where an interrupted training is found again. It is known by its recipe, its profiles, the weights it
            starts from, and ``code`` of the configuration if there is such a key.
        configuration
            The resolved spec, JSON-able; kept in ``model.json`` as ``spec``.
        start
            The folder of the model to start from; None for stage 1 only.
        hardware
            What to train on; one device, the best there is, if None.

        Raises
        ------
        SpecError
            If stage 1 is given a model to start from, or another is given none.
        DataError
            If profiles or the model to start from do not fit.
        DivergedError
            If the loss or a weight is not finite.
        """
        folder, hardware = Path(folder), hardware or Hardware()
        parent = self._parent(start)
        known = {"class": type(self).__name__, "parameters": plain(asdict(self)), "profiles": content_of(profiles)}
        if parent:
            known["start"] = sha256_of(parent.folder / ENCODER)
        if "code" in configuration:
            known["code"] = configuration["code"]
        digest = hashed(known)
        kept = Path(checkpoints) / digest
        with hardware.used():
            data = self._data(profiles, parent)
            network = self._network(data, parent)
            outcome = train_stage(network, data, self._how(), folder=folder, checkpoints=kept, hardware=hardware)
        facts = {"method": configuration.get("id"), "spec": dict(configuration), "configuration": known}
        facts |= {"digest": digest, "data": data.facts, **outcome}
        write_network(folder, network, data.space, data.sources, facts)
        return read_network(folder)

    def embed(
        self,
        profiles: Profiles | str | Path,
        folder: str | Path,
        *,
        wells: str = "all",
        hardware: Hardware | None = None,
    ) -> Profiles:
        """Return the representations of rows of the profiles, in their order, by a model's folder.

        Features that the network knows and the profiles lack are masked. ``Metadata_Split`` says what the recipe
        holds out. Sources that are held out and have no token yet cannot be represented: their wells are left out,
        and the provenance names them as ``sources_left_out``.

        Parameters
        ----------
        profiles, folder, hardware
            As for :meth:`train`, which must have written the folder; the profiles may be others.
        wells
            Which rows: ``all``, ``controls`` or ``curated``, whatever the model was trained on.

        Raises
        ------
        DataError
            If the folder has no model, or one of another recipe; if a feature is unknown to it and ``unknown`` is
            ``error``, or a source has no token.
        """
        hardware = hardware or Hardware()
        trained = read_network(folder)
        self._check(trained, tuple(plain(asdict(self))))
        rows = rows_of(profiles)
        metadata = rows.metadata().reset_index(drop=True)
        metadata["Metadata_Split"] = split_rows(metadata, **self._split(), source=self.source)
        strange = []
        if self.split == "sources" and not self.fits_tokens:
            strange = held_out_without_token(metadata, self.source, trained.sources)
        if strange:
            print(f"not represented, since no token was fitted yet: {', '.join(strange)}", flush=True)
        data = ProfileData(
            profiles,
            composition="plate",
            batch_size=self.batch_size,
            seed=self.seed,
            space=trained.space,
            sources=trained.sources,
            split={"strategy": "sources", "hidden": strange} if strange else {"strategy": "none"},
            wells=wells,
            source=self.source,
            unknown=self.unknown,
        )
        device = device_of(hardware)
        with hardware.used():
            network = trained.network().to(device)
            features = np.concatenate([represent(network, batch, device) for batch in data.in_order()])
        wrong = ~np.isfinite(features).all(axis=1)
        if wrong.any():
            raise DataError(
                f"{rows.where}: the representation of row {data.rows[int(wrong.argmax())]} is not finite; the "
                f"network has diverged"
            )
        provenance = {
            **origin_of(trained.facts, self.seed),
            "absent_features": list(data.alignment.absent),
            "features_left_out": list(data.alignment.unknown),
            "evaluated_wells": wells,
            "sources_left_out": strange,
        }
        metadata = metadata.iloc[data.rows].reset_index(drop=True)
        names = tuple(f"cellpaintr_{i:04d}" for i in range(features.shape[1]))
        return Profiles(metadata, features, names, provenance)

    def _parent(self, start: str | Path | None) -> TrainedNetwork | None:
        """Return the model to start from, checked."""
        if (start is None) != (self.stage == 1):
            found = "none is given" if start is None else f"{start} is given"
            expected = "none" if self.stage == 1 else "that of an earlier stage"
            raise SpecError(f"stage {self.stage}: {found} as the model to start from, expected {expected}")
        if start is None:
            return None
        parent = read_network(start)
        stage = parent.facts["configuration"]["parameters"]["stage"]
        # Tokens may be fitted to ever more sources.
        if not (STAGES.index(stage) < STAGES.index(self.stage) or self.fits_tokens):
            raise DataError(f"{start}: model of stage {stage}, expected an earlier one to start {self.stage} from")
        self._check(parent, SHARED + HELD_OUT)
        return parent

    def _check(self, trained: TrainedNetwork, names: Sequence[str]) -> None:
        """Raise DataError unless a model's recipe has these parameters as this one has them."""
        known, own = trained.facts["configuration"]["parameters"], plain(asdict(self))
        for name in names:
            if known.get(name) != own[name]:
                raise DataError(f"{trained.folder}: model with {name} {known.get(name)!r}, expected {own[name]!r}")

    def _split(self) -> dict[str, Any]:
        return {
            "strategy": self.split,
            "seed": self.split_seed,
            "fraction": self.fraction,
            "hidden": list(self.hidden),
        }

    def _own_seed(self) -> int:
        """Return a seed that no other stage has: it would mask the same features in the same epochs."""
        return int(np.random.SeedSequence([self.seed, STAGES.index(self.stage)]).generate_state(1)[0])

    def _how(self) -> Stage:
        return Stage(
            objective=Objective(
                grouped=self.grouped,
                contrast=self.contrast,
                temperature=self.temperature,
                reduction=self.reduction,
            ),
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            clip=self.clip,
            ratio=(self.mask_low, self.mask_high),
            source_epochs=self.source_epochs,
            new_sources=self.fits_tokens,
            seed=self._own_seed(),
        )

    def _data(self, profiles: Profiles | str | Path, parent: TrainedNetwork | None) -> ProfileData:
        sources, split = parent.sources if parent else None, self._split()
        if parent and self.fits_tokens:
            rows = rows_of(profiles)
            sources, split = with_new_sources(rows.metadata(), self.source, parent.sources, rows.where)
        return ProfileData(
            profiles,
            composition=self.composition,
            batch_size=self.batch_size,
            seed=self._own_seed(),
            space=parent.space if parent else None,
            sources=sources,
            wells=self.wells,
            split=split,
            source=self.source,
            label=self.label if self.contrast else "Metadata_Perturbation",
            contrastive=bool(self.contrast),
            plates_at_once=self.plates_at_once,
            unknown=self.unknown,
        )

    def _network(self, data: ProfileData, parent: TrainedNetwork | None) -> CellPainTR:
        if parent is None:
            with private_randomness(self.seed):
                return CellPainTR(
                    data.space.names,
                    len(data.sources.names),
                    width=self.width,
                    blocks=self.blocks,
                    expansion=self.expansion,
                    dropout=self.dropout,
                    order=self.order,
                    filter_options={"window": self.window},
                    adapter=self.adapter,
                )
        network = parent.network().requires_grad_(True)
        if self.fits_tokens:
            network.extend_sources(len(data.sources.names) - len(parent.sources.names))
        return network
