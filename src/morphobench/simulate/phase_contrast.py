"""Drawn cells under phase contrast: thickness in, grey levels with halos out.

A phase-contrast microscope shows thickness minus a blurred copy of itself: flat cells are grey inside, with a dark
rim and a faint halo; round (dividing or dying) cells are tall, so their halo is bright.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.ndimage import gaussian_filter

BACKGROUND = 128.0
# Harmonics of the outline, 2 to 5 lobes.
_LOBES = np.arange(2, 6)
# A crisp rim and a soft halo about it: width in pixels, weight.
_HALOS = ((1.2, 1.0), (3.2, 0.45))
_GREY_PER_THICKNESS = 190.0


@dataclass(frozen=True)
class Cells:
    """The cells of one frame, one entry each.

    Attributes
    ----------
    y, x
        (n,) centre in pixels; may lie outside of the frame.
    radius
        (n,) radius in pixels of the circle of the same area.
    aspect
        (n,) length over width, 1 or more.
    angle
        (n,) direction of the long axis, radians.
    height
        (n,) thickness at the centre; 0.3 is a spread cell, 1 a round one.
    flatness
        (n,) exponent of the dome, above 0: small for a flat top with steep edges, 0.5 for half a ball.
    lobes
        (n, 4) complex; size and place of 2 to 5 lobes of the outline, relative to the radius.
    grain
        (n,) strength of the granules in the cell body.
    """

    y: np.ndarray
    x: np.ndarray
    radius: np.ndarray
    aspect: np.ndarray
    angle: np.ndarray
    height: np.ndarray
    flatness: np.ndarray
    lobes: np.ndarray
    grain: np.ndarray

    def __len__(self) -> int:
        return len(self.y)

    def joined(self, other: Cells) -> Cells:
        """Return these cells and the others."""
        return Cells(*(np.concatenate([getattr(self, f.name), getattr(other, f.name)]) for f in fields(Cells)))


@dataclass(frozen=True)
class Optics:
    """What plate, camera and lens do to a frame.

    Attributes
    ----------
    contrast
        Factor of the grey levels that cells make, 1 as standard.
    level
        Grey level added everywhere.
    gradient
        (2,) change of grey level from the middle to the edge of the frame, down and to the right.
    blur
        Standard deviation, in pixels, of the defocus.
    noise
        Standard deviation of the camera's noise, in grey levels.
    """

    contrast: float = 1.0
    level: float = 0.0
    gradient: tuple[float, float] = (0.0, 0.0)
    blur: float = 0.0
    noise: float = 1.5


def draw_frame(rng: np.random.Generator, cells: Cells, optics: Optics, size: int) -> np.ndarray:
    """Draw one frame.

    Parameters
    ----------
    rng
        Source of the granules and of the noise.
    cells, optics
        What is seen, and how.
    size
        Height and width in pixels.

    Returns
    -------
    ndarray
        (size, size) uint8; background about 128.
    """
    thickness, grain = _thickness(cells, size)
    speckle = rng.standard_normal((size, size), dtype=np.float32)
    thickness += 0.5 * grain * (speckle + np.roll(speckle, 1, 0) + np.roll(speckle, 1, 1))
    relief = np.zeros_like(thickness)
    for width, weight in _HALOS:
        relief += weight * (gaussian_filter(thickness, width, mode="nearest", truncate=3.0) - thickness)
    if optics.blur > 0:
        relief = gaussian_filter(relief, optics.blur, mode="nearest", truncate=3.0)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    grey = BACKGROUND + optics.level + _GREY_PER_THICKNESS * optics.contrast * relief
    grey += optics.gradient[0] * ramp[:, None] + optics.gradient[1] * ramp[None, :]
    grey += optics.noise * rng.standard_normal((size, size), dtype=np.float32)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def _thickness(cells: Cells, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the height of the tallest cell at every pixel, and the strength of its granules."""
    thickness = np.zeros((size, size), np.float32)
    grain = np.zeros((size, size), np.float32)
    long = np.sqrt(cells.aspect)
    sine, cosine = np.sin(cells.angle), np.cos(cells.angle)
    outline = cells.radius * (1.0 + np.abs(cells.lobes).sum(axis=1))
    tall = np.ceil(outline * np.hypot(long * sine, cosine / long)).astype(int).tolist()
    wide = np.ceil(outline * np.hypot(long * cosine, sine / long)).astype(int).tolist()
    lobes = cells.lobes.astype(np.complex64)
    # Plain numbers below: numpy's own would turn the arithmetic of every pixel into double precision.
    rows = zip(*(c.tolist() for c in (cells.y, cells.x, sine, cosine, long)), strict=True)
    for i, (y, x, sin, cos, stretch) in enumerate(rows):
        top, bottom = max(round(y) - tall[i], 0), min(round(y) + tall[i] + 1, size)
        left, right = max(round(x) - wide[i], 0), min(round(x) + wide[i] + 1, size)
        if top >= bottom or left >= right:
            continue
        dy = np.arange(top, bottom, dtype=np.float32)[:, None] - y
        dx = np.arange(left, right, dtype=np.float32)[None, :] - x
        point = (dx * (cos / stretch) + dy * (sin / stretch)) + 1j * (dy * (cos * stretch) - dx * (sin * stretch))
        length = np.abs(point)
        unit = point / np.maximum(length, 1e-3)
        # 1 + the sum of lobe k times unit ** (k + 2), by Horner's rule.
        power = lobes[i, 3] * unit
        for k in (2, 1, 0):
            power = (power + lobes[i, k]) * unit
        edge = 1.0 + (power * unit).real
        inside = np.maximum(1.0 - (length / (np.maximum(edge, 0.2) * float(cells.radius[i]))) ** 2, 0.0)
        dome = float(cells.height[i]) * inside ** float(cells.flatness[i])
        window = (slice(top, bottom), slice(left, right))
        taller = dome > thickness[window]
        np.copyto(thickness[window], dome, where=taller)
        np.copyto(grain[window], float(cells.grain[i]), where=taller)
    return thickness, grain


def random_lobes(rng: np.random.Generator, n: int, strength: np.ndarray | float) -> np.ndarray:
    """Return (n, 4) complex lobes of random place, about ``strength`` high relative to the radius."""
    size = np.asarray(strength).reshape(-1, 1) * rng.uniform(0.3, 1.0, (n, len(_LOBES))) / (_LOBES - 1)
    return size * np.exp(2j * np.pi * rng.random((n, len(_LOBES))))


def debris(rng: np.random.Generator, y: np.ndarray, x: np.ndarray, radius: np.ndarray, pieces: int) -> Cells:
    """Return the fragments of dead cells: small, tall and scattered about where each cell was."""
    n = len(y) * pieces
    spread = np.repeat(radius, pieces) * 1.1
    return Cells(
        y=np.repeat(y, pieces) + spread * rng.standard_normal(n),
        x=np.repeat(x, pieces) + spread * rng.standard_normal(n),
        radius=rng.uniform(1.0, 2.4, n),
        aspect=rng.uniform(1.0, 1.8, n),
        angle=rng.uniform(0, np.pi, n),
        height=rng.uniform(0.3, 0.9, n),
        flatness=np.full(n, 0.5),
        lobes=random_lobes(rng, n, 0.2),
        grain=np.zeros(n),
    )
