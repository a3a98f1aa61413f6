"""How stains look in drawn cells: textures, and one function a stain over patches around each cell.

A *role* says what a stain marks. Everything works on stacks of square patches, one a cell, so that the cost is a
few dozen array operations a field, however many cells it has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

# Texture tiles wrap round; a texel is this many micrometres, whatever the pixel size of the picture.
_TILE_BITS = 8
_TILE = 1 << _TILE_BITS
_TEXEL = 0.5
_TEXTURES = ("fine", "medium", "coarse", "network", "spots", "fibres")

# What can change about a cell, beside the brightness of each channel.
PHENOTYPES = (
    "cells",
    "nucleus_area",
    "nucleus_elongation",
    "cell_area",
    "cell_elongation",
    "roundness",
    "texture_scale",
    "granularity",
    "fibres",
    "spread",
    "nucleoli",
)


@lru_cache(maxsize=1)
def textures() -> dict[str, np.ndarray]:
    """Return wrapping texture tiles, flattened, float32, the same in every call.

    Returns
    -------
    dict
        ``fine``, ``medium`` and ``coarse`` noise of mean 0 and standard deviation 1; ``network`` (curved bright
        lines), ``spots`` and ``fibres`` (lines along the first axis), 0 to 1.
    """
    rng = np.random.default_rng(20)
    frequency = np.fft.fftfreq(_TILE)
    fy, fx = np.meshgrid(frequency, frequency, indexing="ij")

    def smooth(length_y: float, length_x: float) -> np.ndarray:
        spectrum = np.fft.fft2(rng.standard_normal((_TILE, _TILE)))
        kernel = np.exp(-2 * np.pi**2 * ((length_y * fy) ** 2 + (length_x * fx) ** 2))
        noise = np.fft.ifft2(spectrum * kernel).real
        return (noise - noise.mean()) / noise.std()

    found = {
        "fine": smooth(1.2, 1.2),
        "medium": smooth(3.0, 3.0),
        "coarse": smooth(8.0, 8.0),
        "network": np.exp(-((smooth(3.5, 3.5) / 0.35) ** 2)),
        "spots": np.clip(smooth(2.0, 2.0) - 1.2, 0, 1.5) / 1.5,
        "fibres": np.exp(-((smooth(24.0, 2.2) / 0.4) ** 2)),
    }
    return {name: found[name].astype(np.float32).ravel() for name in _TEXTURES}


@dataclass
class Cells:
    """What is drawn, one entry a cell; lengths in micrometres, angles in radians.

    Attributes
    ----------
    y, x
        (n,) centres in pixels.
    angle
        (n,) direction of the long axis.
    nucleus, body
        (n, 2) semi-axes of the nucleus and of the cell, along and across ``angle``.
    roughness
        (n,) how far the outline strays from an ellipse.
    content
        (n,) DNA content, 1 (G1) to 2 (G2 and mitosis).
    mitotic
        (n,) 0 interphase, 1 metaphase, 2 anaphase.
    texture_scale, granularity, fibres, spread, nucleoli
        (n,) factors about 1.
    intensity
        (n, C) brightness of each channel.
    seed
        (n, 3) where in the texture tiles a cell lies, whole numbers from 0 to 255, and the side of its Golgi.
    """

    y: np.ndarray
    x: np.ndarray
    angle: np.ndarray
    nucleus: np.ndarray
    body: np.ndarray
    roughness: np.ndarray
    content: np.ndarray
    mitotic: np.ndarray
    texture_scale: np.ndarray
    granularity: np.ndarray
    fibres: np.ndarray
    spread: np.ndarray
    nucleoli: np.ndarray
    intensity: np.ndarray
    seed: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: np.ndarray) -> Cells:
        """Return some of the cells."""
        return Cells(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


@dataclass
class Patches:
    """Coordinates and distances on one square patch a cell, all (n, S, S) float32.

    Attributes
    ----------
    cells
        The n cells.
    top, left
        (n,) first row and column of each patch, in pixels of the field.
    u, v
        Position along and across the cell's axis, micrometres.
    nuclear
        0 at the centre of the nucleus, 1 on its edge.
    level
        1 at the cell's centre, 0 on its outline, negative outside.
    """

    cells: Cells
    top: np.ndarray
    left: np.ndarray
    u: np.ndarray
    v: np.ndarray
    nuclear: np.ndarray
    level: np.ndarray

    @classmethod
    def around(cls, cells: Cells, half: int, pixel_um: float) -> Patches:
        """Return the patches of ``2 * half + 1`` pixels around the cells."""

        def column(values: np.ndarray) -> np.ndarray:
            return values.astype(np.float32)[:, None, None]

        offset = np.arange(-half, half + 1, dtype=np.float32)
        dy = (offset - (cells.y % 1)[:, None].astype(np.float32))[:, :, None] * np.float32(pixel_um)
        dx = (offset - (cells.x % 1)[:, None].astype(np.float32))[:, None, :] * np.float32(pixel_um)
        cos, sin = column(np.cos(cells.angle)), column(np.sin(cells.angle))
        u, v = cos * dx + sin * dy, cos * dy - sin * dx
        uu, vv = u * u, v * v
        nuclear, radius = (
            np.sqrt(uu * column(axes[:, 0] ** -2.0) + vv * column(axes[:, 1] ** -2.0))
            for axes in (cells.nucleus, cells.body)
        )
        where = _texels(u, v, column(cells.seed[:, 0]), column(cells.seed[:, 1]))
        bend = textures()["coarse"].take(where)
        bend *= column(cells.roughness) * np.minimum(radius, 1)
        level = 1 - radius * (1 + bend)
        top, left = np.floor(cells.y).astype(int) - half, np.floor(cells.x).astype(int) - half
        return cls(cells, top, left, u, v, nuclear, level)

    def claim(self) -> np.ndarray:
        """Return by what a pixel is given to one of several cells: a nucleus outranks any cytoplasm."""
        return np.where(self.nuclear < 1, np.maximum(self.level, 1.3 - 0.5 * self.nuclear), self.level)


def _texels(u: np.ndarray, v: np.ndarray, offset_u: np.ndarray, offset_v: np.ndarray) -> np.ndarray:
    # Truncation to whole texels folds at 0, hence the large offset first.
    along = (u * np.float32(1 / _TEXEL) + (offset_u + np.float32(64 * _TILE))).astype(np.int32)
    across = (v * np.float32(1 / _TEXEL) + (offset_v + np.float32(64 * _TILE))).astype(np.int32)
    return ((along & (_TILE - 1)) << _TILE_BITS) | (across & (_TILE - 1))


class Pixels:
    """The K pixels in which cells are seen, flat: all arrays are (K,) float32.

    Attributes
    ----------
    u, v, nuclear, level
        As in :class:`Patches`.
    margin
        How far a pixel is inside its own cell: from the outline, or from where a neighbour takes over.
    nucleus, cytoplasm, height, near, nucleoli, mitotic
        Soft masks of nucleus and cytoplasm, thickness of the cell, decay away from the nucleus, nucleoli, and 1
        in dividing cells.
    """

    def __init__(self, patches: Patches, chosen: np.ndarray, margin: np.ndarray) -> None:
        """Take pixels ``chosen`` (flat indices into the patches); ``margin`` is of those pixels."""
        self.cells = patches.cells
        self.owner = chosen // patches.level[0].size
        self.u, self.v = patches.u.ravel()[chosen], patches.v.ravel()[chosen]
        self.nuclear, self.level = patches.nuclear.ravel()[chosen], patches.level.ravel()[chosen]
        self.margin = margin
        row, column = self.of(self.cells.seed[:, 0]), self.of(self.cells.seed[:, 1])
        self._plain = _texels(self.u, self.v, row, column)
        scale = self.of(1 / self.cells.texture_scale)
        self._scaled = _texels(self.u * scale, self.v * scale, row, column)
        self._kept: dict[str, np.ndarray] = {}
        self.mitotic = self.of(self.cells.mitotic > 0)
        self.nucleus = np.clip((1 - self.nuclear) * 6, 0, 1) * (1 - self.mitotic)
        self.filled = np.clip(self.level * 8, 0, 1)
        self.height = np.sqrt(np.clip(self.level, 0, 1)) * (1 + 0.35 * self.mitotic)
        self.near = np.exp(-np.clip(self.nuclear - 1, 0, None) / self.of(1.1 * self.cells.spread))
        threshold = self.of(0.9 - 0.9 * (self.cells.nucleoli - 1))
        self.nucleoli = np.clip((self.texture("medium", plain=True) - threshold) * 2, 0, 1) * self.nucleus
        self.nucleoli *= np.clip((0.85 - self.nuclear) * 5, 0, 1)
        self.cytoplasm = self.filled * (1 - self.nucleus)

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return a value of each cell, (n,), at its pixels."""
        return values.astype(np.float32)[self.owner]

    def texture(self, name: str, *, plain: bool = False) -> np.ndarray:
        """Sample a texture tile; with the cell's own texture scale unless ``plain``."""
        key = f"{name} {plain}"
        if key not in self._kept:
            self._kept[key] = textures()[name].take(self._plain if plain else self._scaled)
        return self._kept[key]

    def edge(self, width: float) -> np.ndarray:
        """Return a bright line along the border of the cell, ``width`` of its radius."""
        inside = np.clip(self.margin, 0, None) * np.float32(1 / width)
        return np.exp(-(inside * inside)) * np.clip(self.margin * 40 + 1, 0, 1)


def _dna(p: Pixels) -> np.ndarray:
    cells = p.cells
    chromatin = 0.75 + 0.13 * p.of(cells.granularity) * p.texture("fine") + 0.1 * p.texture("medium")
    # Integrated brightness follows the content; the nucleus grows less than the content, so its mean rises.
    light = p.nucleus * np.clip(chromatin, 0.2, None) * (1 - 0.45 * p.nucleoli) * p.of(cells.content**0.35)
    if not p.mitotic.any():
        return light
    gap = np.where(cells.mitotic == 2, 0.55, 0.0) * cells.nucleus[:, 1]
    plate = np.hypot(
        p.u / p.of(0.85 * cells.nucleus[:, 0]), (np.abs(p.v) - p.of(gap)) / p.of(0.33 * cells.nucleus[:, 1])
    )
    return light + p.mitotic * np.clip((1.1 - plate) * 4, 0, 1) * (1.7 + 0.1 * p.texture("fine"))


def _er(p: Pixels) -> np.ndarray:
    texture = 1 + 0.22 * p.of(p.cells.granularity) * p.texture("fine") + 0.1 * p.texture("medium")
    return p.height * (p.cytoplasm * (0.2 + 0.75 * p.near) + 0.3 * p.nucleus) * np.clip(texture, 0.1, 3)


def _rna(p: Pixels) -> np.ndarray:
    texture = np.clip(1 + 0.15 * p.texture("fine"), 0.1, 3)
    return p.height * p.cytoplasm * (0.25 + 0.35 * p.near) * texture + 0.42 * p.nucleus + 0.75 * p.nucleoli


def _actin(p: Pixels) -> np.ndarray:
    fibres = p.texture("fibres") * p.of(p.cells.fibres) * (1 - p.mitotic)
    return p.filled * (0.14 + 0.16 * p.height + 0.34 * fibres * (1 - 0.4 * p.nucleus) + 0.5 * p.edge(0.09))


def _golgi(p: Pixels) -> np.ndarray:
    cells = p.cells
    side = cells.seed[:, 2] * (2 * np.pi / _TILE)
    reach = 1.15 * np.sqrt(cells.nucleus.prod(axis=1))
    dv, du = p.v - p.of(reach * np.sin(side)), p.u - p.of(reach * np.cos(side))
    cap = np.exp(-(du * du + dv * dv) / p.of((0.6 * reach * cells.spread) ** 2))
    vesicles = p.texture("spots") * p.of(cells.granularity) * p.near
    membrane = p.filled * (0.1 + 0.1 * p.height + 0.26 * p.edge(0.06))
    stacks = cap * (0.6 + 0.7 * p.texture("network")) * (p.cytoplasm + 0.3 * p.nucleus) * (1 - p.mitotic)
    return membrane + 0.6 * vesicles * p.cytoplasm + 0.95 * stacks


def _agp(p: Pixels) -> np.ndarray:
    return 0.65 * _actin(p) + 0.5 * _golgi(p)


def _mito(p: Pixels) -> np.ndarray:
    network = 0.2 + 1.1 * p.texture("network") * (0.75 + 0.25 * p.of(p.cells.granularity))
    return p.cytoplasm * np.sqrt(p.height) * network * (0.12 + 0.88 * p.near) * (1 - 0.4 * p.mitotic)


def _tubulin(p: Pixels) -> np.ndarray:
    cells = p.cells
    fibres = 0.3 + 0.45 * p.texture("fibres") * p.of(cells.fibres) + 0.3 * p.texture("network")
    light = p.height * (p.cytoplasm + 0.45 * p.nucleus) * (0.35 + 0.65 * p.near) * fibres * (1 - 0.5 * p.mitotic)
    across, along = p.v / p.of(0.9 * cells.nucleus[:, 1]), p.u / p.of(0.8 * cells.nucleus[:, 0])
    return light + 0.7 * p.mitotic * np.exp(-(across * across + along * along))


def _damage(p: Pixels) -> np.ndarray:
    foci = p.texture("spots", plain=True) * p.of(p.cells.granularity**2)
    return 0.04 * p.height + p.nucleus * (0.12 + 0.7 * foci) + 0.5 * p.mitotic * np.clip(1 - p.nuclear, 0, 1)


# What a stain marks, by the name of its channel: concanavalin A is ER, SYTO 14 is RNA, phalloidin is Actin, wheat
# germ agglutinin is Golgi (and the plasma membrane), AGP is the latter two in one channel, Damage is an antibody
# against phosphorylated H2AX.
STAINS: dict[str, Callable[[Pixels], np.ndarray]] = {
    "DNA": _dna,
    "ER": _er,
    "RNA": _rna,
    "Actin": _actin,
    "AGP": _agp,
    "Golgi": _golgi,
    "Mito": _mito,
    "Tubulin": _tubulin,
    "Damage": _damage,
}
