"""Cultures of a simulated drug screen: how lines look and grow, what drugs do to them, what plates add.

A culture is a set of cells that stay where they are while the hours pass: more of them appear as the culture
grows, and a drug stops growth, changes their shape, rounds them up or kills them, each in proportion to

    strength x sensitivity of the line to the mechanism x dose / (dose + half dose) x (1 - exp(-hours / delay)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from morphobench.simulate.phase_contrast import Cells, Optics, debris, random_lobes


@dataclass(frozen=True)
class Parameters:
    """What can be set; strengths are 1 for a screen like the real one, sizes are counts or pixels.

    Attributes
    ----------
    batches, lines_per_batch, plates_per_line
        The screen's shape: at most the 7 batches of 3 cell lines of the real one.
    drugs, doses, replicates, dmso, pbs
        Drugs, doses of each (dilutions by ten), wells for each drug and dose, wells of the two controls.
    frames, hours
        Images of each well, and hours between them; drugs are added after the first.
    size, margin
        Height and width in pixels of a prepared image, and how much larger a raw one is.
    raw_batches
        Batches, from the last, that hold raw TIFFs instead of prepared JPGs.
    strength
        Effect of the drugs; at 0 nothing tells a treated well from a control at the same hour.
    growth
        Factor of the growth rates; at 0 no hour differs from another.
    batch_effect, plate_effect, well_effect, noise
        Nuisance: contrast, grey level, illumination and focus by batch, plate and well; the camera's noise.
    """

    batches: int = 7
    lines_per_batch: int = 3
    plates_per_line: int = 1
    drugs: int = 6
    doses: int = 2
    replicates: int = 1
    dmso: int = 6
    pbs: int = 2
    frames: int = 9
    hours: int = 6
    size: int = 128
    margin: int = 32
    raw_batches: int = 1
    strength: float = 1.0
    growth: float = 1.0
    batch_effect: float = 1.0
    plate_effect: float = 0.5
    well_effect: float = 0.3
    noise: float = 1.0


@dataclass(frozen=True)
class Line:
    """How a cell line looks and grows.

    Attributes
    ----------
    radius, aspect, height, lobes, grain
        Means of :class:`~morphobench.simulate.phase_contrast.Cells`.
    islands
        Share of cells that grow beside another one, 0 to 1.
    loose
        Share of cells that are round though they live.
    seeded
        Cells in 100 x 100 pixels at the first image.
    doubling
        Hours in which their number doubles.
    """

    radius: float
    aspect: float
    height: float
    lobes: float
    grain: float
    islands: float
    loose: float
    seeded: float
    doubling: float


_SPINDLE = Line(8.0, 3.6, 0.36, 0.40, 0.045, 0.20, 0.08, 9.0, 30.0)
_STELLATE = Line(11.0, 2.0, 0.26, 0.95, 0.06, 0.15, 0.05, 6.0, 40.0)
_SHEET = Line(9.5, 1.4, 0.30, 0.50, 0.06, 0.65, 0.07, 8.0, 28.0)
_ISLANDS = Line(7.5, 1.3, 0.36, 0.40, 0.06, 0.80, 0.16, 13.0, 22.0)
_ROUND = Line(6.0, 1.1, 0.70, 0.12, 0.05, 0.65, 0.65, 18.0, 22.0)
_FORMS = {
    **dict.fromkeys(["M14", "MDAMB231", "SKMEL2", "LOXIMVI", "BT549", "UACC257"], _SPINDLE),
    **dict.fromkeys(["SF539", "HS578T", "HOP62"], _STELLATE),
    **dict.fromkeys(["ACHN", "A498", "EKVX", "OVCAR4", "IGROV1", "OVCAR5"], _SHEET),
    **dict.fromkeys(["HT29", "HCT15", "T47D"], _ISLANDS),
    **dict.fromkeys(["SW620", "COLO205", "MALME3M"], _ROUND),
}


@dataclass(frozen=True)
class Mechanism:
    """What a drug does at its full effect.

    Attributes
    ----------
    arrest
        Share of the growth rate that it takes away.
    death
        Cells that die in an hour, as a rate.
    rounding
        Share of living cells that it rounds up.
    area, aspect, grain
        Logarithms of the factors of a spread cell's area, its aspect less one, and its granules.
    """

    arrest: float
    death: float = 0.0
    rounding: float = 0.0
    area: float = 0.0
    aspect: float = 0.0
    grain: float = 0.0


MECHANISMS = {
    "antifolate": Mechanism(0.9, death=0.006, area=0.7, grain=0.3),
    "antimetabolite": Mechanism(0.85, death=0.012, area=0.5, aspect=0.2, grain=0.4),
    "topoisomerase": Mechanism(1.0, death=0.025, area=0.9, grain=0.6),
    "alkylator": Mechanism(0.8, death=0.02, area=0.4, grain=0.3),
    "microtubule": Mechanism(1.0, death=0.02, rounding=0.65, area=0.2, aspect=-1.2),
    "kinase": Mechanism(0.9, area=-0.2, aspect=0.7, grain=-0.4),
    "mtor": Mechanism(0.7, area=-0.5, grain=-0.3),
    "hsp90": Mechanism(0.9, death=0.015, area=-0.2, aspect=0.9, grain=0.5),
    "translation": Mechanism(1.0, death=0.05, rounding=0.2, area=-0.5),
    "respiration": Mechanism(0.7, death=0.01, aspect=-0.5, grain=0.7),
    "asparagine": Mechanism(0.6, death=0.008, area=-0.2),
    "hypoxia": Mechanism(0.7, death=0.01, aspect=-0.3, grain=0.3),
    "none": Mechanism(0.05),
}
# Names as in the authors' code; highest doses of their table of drugs, in micromolar (asparaginase: units/uL).
# The first are the two antifolates that the similarity analysis compares, then one of each kind of effect.
DRUGS: dict[str, tuple[str, float]] = {
    "Methotrexate": ("antifolate", 1.0),
    "Pemetrexed": ("antifolate", 10.0),
    "Omacetaxine": ("translation", 1.0),
    "Paclitaxel": ("microtubule", 1.0),
    "Trametinib": ("kinase", 1.0),
    "Metformin": ("none", 10.0),
    "Topotecan": ("topoisomerase", 1.0),
    "Gemcitabine": ("antimetabolite", 1.0),
    "17-AAG": ("hsp90", 10.0),
    "Oligomycin A": ("respiration", 1.0),
    "Rapamycin": ("mtor", 0.1),
    "Chlormethine": ("alkylator", 10.0),
    "Oxaliplatin": ("alkylator", 10.0),
    "Clofarabine": ("antimetabolite", 10.0),
    "Cladribine": ("antimetabolite", 10.0),
    "Fluorouracil": ("antimetabolite", 10.0),
    "Mercaptopurine": ("antimetabolite", 10.0),
    "Decitabine": ("antimetabolite", 10.0),
    "Irinotecan": ("topoisomerase", 10.0),
    "Docetaxel": ("microtubule", 1.0),
    "Panzem-2-ME2": ("microtubule", 10.0),
    "Erlotinib": ("kinase", 10.0),
    "Lenvatinib": ("kinase", 10.0),
    "Everolimus": ("mtor", 1.0),
    "YC-1": ("hypoxia", 10.0),
    "Asparaginase": ("asparagine", 0.00066),
    "UK5099": ("none", 10.0),
    "MEDICA 16": ("none", 10.0),
    "BPTES": ("none", 10.0),
    "Etomoxir": ("none", 10.0),
    "Oxfenicine": ("none", 2.5),
}
_HALF_DOSE = 0.1
_DELAY = 10.0
_PIECES = 3


def line_of(name: str, rng: np.random.Generator) -> tuple[Line, dict[str, float]]:
    """Return how a cell line looks and how sensitive it is to each mechanism; each line differs a little."""
    form = _FORMS[name]
    wobble = dict(
        zip(("radius", "grain", "seeded", "doubling"), np.exp(0.12 * rng.standard_normal(4)), strict=True)
    )
    line = Line(**{k: v * wobble.get(k, 1.0) for k, v in vars(form).items()})
    # Some lines resist some drugs, as in the panel they were chosen from.
    sensitivity = dict(zip(MECHANISMS, rng.beta(2.5, 1.2, len(MECHANISMS)), strict=True))
    return line, sensitivity


@dataclass(frozen=True)
class Treatment:
    """What a well holds: a mechanism, and its effect at the end of time (0 to about 1)."""

    mechanism: str
    effect: float


def effect_of(strength: float, sensitivity: float, dose: float) -> float:
    """Return the final effect of a dose, given relative to the highest one of its drug."""
    return strength * sensitivity * dose / (dose + _HALF_DOSE) * (1 + _HALF_DOSE)


def draw_nuisance(rng: np.random.Generator, strength: float) -> np.ndarray:
    """Return log contrast, grey level, the two gradients and log focus, in proportion to ``strength``."""
    return strength * rng.standard_normal(5) * [0.12, 4.0, 6.0, 6.0, 0.35]


def optics_of(parts: list[np.ndarray], noise: float) -> Optics:
    """Return the optics of a well from the nuisance of its batch, plate and place."""
    contrast, level, down, right, focus = np.sum(parts, axis=0)
    return Optics(
        float(np.exp(contrast)),
        float(level),
        (float(down), float(right)),
        0.45 * float(np.exp(focus)),
        1.5 * noise,
    )


class Culture:
    """One well: its cells, from the first hour to the last.

    Parameters
    ----------
    rng
        Source of where and how its cells are.
    line
        Its cell line.
    treatment
        What it holds.
    size
        Height and width of its images.
    hours
        Hours of all its images, from 0.
    growth
        Factor of the growth rate.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        line: Line,
        treatment: Treatment,
        size: int,
        hours: np.ndarray,
        growth: float,
    ) -> None:
        self.line, self.size = line, size
        self.mechanism = MECHANISMS[treatment.mechanism]
        self.effect = treatment.effect * (1.0 - np.exp(-hours / _DELAY))
        steps = np.diff(hours, prepend=0.0)
        rate = growth * np.log(2) / line.doubling * np.maximum(1.0 - self.mechanism.arrest * self.effect, 0.0)
        first = line.seeded * (size / 100.0) ** 2 * np.exp(0.25 * rng.standard_normal())
        # Cells are crowded in the end: twice what fits side by side.
        most = 1.3 * size**2 / (np.pi * line.radius**2)
        self.count = np.minimum(np.rint(first * np.exp(np.cumsum(rate * steps))), most).astype(int)
        self.dead = 1.0 - np.exp(-np.cumsum(self.mechanism.death * self.effect * steps))
        n = max(int(self.count.max()), 1)
        self.y, self.x = self._places(rng, n)
        self.angle = rng.uniform(0, np.pi, n)
        self.scale = np.exp(0.2 * rng.standard_normal(n))
        self.lobes = random_lobes(rng, n, line.lobes)
        self.fate, self.grip = rng.random(n), rng.random(n)

    def _places(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        edge = self.line.radius
        places = rng.uniform(-edge, self.size + edge, (n, 2))
        beside = rng.random(n) < self.line.islands
        step, turn = 1.7 * self.line.radius, rng.uniform(0, 2 * np.pi, n)
        for i in range(1, n):
            if beside[i]:
                mother = rng.integers(i)
                places[i] = places[mother] + step * np.array([np.sin(turn[i]), np.cos(turn[i])])
        return places[:, 0], places[:, 1]

    def cells(self, rng: np.random.Generator, frame: int) -> Cells:
        """Return what is there at one image, dead cells and their debris included."""
        n, line, mechanism, effect = self.count[frame], self.line, self.mechanism, self.effect[frame]
        dead = self.fate[:n] < self.dead[frame]
        loose = line.loose + (1.0 - line.loose) * mechanism.rounding * min(effect, 1.0)
        up = dead | (self.grip[:n] < loose)
        radius = line.radius * self.scale[:n] * np.exp(0.5 * mechanism.area * effect)
        radius = np.where(up, 0.72 * line.radius * self.scale[:n], radius) * np.where(dead, 0.8, 1.0)
        aspect = 1.0 + (line.aspect - 1.0) * np.exp(mechanism.aspect * effect)
        body = Cells(
            y=self.y[:n] + 0.8 * rng.standard_normal(n),
            x=self.x[:n] + 0.8 * rng.standard_normal(n),
            radius=radius,
            aspect=np.where(up, 1.05, aspect),
            angle=self.angle[:n],
            height=np.where(up, 0.95, line.height),
            flatness=np.where(up, 0.5, 0.32),
            lobes=self.lobes[:n] * np.where(dead, 1.0, np.where(up, 0.25, 1.0))[:, None],
            grain=np.where(dead, 0.15, line.grain * np.exp(mechanism.grain * effect)),
        )
        return body.joined(debris(rng, body.y[dead], body.x[dead], body.radius[dead], _PIECES))
