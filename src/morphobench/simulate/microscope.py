"""What a microscope makes of drawn cells: the light of their stains, and the exposed picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from morphobench.simulate.fluorescence import PHENOTYPES, STAINS, Cells, Patches, Pixels

# Blur of the optics (pixels), share of the range that stain of brightness 1 takes, brightness of an empty field.
_OPTICS = 0.6
_EXPOSURE = 0.5
_BACKGROUND = 0.04
# Keeps the laboratory's random numbers apart from those of treatments and cells.
_LABORATORY = 9001
# Patches drawn at a time, so that memory does not grow with the field.
_CHUNK = 64


@dataclass(frozen=True)
class Nuisance:
    """What the laboratory adds, for C channels; nuisances of batch, plate and well add up with ``+``.

    Attributes
    ----------
    gain
        (C,) factor on the stain.
    background
        (C,) brightness where there is nothing.
    gradient
        (2,) relative change of the illumination from edge to edge, down and across.
    blur
        Standard deviation of the lack of focus, in pixels.
    noise
        Strength of the camera's noise; 1 is usual.
    state
        (P,) shift of all cells' phenotype: density, donor, culture.
    vignette
        (C,) relative change of the illumination from the middle to the corners, 0 on average over a round field.
    crosstalk
        (C,) share of the next channel's light that a channel sees too.
    response
        (C,) exponent of the camera's response, 1 if it is linear.
    """

    gain: np.ndarray
    background: np.ndarray
    gradient: np.ndarray
    blur: float
    noise: float
    state: np.ndarray
    vignette: np.ndarray | float = 0.0
    crosstalk: np.ndarray | float = 0.0
    response: np.ndarray | float = 1.0

    @classmethod
    def none(cls, channels: int, noise: float = 1.0) -> Nuisance:
        """Return the nuisance that adds nothing but the camera's noise."""
        zero = np.zeros(channels)
        return cls(np.ones(channels), zero, np.zeros(2), 0.0, noise, np.zeros(len(PHENOTYPES) + channels))

    @classmethod
    def draw(cls, rng: np.random.Generator, channels: int, strength: float) -> Nuisance:
        """Draw the nuisance of one batch, plate or well; ``strength`` 0 adds nothing."""
        return cls(
            gain=np.exp(strength * 0.3 * rng.standard_normal(channels)),
            background=strength * 0.03 * rng.standard_normal(channels),
            gradient=strength * 0.2 * rng.standard_normal(2),
            blur=strength * 0.6 * abs(rng.standard_normal()),
            noise=0.0,
            state=strength * 0.35 * rng.standard_normal(len(PHENOTYPES) + channels),
        )

    @classmethod
    def of_instrument(cls, rng: np.random.Generator, channels: int, strength: float) -> Nuisance:
        """Draw how the microscope was set up: what normalising by mean and deviation does not take away."""
        return replace(
            cls.none(channels, noise=0.0),
            vignette=strength * 0.35 * rng.standard_normal(channels),
            crosstalk=strength * 0.2 * abs(rng.standard_normal(channels)),
            response=np.exp(strength * 0.2 * rng.standard_normal(channels)),
            noise=strength * abs(rng.standard_normal()),
        )

    def __add__(self, other: Nuisance) -> Nuisance:
        return Nuisance(
            self.gain * other.gain,
            self.background + other.background,
            self.gradient + other.gradient,
            float(np.hypot(self.blur, other.blur)),
            self.noise + other.noise,
            self.state + other.state,
            self.vignette + other.vignette,
            self.crosstalk + other.crosstalk,
            self.response * other.response,
        )


@dataclass(frozen=True)
class Laboratory:
    """The nuisance of every well of a screen, in which batches, plates and positions on the plate differ.

    Attributes
    ----------
    seed
        Of the screen.
    channels
        Number of channels.
    batch_strength, plate_strength, well_strength
        How far batches, plates of a batch, and positions (the same ones on all plates) differ; 0 for not at all.
    noise
        Strength of the camera's noise; 1 is usual.
    instrument_strength
        How far the microscope's set-up differs between batches; 0 for not at all.
    """

    seed: int
    channels: int
    batch_strength: float
    plate_strength: float
    well_strength: float
    noise: float
    instrument_strength: float = 0.0

    def nuisance(self, batch: int, plate: int, well: int) -> Nuisance:
        """Return what is added to the well at position ``well`` of a plate, the ``plate``-th of its batch."""
        levels = (
            ((1, batch), self.batch_strength),
            ((2, batch, plate), self.plate_strength),
            ((3, well), self.well_strength),
        )
        total = Nuisance.none(self.channels, self.noise)
        for key, strength in levels:
            rng = np.random.default_rng([self.seed, _LABORATORY, *key])
            total = total + Nuisance.draw(rng, self.channels, strength)
        rng = np.random.default_rng([self.seed, _LABORATORY, 4, batch])
        return total + Nuisance.of_instrument(rng, self.channels, self.instrument_strength)


def render(cells: Cells, shape: tuple[int, int], channels: Sequence[str], pixel_um: float) -> np.ndarray:
    """Return the light of all cells.

    Parameters
    ----------
    cells
        What is drawn.
    shape
        Height and width in pixels.
    channels
        Roles of the stains.
    pixel_um
        Size of a pixel in micrometres.

    Returns
    -------
    numpy.ndarray
        (C, H, W) float32, 1 where a stain of usual brightness is dense.
    """
    half = max(3, int(np.ceil(1.2 * np.quantile(cells.body.max(axis=1), 0.8) / pixel_um))) if len(cells) else 3
    near = (cells.y >= -half) & (cells.y < shape[0] + half) & (cells.x >= -half) & (cells.x < shape[1] + half)
    cells = cells.take(np.flatnonzero(near))
    pad, side = 2 * half + 1, 2 * half + 1
    extent = (shape[0] + 2 * pad, shape[1] + 2 * pad)
    best, second = np.full(extent, -1, np.float32), np.full(extent, -1, np.float32)
    stacks = []
    for start in range(0, len(cells), _CHUNK):
        patches = Patches.around(cells.take(np.arange(start, min(start + _CHUNK, len(cells)))), half, pixel_um)
        claim = patches.claim()
        crops = [
            (slice(y, y + side), slice(x, x + side))
            for y, x in zip(patches.top + pad, patches.left + pad, strict=True)
        ]
        for crop, own in zip(crops, claim, strict=True):
            np.maximum(second[crop], np.minimum(best[crop], own), out=second[crop])
            np.maximum(best[crop], own, out=best[crop])
        stacks.append((patches, crops, claim))
    light = np.zeros((len(channels), shape[0] * shape[1]), np.float32)
    for patches, crops, claim in stacks:
        leader = np.stack([best[crop] for crop in crops])
        rival = np.stack([second[crop] for crop in crops])
        rows, columns = (first[:, None] + np.arange(side) for first in (patches.top, patches.left))
        in_field = ((rows >= 0) & (rows < shape[0]))[:, :, None] & ((columns >= 0) & (columns < shape[1]))[
            :, None, :
        ]
        # A neighbour's edge is crisp but not a staircase: over a short way both are seen.
        seen = np.clip(1 + (claim - leader) * 25, 0, 1)
        chosen = np.flatnonzero((seen > 0) & (claim > 0) & in_field)
        mine, rival, leader = claim.ravel()[chosen], rival.ravel()[chosen], leader.ravel()[chosen]
        rivalry = np.where(mine >= leader, mine - rival, mine - leader)
        pixels = Pixels(patches, chosen, np.minimum(patches.level.ravel()[chosen], rivalry))
        place = (rows[:, :, None] * shape[1] + columns[:, None, :]).ravel()[chosen]
        seen = seen.ravel()[chosen]
        for channel, role in enumerate(channels):
            stain = STAINS[role](pixels) * seen * pixels.of(patches.cells.intensity[:, channel])
            light[channel] += np.bincount(place, stain, light.shape[1])
    return light.reshape(-1, *shape)


def expose(rng: np.random.Generator, light: np.ndarray, nuisance: Nuisance) -> np.ndarray:
    """Return what a camera makes of the light, (C, H, W) float32 of 0 to 1.

    Optics and focus blur it, channels see each other's light, stains differ in gain, the lamp is uneven, and the
    camera responds and adds noise.
    """
    blur = float(np.hypot(_OPTICS, nuisance.blur))
    for axis in (1, 2):
        light = gaussian_filter1d(light, blur, axis=axis, mode="nearest", truncate=3.0)
    if np.any(nuisance.crosstalk):
        light = light + _by_channel(nuisance.crosstalk) * np.roll(light, -1, axis=0)
    down, across = (np.linspace(-0.5, 0.5, size, dtype=np.float32) for size in light.shape[1:])
    gradient = np.asarray(nuisance.gradient, np.float32)
    illumination = 1 + gradient[0] * down[:, None] + gradient[1] * across[None, :]
    if np.any(nuisance.vignette):
        # The square of the distance from the middle, 1 at the middle of the edges, less its mean over the circle.
        radial = 4 * (down[:, None] ** 2 + across[None, :] ** 2) - 0.5
        illumination = illumination + _by_channel(nuisance.vignette) * radial
    illumination = np.clip(illumination, 0.2, None)
    gain = (_EXPOSURE * np.asarray(nuisance.gain)).astype(np.float32)[:, None, None]
    background = np.clip(_BACKGROUND + np.asarray(nuisance.background), 0, None).astype(np.float32)[:, None, None]
    image = (light * gain + background) * illumination
    if np.any(np.not_equal(nuisance.response, 1)):
        image = np.clip(image, 0, None) ** _by_channel(nuisance.response)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(0.008 * nuisance.noise) * np.sqrt(image + np.float32(0.1))
    image += noise
    return np.clip(image, 0, 1, out=image)


def _by_channel(values: np.ndarray | float) -> np.ndarray:
    """Return one value a channel in the shape of pictures, (C, 1, 1) float32."""
    return np.asarray(values, np.float32).reshape(-1, 1, 1)
