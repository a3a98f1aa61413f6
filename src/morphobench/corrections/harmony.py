"""Harmony: soft clusters of principal components in which batches are brought together, by harmonypy."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pandas as pd

from morphobench.corrections.base import Covariates, TransductiveCorrection
from morphobench.errors import DataError


class Harmony(TransductiveCorrection):
    """Harmony (Korsunsky et al. 2019) on principal components, as scib's wrapper runs it; returns corrected PCs.

    harmonypy 0.0.9 and 2.x give transposed results and different numbers, so the version is in ``fitted``. Rows
    are passed in an order given by batch, plate and well: the result does not depend on the order of the file.

    Parameters
    ----------
    key
        The covariate that is the batch: ``batch``, ``plate`` or ``source``.
    components
        Number of principal components; fewer where rows or features are fewer.
    max_iter
        Of Harmony.
    seed
        Of the clustering, and of the PCA where it is a randomised one.
    """

    component = "harmony"

    def __init__(self, key: str = "batch", components: int = 50, max_iter: int = 10, *, seed: int = 0):
        super().__init__(seed=seed)
        self.key, self.components, self.max_iter = key, components, max_iter

    def _correct(self, features: np.ndarray, covariates: Covariates) -> np.ndarray:
        # Imported here: the libraries take a second, and only this correction needs them.
        from harmonypy import run_harmony
        from sklearn.decomposition import PCA

        groups = getattr(covariates, self.key)
        if groups is None:
            raise DataError(
                f"Harmony by {self.key} needs the column Metadata_{self.key.title()}; the profiles lack it"
            )
        names = np.unique(groups)
        if len(names) < 2:
            raise DataError(f"Harmony needs two batches or more, found one ({names[0]})")
        order = covariates.order()
        count = min(self.components, len(features) - 1, features.shape[1])
        pca = PCA(n_components=count, random_state=self.seed)
        scores = pca.fit_transform(features[order])
        clusters = int(np.clip(round(len(features) / 30), 1, 100))
        model = run_harmony(
            scores,
            pd.DataFrame({"batch": groups[order]}),
            "batch",
            nclust=clusters,
            max_iter_harmony=self.max_iter,
            random_state=self.seed,
            verbose=False,
        )
        corrected = np.asarray(model.Z_corr)
        if corrected.shape != scores.shape:
            raise RuntimeError(f"harmonypy returned shape {corrected.shape}, expected {scores.shape} (rows x PCs)")
        self.fitted = {
            "components": count,
            "explained_variance": float(pca.explained_variance_ratio_.sum()),
            "clusters": clusters,
            "versions": {"harmonypy": version("harmonypy"), "scikit-learn": version("scikit-learn")},
        }
        result = np.empty_like(corrected)
        result[order] = corrected
        return result
