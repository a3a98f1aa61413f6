"""Sphering: whitening by the correlations among wells (Kessy, Lewin and Strimmer 2018, ZCA-cor)."""

from __future__ import annotations

import numpy as np

from morphobench.corrections.base import Correction, Covariates, mean_and_scale
from morphobench.corrections.whitening import Axes, principal_axes, scale_along
from morphobench.errors import DataError


class Sphering(Correction):
    """ZCA-cor whitening fitted on the negative controls of the training split.

    Features are standardised by the controls, then multiplied by R_l^(-1/2), R_l = (R + l I) / (1 + l), with R the
    controls' correlation matrix. A large l leaves the standardised features as they are, l -> 0 whitens fully. l
    is the candidate of highest held-out Gaussian log-likelihood of control wells, cross-validated over plates
    (over wells where there is one plate): no reported metric and no treated well has a part in the choice. The
    candidates are those of Arevalo et al. (2024): 25 from 1e-5 to 1e3, here evenly spaced in the logarithm.

    Where no well at all is in the training split, the controls of all splits are used, and ``fitted["split"]``
    says so. A feature that is constant over the controls is centred only.

    Parameters
    ----------
    candidates, low, high
        Number and ends of the grid of l.
    folds
        Of the cross-validation, at most.
    regularisation
        Fixes l and skips the choice.
    """

    def __init__(
        self,
        candidates: int = 25,
        low: float = 1e-5,
        high: float = 1e3,
        folds: int = 5,
        regularisation: float | None = None,
        *,
        seed: int = 0,
    ):
        super().__init__(seed=seed)
        self.candidates, self.low, self.high = candidates, low, high
        self.folds, self.regularisation = folds, regularisation

    def _fit(self, features: np.ndarray, covariates: Covariates) -> None:
        trained = covariates.split == "train"
        split = "train" if trained.any() else "all"
        rows = np.flatnonzero(covariates.negcon & (trained | (split == "all")))
        if len(rows) < 2:
            raise DataError(
                f"sphering needs two negative control wells or more in the {split} split, found {len(rows)}"
            )
        reference = features[rows]
        self._mean, self._scale, constant = mean_and_scale(reference)
        self._varying = np.flatnonzero(~constant)
        if not len(self._varying):
            raise DataError(
                f"all {features.shape[1]} features are constant over the negative controls; sphering has "
                f"nothing to whiten"
            )
        self.fitted = {"split": split, "controls": len(rows), "constant_features": int(constant.sum())}
        self._choose(reference, covariates, rows)
        standard = ((reference - self._mean) / self._scale)[:, self._varying]
        self._axes = principal_axes(standard)
        self.fitted["rank"] = len(self._axes.values)

    def _choose(self, reference: np.ndarray, covariates: Covariates, rows: np.ndarray) -> None:
        """Set the regularisation and record how it was found."""
        if self.regularisation is not None:
            self.fitted |= {"regularisation": float(self.regularisation), "criterion": "given"}
            return
        grid = np.geomspace(self.low, self.high, self.candidates)
        plates = covariates.plate[rows]
        over = "plates" if len(np.unique(plates)) > 1 else "wells"
        groups = plates if over == "plates" else covariates.well[rows]
        scores = cross_validate(reference[:, self._varying], fold_of(groups, self.folds), grid)
        self.fitted |= {
            "regularisation": float(grid[scores.argmax()]),
            "criterion": f"held-out Gaussian log-likelihood per negative control, cross-validated over {over}",
            "candidates": [
                {"regularisation": float(v), "score": float(s)} for v, s in zip(grid, scores, strict=True)
            ],
        }

    def _transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        standard = (features - self._mean) / self._scale
        penalty = self.fitted["regularisation"]
        factors, elsewhere = _shrunk(self._axes.values, penalty) ** -0.5, _shrunk(0.0, penalty)
        # Without regularisation the directions of no variance are left out (pseudo-inverse).
        elsewhere = elsewhere**-0.5 if elsewhere > 0 else 0.0
        whitened = scale_along(standard[:, self._varying], self._axes.vectors, factors, elsewhere)
        standard[:, self._varying] = whitened
        return standard


class SpheringAll(Correction):
    """Sphering as CellPainTR's code does it: standardise all wells, multiply by S^(-1/2), S their correlations.

    There is no regularisation and no use of controls. Where S lacks full rank its pseudo-inverse is used, that is,
    directions in which no well varies become 0; rank and number of features are in ``fitted``.
    """

    def _fit(self, features: np.ndarray, covariates: Covariates) -> None:
        self._mean, self._scale, constant = mean_and_scale(features)
        self._axes = principal_axes((features - self._mean) / self._scale)
        if not len(self._axes.values):
            raise DataError(f"all {features.shape[1]} features are constant; sphering has nothing to whiten")
        rank, columns = len(self._axes.values), features.shape[1]
        self.fitted = {
            "wells": len(features),
            "features": columns,
            "rank": rank,
            "pseudo_inverse": rank < columns,
            "constant_features": int(constant.sum()),
            "smallest_eigenvalue": float(self._axes.values[-1]),
        }

    def _transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        standard = (features - self._mean) / self._scale
        return scale_along(standard, self._axes.vectors, self._axes.values**-0.5, 0.0)


def _shrunk(values: np.ndarray | float, penalty: float | np.ndarray) -> np.ndarray | float:
    """Return eigenvalues of (R + l I) / (1 + l)."""
    return (values + penalty) / (1 + penalty)


def fold_of(groups: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold of each row, (n,) int: sorted distinct groups are dealt in turn to ``folds`` folds."""
    names, index = np.unique(groups, return_inverse=True)
    return index % min(folds, len(names))


def cross_validate(reference: np.ndarray, fold: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the mean held-out Gaussian log-likelihood per row for each regularisation, (len(grid),).

    Each fold's mean, scale and correlations come from the other rows; one eigendecomposition serves the whole
    grid.

    Parameters
    ----------
    reference
        (n, D) float64 control wells.
    fold
        (n,) fold of each row.
    grid
        Regularisations l of (R + l I) / (1 + l).
    """
    if len(np.unique(fold)) < 2:
        raise DataError(
            "sphering cannot cross-validate its regularisation: all negative controls share one well name"
        )
    whole_scale = mean_and_scale(reference)[1]
    total = np.zeros(len(grid))
    for held in np.unique(fold):
        inside = reference[fold != held]
        mean, scale, constant = mean_and_scale(inside)
        scale = np.where(constant, whole_scale, scale)
        axes = principal_axes((inside - mean) / scale)
        outside = (reference[fold == held] - mean) / scale
        total += _log_likelihood(outside, axes, grid) - len(outside) * np.log(scale).sum()
    return total / len(reference)


def _log_likelihood(rows: np.ndarray, axes: Axes, grid: np.ndarray) -> np.ndarray:
    """Return the summed log density of rows under N(0, (R + l I) / (1 + l)) for each l of the grid."""
    along = ((rows @ axes.vectors) ** 2).sum(axis=0)
    rest = max((rows**2).sum() - along.sum(), 0.0)
    n, columns = rows.shape
    variances = _shrunk(axes.values[None, :], grid[:, None])
    floor = _shrunk(0.0, grid)
    misfit = (along / variances).sum(axis=1) + rest / floor
    volume = np.log(variances).sum(axis=1) + (columns - len(axes.values)) * np.log(floor)
    return -0.5 * (misfit + n * volume + n * columns * np.log(2 * np.pi))
