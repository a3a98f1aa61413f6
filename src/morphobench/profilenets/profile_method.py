"""What every representation learnt from profiles does: make a model's folder, and embed profiles by it."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.corrections.apply import build
from morphobench.errors import DataError
from morphobench.files import sha256_of
from morphobench.learning.runs import Hardware
from morphobench.profilenets.rows import FileRows, HeldRows, Rows
from morphobench.profilenets.trained import TrainedNetwork
from morphobench.profiles import Profiles


class ProfileMethod(ABC):
    """A representation of profiles by a network that is trained on them.

    Subclasses are frozen data classes whose fields are the parameters that a spec may state.
    """

    @abstractmethod
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
        """Make a model and write its folder."""

    @abstractmethod
    def embed(
        self,
        profiles: Profiles | str | Path,
        folder: str | Path,
        *,
        wells: str = "all",
        hardware: Hardware | None = None,
    ) -> Profiles:
        """Return the representations of the chosen wells of the profiles by a model's folder."""


def build_recipe(spec: dict[str, Any], seed: int) -> ProfileMethod:
    """Return the recipe that a resolved method spec names; SpecError if it names none or other parameters."""
    return build(spec, ProfileMethod, seed)


def rows_of(profiles: Profiles | str | Path) -> Rows:
    """Return profiles in memory, or a profiles file, as rows to read."""
    return HeldRows(profiles) if isinstance(profiles, Profiles) else FileRows(profiles)


def plain(value: Any) -> Any:
    """Return a value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def content_of(profiles: Profiles | str | Path) -> str:
    """Return a hash of all that a training can see of profiles: of the file's bytes, or of the table's values."""
    if not isinstance(profiles, Profiles):
        if not Path(profiles).is_file():
            raise DataError(f"{profiles}: no such file; expected a profiles file (parquet)")
        return sha256_of(profiles)
    digest = hashlib.sha256(json.dumps(profiles.names).encode())
    digest.update(profiles.metadata.to_csv().encode())
    digest.update(np.ascontiguousarray(profiles.features))
    return digest.hexdigest()
