"""ComBat: parametric empirical Bayes for location and scale of each batch, by scanpy."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pandas as pd

from morphobench.corrections.base import Covariates, TransductiveCorrection, mean_and_scale
from morphobench.errors import DataError


class ComBat(TransductiveCorrection):
    """ComBat without covariates (Johnson, Li and Rabinovic 2007), ``scanpy.pp.combat``.

    Features that are constant over all wells have no batch effect to estimate and would end the iteration of the
    others early; they are left as they are and counted in ``fitted["constant_features"]``.

    Parameters
    ----------
    key
        The covariate that is the batch: ``batch``, ``plate`` or ``source``.
    """

    def __init__(self, key: str = "batch", *, seed: int = 0):
        super().__init__(seed=seed)
        self.key = key

    def _correct(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        groups = getattr(covariates, self.key)
        if groups is None:
            raise DataError(
                f"ComBat by {self.key} needs the column Metadata_{self.key.title()}; the profiles lack it"
            )
        names, counts = np.unique(groups, return_counts=True)
        if len(names) < 2:
            raise DataError(f"ComBat needs two batches or more, found one ({names[0]})")
        if counts.min() < 2:
            raise DataError(
                f"batch {names[counts.argmin()]} has one well; ComBat needs two or more to estimate its variance"
            )
        varying = ~mean_and_scale(features)[2]
        if varying.sum() < 2:
            raise DataError(f"ComBat needs two features that vary or more, found {varying.sum()}")
        self.fitted = {
            "batches": len(names),
            "constant_features": int((~varying).sum()),
            "versions": {"scanpy": version("scanpy")},
        }
        result = features.copy()
        result[:, varying] = _combat(features[:, varying], groups)
        return result


def _combat(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    # Imported here: scanpy takes seconds, and only this correction needs it.
    import scanpy
    from anndata import AnnData

    observations = pd.DataFrame({"batch": pd.Categorical(groups)}, index=[str(i) for i in range(len(groups))])
    return scanpy.pp.combat(AnnData(features, obs=observations), key="batch", inplace=False)
