"""Feature names as CellProfiler writes them for Cell Painting, in families that move together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

CHANNELS = ("DNA", "ER", "RNA", "AGP", "Mito")
COMPARTMENTS = ("Cells", "Cytoplasm", "Nuclei")
_SHAPES = (
    ("Area", "MeanRadius", "Perimeter", "ConvexArea"),
    ("Compactness", "FormFactor"),
    ("Eccentricity", "MajorAxisLength"),
    ("Solidity", "Extent"),
    ("EulerNumber",),
    ("Zernike_2_0", "Zernike_4_0"),
    ("Zernike_3_1",),
)
_INTENSITIES = (
    ("MeanIntensity", "MedianIntensity", "LowerQuartileIntensity", "UpperQuartileIntensity"),
    ("IntegratedIntensity",),
    ("StdIntensity", "MADIntensity"),
    ("MassDisplacement",),
)
_TEXTURES = ("AngularSecondMoment", "Contrast", "Correlation", "Entropy", "InfoMeas1", "InfoMeas2", "SumAverage")


@dataclass(frozen=True)
class Feature:
    """One feature: its name, the stem it shares with its near-duplicates, and its family."""

    name: str
    stem: str
    family: str


def catalogue() -> list[Feature]:
    """Return all names this module knows, near-duplicates next to each other."""
    found: list[Feature] = []

    def add(stem: str, family: str, *names: str) -> None:
        found.extend(Feature(name, stem, family) for name in names)

    for part in COMPARTMENTS:
        for i, group in enumerate(_SHAPES):
            add(f"{part}_AreaShape_{i}", "AreaShape", *(f"{part}_AreaShape_{name}" for name in group))
        for dye in CHANNELS:
            for i, group in enumerate(_INTENSITIES):
                add(f"{part}_Intensity_{i}_{dye}", "Intensity", *(f"{part}_Intensity_{n}_{dye}" for n in group))
            for measure in _TEXTURES:
                for scale in (3, 10):
                    stem = f"{part}_Texture_{measure}_{dye}_{scale}"
                    add(stem, "Texture", *(f"{stem}_{angle:02d}_256" for angle in range(4)))
            for size in (1, 2, 3, 5, 8, 16):
                stem = f"{part}_Granularity_{size}_{dye}"
                add(stem, "Granularity", stem)
            for measure in ("FracAtD", "MeanFrac", "RadialCV"):
                stem = f"{part}_RadialDistribution_{measure}_{dye}"
                add(stem, "RadialDistribution", *(f"{stem}_{ring}of4" for ring in range(1, 5)))
        for one, two in combinations(CHANNELS, 2):
            for measure in ("Correlation", "K", "RWC"):
                stem = f"{part}_Correlation_{measure}_{one}_{two}"
                add(stem, "Correlation", stem)
    for dye in CHANNELS:
        add(f"Image_Quality_{dye}", "Image", f"Image_ImageQuality_FocusScore_Orig{dye}")
        add(f"Image_Intensity_{dye}", "Image", f"Image_Intensity_MeanIntensity_{dye}")
        add(f"Image_Texture_{dye}", "Image", *(f"Image_Texture_Entropy_{dye}_3_{a:02d}_256" for a in range(4)))
    return found


def choose_features(count: int) -> list[Feature]:
    """Return ``count`` features, whole stems as far as possible, evenly over the catalogue.

    Raises
    ------
    ValueError
        If the catalogue has fewer.
    """
    names = catalogue()
    if not 1 <= count <= len(names):
        raise ValueError(f"{count} features asked for, expected 1 to {len(names)}")
    stems = list(dict.fromkeys(feature.stem for feature in names))
    # A golden-ratio stride visits the stems evenly however early it stops, and needs no random numbers.
    places = (np.arange(len(stems)) * 0.6180339887498949) % 1.0
    order = np.argsort(np.argsort(places))
    rank = {stems[i]: position for position, i in enumerate(order)}
    chosen = sorted(names, key=lambda feature: rank[feature.stem])[:count]
    return sorted(chosen, key=lambda feature: feature.name)
