"""The preprocessing steps a dataset spec may name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from morphobench.errors import DataError, SpecError
from morphobench.preprocessing import transforms
from morphobench.preprocessing.base import Block, GroupedStep, Step, Store
from morphobench.preprocessing.statistics import CrossProducts, Moments, column_quantiles, stream_quantiles


@dataclass
class DropLowVariation(Step):
    """Drop features whose |std / mean| is below ``threshold`` (CellPainTR, appendix C.3, item 1)."""

    step: ClassVar[str] = "drop_low_variation"
    scopes: ClassVar[tuple[str, ...]] = ("all",)
    threshold: float = 1e-3

    def fit(self, store: Store) -> dict[str, str]:
        """Accumulate mean and standard deviation over all rows."""
        moments = _moments(store)
        std = moments.std()
        low = transforms.low_variation(moments.mean, std, self.threshold)
        return {store.names[i]: self._reason(moments, std, i) for i in np.flatnonzero(low)}

    def _reason(self, moments: Moments, std: np.ndarray, i: int) -> str:
        if not moments.count[i]:
            return "no finite value"
        if std[i] == 0:
            return f"constant at {moments.mean[i]:.6g}"
        return f"coefficient of variation {std[i] / abs(moments.mean[i]):.3g} below {self.threshold:g}"


@dataclass
class MadNormalise(GroupedStep):
    """Subtract the median and divide by 1.4826 MAD + epsilon, both of the group's controls or of all its wells.

    A feature that has no spread in some group (MAD 0 with ``epsilon`` 0, or no finite reference value) cannot be
    put on one scale across groups; it is dropped everywhere, never divided by 0.
    """

    step: ClassVar[str] = "mad_normalise"
    scopes: ClassVar[tuple[str, ...]] = ("plate", "batch", "all")
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"on": ("negcon", "all")}
    on: str = "negcon"
    epsilon: float = 0.0

    @property
    def reads(self) -> bool:
        """Every group is looked at for features without spread, plates too."""
        return True

    def fit(self, store: Store) -> dict[str, str]:
        """Find the statistics of each group and the features that have no spread in one of them."""
        super().fit(store)
        without: dict[int, list[str]] = {}
        for group, (_, spread) in self._groups(store):
            for i in np.flatnonzero(~(spread + self.epsilon > 0)):
                cause = "MAD is 0" if np.isfinite(spread[i]) else "no finite reference value"
                without.setdefault(int(i), [f"{cause} {group}"]).append(group)
        return {
            store.names[i]: f"{found[0]}" + (f" and {len(found) - 2} more" if len(found) > 2 else "")
            for i, found in sorted(without.items())
        }

    def _groups(self, store: Store) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
        if self.scope == "plate":
            for block in store.blocks():
                yield f"on plate {block.plate}", self.local(block)
        for group, statistics in self.statistics.items():
            yield ("over all plates" if self.scope == "all" else f"in batch {group}"), statistics

    def apply(self, block: Block) -> np.ndarray:
        """Normalise one plate."""
        return transforms.mad_normalise(block.features, *self.of(block), self.epsilon)

    def local(self, block: Block) -> tuple[np.ndarray, ...]:
        """Return median and spread of one plate's reference wells; DataError if it has none."""
        return transforms.median_and_mad(self._reference(block, f"plate {block.plate}"))

    def stream(self, store: Store, batch: str | None) -> tuple[np.ndarray, ...]:
        """Return median and spread of the reference wells of a batch, or of all plates."""
        where = "the data set" if batch is None else f"batch {batch}"
        if not sum(len(self._reference(block)) for block in store.blocks(batch)):
            raise self._no_controls(where)
        half = np.array([0.5])
        width = len(store.names)
        centre = stream_quantiles(lambda: (self._reference(b) for b in store.blocks(batch)), width, half)[0]
        deviations = stream_quantiles(
            lambda: (np.abs(self._reference(b) - centre).astype(np.float32) for b in store.blocks(batch)),
            width,
            half,
        )[0]
        return centre, transforms.MAD_TO_SIGMA * deviations

    def _reference(self, block: Block, where: str | None = None) -> np.ndarray:
        if self.on == "all":
            return block.features
        chosen = block.features[block.control == "negcon"]
        if where and not len(chosen):
            raise self._no_controls(where)
        return chosen

    @staticmethod
    def _no_controls(where: str) -> DataError:
        return DataError(
            f"{where} has no negative control wells (Metadata_Control negcon); mad_normalise on negcon needs "
            f"at least one"
        )


@dataclass
class InverseNormal(Step):
    """Replace each feature of a plate by the normal scores of its ranks (CellPainTR, appendix C.3, item 3)."""

    step: ClassVar[str] = "inverse_normal"
    scopes: ClassVar[tuple[str, ...]] = ("plate",)
    c: float = 0.375

    @property
    def reads(self) -> bool:
        """A plate's ranks are its own."""
        return False

    def apply(self, block: Block) -> np.ndarray:
        """Transform one plate."""
        return transforms.inverse_normal(block.features, self.c)


@dataclass
class SelectUncorrelated(Step):
    """Drop features until no pair correlates above ``threshold`` (CellPainTR, appendix C.3, item 4)."""

    step: ClassVar[str] = "select_uncorrelated"
    scopes: ClassVar[tuple[str, ...]] = ("all",)
    threshold: float = 0.9
    absolute: bool = True

    def fit(self, store: Store) -> dict[str, str]:
        """Accumulate the correlations over all rows: one pass for the means, one for the products."""
        products = CrossProducts(_moments(store))
        for block in store.blocks():
            products.update(block.features)
        return transforms.correlated_features(
            products.correlation(), store.names, self.threshold, absolute=self.absolute
        )


@dataclass
class ClipQuantiles(GroupedStep):
    """Limit values to two quantiles, of each feature or of the whole matrix as CellPainTR's code does."""

    step: ClassVar[str] = "clip_quantiles"
    scopes: ClassVar[tuple[str, ...]] = ("plate", "batch", "all")
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"per": ("matrix", "feature")}
    low: float = 0.01
    high: float = 0.99
    per: str = "matrix"

    def __post_init__(self) -> None:
        """Raise SpecError unless 0 <= low <= high <= 1."""
        super().__post_init__()
        if not 0 <= self.low <= self.high <= 1:
            raise SpecError(
                f"step clip_quantiles: low {self.low}, high {self.high}, expected 0 <= low <= high <= 1"
            )

    def apply(self, block: Block) -> np.ndarray:
        """Clip one plate."""
        return transforms.clip(block.features, *self.of(block))

    def _columns(self, block: Block) -> np.ndarray:
        return block.features if self.per == "feature" else block.features.reshape(-1, 1)

    def local(self, block: Block) -> tuple[np.ndarray, ...]:
        """Return the two quantiles of one plate."""
        return tuple(column_quantiles(self._columns(block), np.array([self.low, self.high])))

    def stream(self, store: Store, batch: str | None) -> tuple[np.ndarray, ...]:
        """Return the two quantiles of a batch, or of all plates."""
        width = len(store.names) if self.per == "feature" else 1
        probabilities = np.array([self.low, self.high])
        limits = stream_quantiles(lambda: (self._columns(b) for b in store.blocks(batch)), width, probabilities)
        return tuple(limits)


@dataclass
class Impute(GroupedStep):
    """Replace missing values by ``value``, or by the median of the feature in the scope."""

    step: ClassVar[str] = "impute"
    scopes: ClassVar[tuple[str, ...]] = ("plate", "batch", "all")
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"strategy": ("value", "median")}
    value: float = 0.0
    what: Sequence[str] = ("nan", "inf")
    strategy: str = "value"
    imputed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        """Raise SpecError for an unknown kind of missing value."""
        super().__post_init__()
        if not self.what or set(self.what) - {"nan", "inf"}:
            raise SpecError(f"step impute: what is {list(self.what)}, expected nan, inf or both")

    @property
    def reads(self) -> bool:
        """A fixed value needs no reading."""
        return self.strategy == "median" and self.scope != "plate"

    def fit(self, store: Store) -> dict[str, str]:
        """Stream the medians where they are asked for."""
        return super().fit(store) if self.reads else {}

    def apply(self, block: Block) -> np.ndarray:
        """Fill one plate, and count."""
        fill = self.of(block)[0] if self.strategy == "median" else np.float32(self.value)
        features, count = transforms.impute(block.features, fill, tuple(self.what))
        self.imputed += count
        return features

    def facts(self) -> dict[str, Any]:
        """Return how many values were replaced."""
        return {"imputed": self.imputed}

    def local(self, block: Block) -> tuple[np.ndarray, ...]:
        """Return the medians of one plate."""
        return (column_quantiles(block.features, np.array([0.5]))[0],)

    def stream(self, store: Store, batch: str | None) -> tuple[np.ndarray, ...]:
        """Return the medians of a batch, or of all plates."""
        half = np.array([0.5])
        return (stream_quantiles(lambda: (b.features for b in store.blocks(batch)), len(store.names), half)[0],)


STEPS: dict[str, type[Step]] = {
    cls.step: cls
    for cls in (DropLowVariation, MadNormalise, InverseNormal, SelectUncorrelated, ClipQuantiles, Impute)
}


def build_steps(specs: Sequence[dict[str, Any]]) -> list[Step]:
    """Return the steps that a dataset spec's ``preprocessing`` list names.

    Raises
    ------
    SpecError
        For an unknown step or key (with the nearest right one), a missing scope, or a value that is not allowed.
    """
    steps = []
    for place, spec in enumerate(specs, start=1):
        # YAML 1.1 reads an unquoted key `on` as true.
        values = {"on" if key is True else key: value for key, value in spec.items()}
        name = values.pop("step", None)
        if name not in STEPS:
            raise SpecError(f"preprocessing step {place}: unknown step {name!r}{_nearest(name, STEPS)}")
        keys = [f.name for f in fields(STEPS[name]) if f.init]
        for key in values:
            if key not in keys:
                raise SpecError(f"preprocessing step {place} ({name}): unknown key {key!r}{_nearest(key, keys)}")
        if "scope" not in values:
            scopes = " or ".join(STEPS[name].scopes)
            raise SpecError(f"preprocessing step {place} ({name}): scope is missing, expected {scopes}")
        steps.append(STEPS[name](**values))
    return steps


def _nearest(word: Any, known: Sequence[str] | dict[str, Any]) -> str:
    close = difflib.get_close_matches(str(word), list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else f", expected one of {', '.join(known)}"


def _moments(store: Store) -> Moments:
    moments = Moments(len(store.names))
    for block in store.blocks():
        moments.update(block.features)
    return moments
