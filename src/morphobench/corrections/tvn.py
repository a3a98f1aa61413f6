"""Typical variation normalisation: what varies among controls is evened out, the same in every batch."""

from __future__ import annotations

import numpy as np

from morphobench.corrections.base import Correction, Covariates, controls_by_batch, mean_and_scale, require_known
from morphobench.corrections.whitening import principal_axes, scale_along
from morphobench.errors import DataError


class TVN(Correction):
    """Typical variation normalisation (Ando, McLean and Berndl 2017).

    1. Standardise features by the negative controls of all plates and project on the controls' principal axes,
       each divided by the controls' standard deviation along it. Axes along which the controls do not vary are
       left out, so there are at most as many columns as controls less one. The controls now have covariance I.
    2. CORAL (Sun, Feng and Saenko 2016) per batch: subtract the mean of the batch's controls, and multiply by
       (C_b + e I)^(-1/2) (C + e I)^(1/2), with C_b the covariance of the batch's controls and C = I that of all.

    Ando et al. do not regularise; e = 0.5, as in the EFAAR benchmark of Celik et al. (2024), keeps batches with
    few controls usable. Batches with fewer controls than columns, whose C_b lacks full rank so that only e makes
    it invertible, are listed in ``fitted["rank_deficient_batches"]`` with their number of controls.

    Parameters
    ----------
    epsilon
        e, above 0.
    """

    component = "tvn"

    def __init__(self, epsilon: float = 0.5, *, seed: int = 0):
        super().__init__(seed=seed)
        self.epsilon = epsilon

    def _fit(self, features: np.ndarray, covariates: Covariates) -> None:
        batches = controls_by_batch(covariates, "TVN")
        rows = np.sort(np.concatenate(list(batches.values())))
        self._mean, self._scale, constant = mean_and_scale(features[rows])
        axes = principal_axes((features[rows] - self._mean) / self._scale)
        columns = len(axes.values)
        if not columns:
            raise DataError(f"the {len(rows)} negative controls do not differ; TVN needs at least two that do")
        self._projection = axes.vectors / np.sqrt(axes.values)
        self._batches = {}
        deficient = {}
        for batch, chosen in batches.items():
            whitened = self._whiten(features[chosen])
            mean = whitened.mean(axis=0)
            own = principal_axes(whitened - mean)
            self._batches[batch] = (mean, own)
            if len(own.values) < columns:
                deficient[batch] = len(chosen)
        self.fitted = {
            "controls": len(rows),
            "columns": columns,
            "constant_features": int(constant.sum()),
            "epsilon": self.epsilon,
            "rank_deficient_batches": deficient,
        }

    def _whiten(self, features: np.ndarray) -> np.ndarray:
        return ((features - self._mean) / self._scale) @ self._projection

    def _transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        require_known(covariates.batch, self._batches, "TVN")
        result = self._whiten(features)
        target = np.sqrt(1 + self.epsilon)
        for batch, (mean, axes) in self._batches.items():
            rows = covariates.batch == batch
            factors = target / np.sqrt(axes.values + self.epsilon)
            result[rows] = scale_along(result[rows] - mean, axes.vectors, factors, target / np.sqrt(self.epsilon))
        return result
