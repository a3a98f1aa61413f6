"""The wells of a simulated JUMP screen: what each holds and what its features measure.

A well's features are, in units of the noise,

    treatment + well noise + plate position + nuisance,   then a shift and scale of its batch,

and at last raw units: skewed, of very different means and scales, some negative. The nuisance has a part that no
scaling per plate can remove: seeding density and edge effects differ between wells, and every source, batch
and plate renders them, and the treatments, in a direction of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from morphobench.simulate.cellprofiler_names import Feature
from morphobench.simulate.phenotypes import effects, loadings, unit_rows

ROWS, COLUMNS = 16, 24
_PHENOTYPES = 12
_NOISE_DIMENSIONS = 8
_STEM_SPREAD = 0.12


@dataclass(frozen=True)
class Parameters:
    """What can be set; strengths are in units of the well noise, sizes are counts.

    Attributes
    ----------
    sources, batches_per_source, plates_per_batch, wells
        The screen's shape; ``wells`` of the 384 of each plate are used.
    compounds, mechanisms, features
        Compounds beside DMSO and the eight positive controls; mechanisms they fall into; feature columns.
    treatment_effect, source_effect, batch_effect, plate_effect, position_effect, noise
        Strengths; at treatment_effect 0 nothing tells treatments from DMSO.
    missing
        Share of features that have empty cells.
    """

    sources: int = 3
    batches_per_source: int = 2
    plates_per_batch: int = 2
    wells: int = 96
    compounds: int = 40
    mechanisms: int = 10
    features: int = 400
    treatment_effect: float = 1.0
    source_effect: float = 1.0
    batch_effect: float = 1.0
    plate_effect: float = 0.3
    position_effect: float = 0.5
    noise: float = 1.0
    missing: float = 0.03


@dataclass(frozen=True)
class Nuisance:
    """What a source, batch or plate does to all its wells; the parts add up over the three."""

    shift: np.ndarray
    log_scale: np.ndarray
    density: np.ndarray
    response: np.ndarray


class Model:
    """The screen's fixed truth: loadings, treatment effects, raw units.

    Parameters
    ----------
    parameters
        See :class:`Parameters`.
    features
        The feature columns.
    potency
        (T,) potency of every treatment; 0 for DMSO.
    mechanism
        (T,) mechanism of every treatment, integers from 0.
    seed
        Seed of everything here.
    """

    def __init__(
        self,
        parameters: Parameters,
        features: list[Feature],
        potency: np.ndarray,
        mechanism: np.ndarray,
        seed: int,
    ) -> None:
        rng = np.random.default_rng([seed, 1])
        self.parameters = parameters
        stems = pd.factorize(pd.Series([f.stem for f in features]))[0]
        self.stems = stems
        self.effects = effects(rng, mechanism, potency, _PHENOTYPES)
        self.phenotypes = loadings(rng, stems, _PHENOTYPES, _STEM_SPREAD)
        self.noise = loadings(rng, stems, _NOISE_DIMENSIONS, _STEM_SPREAD)
        self.position = loadings(rng, stems, 2, _STEM_SPREAD)
        self.families = np.array([f.family for f in features])
        self.units = RawUnits(rng, stems, self.families)

    def nuisance(self, rng: np.random.Generator, strength: float) -> Nuisance:
        """Draw what one source, batch or plate does, in proportion to ``strength``."""
        size = len(self.stems)
        return Nuisance(
            strength * rng.standard_normal(size),
            0.15 * strength * rng.standard_normal(size),
            strength * loadings(rng, self.stems, 1, _STEM_SPREAD)[0],
            0.35 * strength * unit_rows(rng, _PHENOTYPES, _PHENOTYPES) / np.sqrt(_PHENOTYPES),
        )

    def plate(
        self, rng: np.random.Generator, treatments: np.ndarray, positions: np.ndarray, parts: list[Nuisance]
    ) -> np.ndarray:
        """Return the raw features, (n, D) float64, of one plate.

        Parameters
        ----------
        rng
            Source of the wells' own randomness.
        treatments
            (n,) index of each well's treatment.
        positions
            (n,) well number, 0 to 383, by row.
        parts
            The nuisances of its source, batch and plate.
        """
        p, n, size = self.parameters, len(treatments), len(self.stems)
        row, column = np.divmod(positions, COLUMNS)
        response = np.eye(_PHENOTYPES) + sum(part.response for part in parts)
        z = p.treatment_effect * self.effects[treatments] @ response @ self.phenotypes
        z += 0.8 * p.noise * rng.standard_normal((n, _NOISE_DIMENSIONS)) @ self.noise
        # Most of what is a feature's own it shares with its stem: four angles of one texture are nearly one.
        of_stem = rng.standard_normal((n, int(self.stems.max()) + 1))[:, self.stems]
        z += 0.6 * p.noise * (0.96 * of_stem + 0.28 * rng.standard_normal((n, size)))
        place = np.column_stack([row / (ROWS - 1) - 0.5, column / (COLUMNS - 1) - 0.5])
        z += p.position_effect * place @ self.position
        edge = (row == 0) | (row == ROWS - 1) | (column == 0) | (column == COLUMNS - 1)
        density = rng.exponential(1.0, n) + 0.5 * edge - 1.0
        z += density[:, None] * sum(part.density for part in parts)
        z *= np.exp(sum(part.log_scale for part in parts))
        z += sum(part.shift for part in parts)
        return self.units.apply(z)


class RawUnits:
    """From noise units to what CellProfiler writes: each stem has its own scale, offset, skew and sign."""

    def __init__(self, rng: np.random.Generator, stems: np.ndarray, families: np.ndarray) -> None:
        count = int(stems.max()) + 1
        self.scale = (10 ** rng.uniform(-3, 3, count))[stems]
        self.offset = rng.uniform(3, 12, count)[stems]
        self.sign = np.where(rng.random(count) < 0.15, -1.0, 1.0)[stems]
        self.bounded = families == "Correlation"
        self.skewed = np.isin(families, ["Intensity", "AreaShape"]) | (rng.random(count) < 0.2)[stems]
        self.skewed &= ~self.bounded
        # Some columns never vary, some by less than any filter lets pass: in every real release there are both.
        draw = rng.random(len(stems))
        self.constant = draw < 0.01
        self.nearly = (draw >= 0.01) & (draw < 0.02)

    def apply(self, z: np.ndarray) -> np.ndarray:
        """Return ``z`` in raw units; monotone in every feature that varies."""
        raw = self.sign * self.scale * (self.offset + z)
        raw = np.where(self.skewed, self.sign * self.scale * np.exp(0.3 * z + 1.0), raw)
        raw = np.where(self.bounded, np.tanh(0.25 * z), raw)
        raw = np.where(self.nearly, self.scale * (1e5 + z), raw)
        raw[:, self.constant] = np.round(self.offset[self.constant])
        return raw
