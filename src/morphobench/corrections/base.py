"""What every correction is: fitted on features and technical covariates, never on biological labels."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from morphobench.errors import DataError
from morphobench.profiles import Profiles


@dataclass(frozen=True)
class Covariates:
    """All that a correction may know of the wells besides their features; there are no labels among it.

    Attributes
    ----------
    batch, plate, well
        (N,) strings.
    control
        (N,) ``negcon``, ``poscon`` or ``trt``.
    split
        (N,) ``train``, ``val`` or ``test``.
    source
        (N,) laboratories, or None where the data set has none.
    """

    batch: np.ndarray
    plate: np.ndarray
    well: np.ndarray
    control: np.ndarray
    split: np.ndarray
    source: np.ndarray | None = None

    @classmethod
    def from_profiles(cls, profiles: Profiles) -> Self:
        """Take the covariates from the metadata of profiles."""
        required = ("Batch", "Plate", "Well", "Control", "Split")
        columns = {name.lower(): profiles.column(f"Metadata_{name}").astype(str) for name in required}
        if "Metadata_Source" in profiles.metadata:
            columns["source"] = profiles.column("Metadata_Source").astype(str)
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def negcon(self) -> np.ndarray:
        """(N,) which wells are negative controls."""
        return self.control == "negcon"

    def order(self) -> np.ndarray:
        """Return an order of the rows, by batch, plate and well, that the order of the file does not change."""
        return np.lexsort((self.well, self.plate, self.batch))


class Correction(ABC):
    """A correction; constructors store parameters only.

    Parameters
    ----------
    seed
        Of all that is random in it.

    Attributes
    ----------
    transductive
        Whether it can only correct the rows it was fitted on.
    component
        Name of the output's columns (``<component>_000`` ...) where these are not the input's features, else None.
    fitted
        JSON-able facts learnt by ``fit``, library versions under ``versions``.
    """

    transductive: ClassVar[bool] = False
    component: ClassVar[str | None] = None

    def __init__(self, *, seed: int = 0):
        self.seed = seed
        self.fitted: dict[str, Any] = {}

    def fit(self, features: np.ndarray, covariates: Covariates) -> Self:
        """Learn the correction.

        Parameters
        ----------
        features
            (N, D) finite floats; not modified.
        covariates
            Of the same N rows.

        Raises
        ------
        DataError
            If a feature is not finite, or the wells the correction needs are absent.
        """
        self.fitted = {}
        self._fit(check_features(features, covariates), covariates)
        return self

    def transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        """Return the corrected rows, (N, D') float32, in the order given.

        Raises
        ------
        DataError
            If a feature is not finite, a batch is unknown, or rows are not those of the fit where they must be.
        """
        result = self._transform(check_features(features, covariates), covariates)
        if len(result) != len(features):
            raise RuntimeError(f"{type(self).__name__} returned {len(result)} rows for {len(features)}")
        result = np.ascontiguousarray(result, dtype=np.float32)
        if not np.isfinite(result).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(result))[0])
            raise DataError(
                f"{type(self).__name__}: output column {column} of row {row} (plate {covariates.plate[row]}, well "
                f"{covariates.well[row]}) is {result[row, column]}, expected a finite number"
            )
        return result

    def fit_transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        """Fit on the rows and return them corrected."""
        return self.fit(features, covariates).transform(features, covariates)

    @abstractmethod
    def _fit(self, features: np.ndarray, covariates: Covariates) -> None:
        """Learn from checked float64 features."""

    @abstractmethod
    def _transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        """Correct checked float64 features."""


class TransductiveCorrection(Correction):
    """A correction without a rule for new rows: ``transform`` returns what ``fit`` computed for the same rows."""

    transductive = True

    def _fit(self, features: np.ndarray, covariates: Covariates) -> None:
        self._digest = self._identify(features, covariates)
        self._corrected = self._correct(features, covariates)

    def _transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        if self._identify(features, covariates) != self._digest:
            raise DataError(
                f"{type(self).__name__} can only correct the rows it was fitted on; the {len(features)} given "
                f"are not the {len(self._corrected)} of the fit in their order"
            )
        return self._corrected.copy()

    @abstractmethod
    def _correct(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        """Return the corrected rows."""

    @staticmethod
    def _identify(features: np.ndarray, covariates: Covariates) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(features))
        digest.update("\n".join(covariates.batch.tolist()).encode())
        return digest.hexdigest()


def check_features(features: np.ndarray, covariates: Covariates) -> np.ndarray:
    """Return the features as a float64 copy; DataError naming the first feature and row that are not finite."""
    if features.ndim != 2 or len(features) != len(covariates):
        raise DataError(f"features have shape {features.shape}, expected {len(covariates)} rows as the covariates")
    finite = np.isfinite(features)
    if not finite.all():
        row, column = (int(i) for i in np.argwhere(~finite)[0])
        raise DataError(
            f"feature {column} is {features[row, column]} in row {row} (plate {covariates.plate[row]}, well "
            f"{covariates.well[row]}); a correction needs finite features"
        )
    return np.array(features, dtype=np.float64)


def controls_by_batch(covariates: Covariates, name: str) -> dict[str, np.ndarray]:
    """Return the rows of the negative controls of each batch, batches sorted; DataError naming one without."""
    rows = {}
    for batch in np.unique(covariates.batch):
        rows[str(batch)] = np.flatnonzero((covariates.batch == batch) & covariates.negcon)
        if not len(rows[str(batch)]):
            raise DataError(f"batch {batch} has no negative control wells; {name} needs some in every batch")
    return rows


def require_known(batches: np.ndarray, known: dict[str, Any], name: str) -> None:
    """Raise DataError naming the first batch that was absent from the fit."""
    for batch in np.unique(batches):
        if str(batch) not in known:
            raise DataError(f"batch {batch} was not among the {len(known)} batches that {name} was fitted on")


def mean_and_scale(reference: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, population standard deviation and which columns are constant, (D,) each.

    A constant column gets scale 1 (the convention of scikit-learn's ``StandardScaler``). Constant means a spread
    that float32 cannot tell from rounding.
    """
    mean = reference.mean(axis=0)
    std = reference.std(axis=0)
    constant = std <= 1e-8 * np.abs(mean)
    return mean, np.where(constant, 1.0, std), constant
