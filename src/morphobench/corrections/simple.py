"""Corrections that change nothing, or only location and scale."""

from __future__ import annotations

import numpy as np

from morphobench.corrections.base import Correction, Covariates, controls_by_batch, mean_and_scale, require_known


class NoCorrection(Correction):
    """The profiles as they are: the uncorrected baseline."""

    def _fit(self, features: np.ndarray, covariates: Covariates) -> None:
        """Nothing is learnt."""

    def _transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        return features


class HarmonyPublished(NoCorrection):
    """The Harmony row of CellPainTR's Table 1 as its code computes it: the features before the correction.

    The scib wrapper writes what Harmony corrects to ``obsm["X_emb"]``, while the metrics read ``X``, which Harmony
    leaves as it was.
    """


class ZNorm(Correction):
    """Z-scores within each batch by the mean and standard deviation of its negative controls (CDCL, appendix B).

    The standard deviation is the population's (ddof 0). A feature that is constant over a batch's controls is
    centred and divided by 1; how many are is in ``fitted["constant_features"]``, by batch.
    """

    def _fit(self, features: np.ndarray, covariates: Covariates) -> None:
        self._statistics = {}
        self.fitted = {"controls": {}, "constant_features": {}}
        for batch, rows in controls_by_batch(covariates, "z-norm").items():
            mean, scale, constant = mean_and_scale(features[rows])
            self._statistics[batch] = (mean, scale)
            self.fitted["controls"][batch] = len(rows)
            if constant.any():
                self.fitted["constant_features"][batch] = int(constant.sum())

    def _transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        require_known(covariates.batch, self._statistics, "z-norm")
        for batch, (mean, scale) in self._statistics.items():
            rows = covariates.batch == batch
            features[rows] = (features[rows] - mean) / scale
        return features
