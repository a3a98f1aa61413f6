"""What a preprocessing step is: the part of the data it is fitted on, what it drops, what it does to a plate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Protocol

import numpy as np

from morphobench.errors import SpecError


@dataclass(frozen=True)
class Block:
    """The rows of one plate during preprocessing.

    Attributes
    ----------
    plate, batch
        Where the rows come from.
    control
        (n,) control type of each row.
    features
        (n, D) float32.
    """

    plate: str
    batch: str
    control: np.ndarray
    features: np.ndarray


class Store(Protocol):
    """What a step may read while it is fitted: the plates as they stand before it, as often as it needs."""

    names: tuple[str, ...]

    def blocks(self, batch: str | None = None) -> Iterator[Block]:
        """Yield the plates of one batch or of all, in order."""

    def batches(self) -> list[str]:
        """Return the batches in order of first appearance."""


@dataclass
class Step(ABC):
    """One preprocessing step; its fields are the keys a spec may give.

    Attributes
    ----------
    scope
        ``plate``, ``batch`` or ``all``: the rows whose statistics it uses.
    """

    step: ClassVar[str]
    scopes: ClassVar[tuple[str, ...]]
    choices: ClassVar[dict[str, tuple[str, ...]]] = {}
    scope: str

    def __post_init__(self) -> None:
        """Raise SpecError unless scope and choices are among the allowed."""
        for key, allowed in {"scope": self.scopes, **self.choices}.items():
            value = getattr(self, key)
            if value not in allowed:
                raise SpecError(f"step {self.step}: {key} is {value!r}, expected {' or '.join(allowed)}")

    @property
    def reads(self) -> bool:
        """Whether fitting reads the data."""
        return True

    def fit(self, store: Store) -> dict[str, str]:
        """Learn what the scope needs; return the features to drop, each with its reason."""
        return {}

    def keep(self, kept: np.ndarray) -> None:  # noqa: B027 - most steps learn nothing per feature
        """Restrict what was learnt to the features that stay; ``kept`` indexes the features before the step."""

    def apply(self, block: Block) -> np.ndarray:
        """Return the features of one plate, already without the dropped ones, after the step."""
        return block.features

    def facts(self) -> dict[str, Any]:
        """Return JSON-able facts for the report beyond parameters and drops."""
        return {}

    def parameters(self) -> dict[str, Any]:
        """Return the step's parameters as the spec would give them."""
        public = {f.name for f in fields(self) if f.init}
        return {"step": self.step, **{k: v for k, v in asdict(self).items() if k in public}}


@dataclass
class GroupedStep(Step):
    """A step whose statistics belong to groups of rows: found on the fly for a plate, by streaming otherwise."""

    statistics: dict[str, tuple[np.ndarray, ...]] = field(default_factory=dict, init=False, repr=False)

    @property
    def reads(self) -> bool:
        """Plates are independent of each other; batches and the whole must be read first."""
        return self.scope != "plate"

    def fit(self, store: Store) -> dict[str, str]:
        """Stream the statistics of each batch, or of all rows."""
        groups = {"batch": store.batches(), "all": [None], "plate": []}[self.scope]
        self.statistics = {str(group): self.stream(store, group) for group in groups}
        return {}

    def keep(self, kept: np.ndarray) -> None:
        """Restrict the statistics to the features that stay."""
        self.statistics = {
            group: tuple(v if len(v) == 1 else v[kept] for v in values)
            for group, values in self.statistics.items()
        }

    def of(self, block: Block) -> tuple[np.ndarray, ...]:
        """Return the statistics of the group that a plate belongs to."""
        if self.scope == "plate":
            return self.local(block)
        return self.statistics[block.batch if self.scope == "batch" else "None"]

    @abstractmethod
    def local(self, block: Block) -> tuple[np.ndarray, ...]:
        """Return the statistics of one plate."""

    @abstractmethod
    def stream(self, store: Store, batch: str | None) -> tuple[np.ndarray, ...]:
        """Return the statistics of one batch, or of all rows, reading one plate at a time."""
