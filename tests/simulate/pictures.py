"""What simple arithmetic sees in pictures, and how well a linear classifier tells labels apart by it."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def statistics(image):
    """Brightness, contrast, quantiles, fine detail and correlation of channels of a (C, H, W) picture."""
    image = np.asarray(image, float) / 255
    flat = image.reshape(len(image), -1)
    quantiles = np.quantile(flat, [0.05, 0.25, 0.5, 0.75, 0.95, 0.99], axis=1).ravel()
    detail = np.abs(np.diff(image, axis=1)).mean(axis=(1, 2))
    noise = 1e-6 * np.random.default_rng(0).standard_normal(flat.shape)
    related = np.corrcoef(flat + noise)[np.triu_indices(len(image), 1)]
    return np.concatenate([flat.mean(axis=1), flat.std(axis=1), quantiles, detail, related])


def standardised(values, groups):
    """Values minus mean over standard deviation of their group (a plate)."""
    out = np.empty_like(values)
    for group in np.unique(groups):
        rows = groups == group
        out[rows] = (values[rows] - values[rows].mean(axis=0)) / (values[rows].std(axis=0) + 1e-9)
    return out


def transfer(values, labels, batches):
    """Accuracy for labels in batches that the classifier has not seen, and how often it was right of how many."""
    right = []
    for batch in np.unique(batches):
        seen, unseen = batches != batch, batches == batch
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300))
        right.append(model.fit(values[seen], labels[seen]).predict(values[unseen]) == labels[unseen])
    return np.concatenate(right)


def chance_limit(classes, n):
    """Accuracy that guessing exceeds less than once in some thousand times."""
    return 1 / classes + 4 * np.sqrt((1 - 1 / classes) / (classes * n))
