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


class ZNormPublished(Correction):
    """Z-scores within each batch as CDCL's authors compute them: by all its images, on rows of length 1.

    Each row is divided by its length, each feature z-scored by mean and standard deviation (population's, plus
    1e-8) over all rows of the batch, controls or not, and each row divided by its length again. The text describes
    :class:`ZNorm`. For test images the code takes the statistics within unshuffled mini-batches of 92; here they
    are those of the batch, which the mini-batches stand for. A feature that is constant over a batch becomes 0;
    how many are is in ``fitted["constant_features"]``, by batch.
    """

    def _fit(self, features: np.ndarray, covariates: Covariates) -> None:
        self._statistics = {}
        self.fitted = {"rows": {}, "constant_features": {}}
        rows = unit_rows(features)
        for batch in np.unique(covariates.batch):
            here = rows[covariates.batch == batch]
            mean, scale, constant = mean_and_scale(here)
            # Rounding must not become a direction when the row is brought to length 1.
            self._statistics[str(batch)] = (mean, np.where(constant, np.inf, scale + 1e-8))
            self.fitted["rows"][str(batch)] = len(here)
            if constant.any():
                self.fitted["constant_features"][str(batch)] = int(constant.sum())

    def _transform(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        require_known(covariates.batch, self._statistics, "z-norm")
        result = unit_rows(features)
        for batch, (mean, scale) in self._statistics.items():
            rows = covariates.batch == batch
            result[rows] = unit_rows((result[rows] - mean) / scale)
        return result


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Return the rows divided by their length; a row of zeros stays."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1)
