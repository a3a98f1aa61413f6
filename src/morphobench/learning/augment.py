"""Augmentation of multi-channel images, whole batches at a time, on the device they are trained on.

Every sample has parameters of its own, drawn from its key (see :mod:`morphobench.learning.randomness`): a sample
looks the same whatever batch it is in. A crop, its flips and its quarter turns are one bilinear gather; intensity
shift and normalisation are one multiplication and one addition.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from morphobench.errors import DataError
from morphobench.learning.normalise import Normalisation
from morphobench.learning.randomness import normals, uniforms

# How often a crop is drawn before the whole image is taken instead, as in torchvision and albumentations.
TRIES = 10
# Numbers that one view may use of a sample's key: tries, place, flips, turn, shift, and two normals per channel.
_CROP, _FLIPS, _SHIFT, _PER_VIEW = 0, 2 * TRIES + 2, 2 * TRIES + 6, 1 << 16


@dataclass(frozen=True)
class View:
    """How one view of an image is made.

    Parameters
    ----------
    size
        Side of the square view, in pixels.
    scale
        Range of the crop's area as a share of the image's, uniform. Crops that would not fit are drawn again, up
        to ten times; then the largest centred crop of an allowed ratio is taken. So (0.9, 1.1) often gives the
        whole image.
    ratio
        Range of the crop's width over its height, log-uniform.
    horizontal_flip, vertical_flip
        Probabilities.
    quarter_turn
        Probability of a turn by 0, 90, 180 or 270 degrees, each as likely (albumentations' RandomRotate90).
    shift
        Probability of an intensity shift.
    gain, offset
        Standard deviations of the shift: x becomes x * N(1, gain) + N(0, offset), with numbers of its own for each
        channel, on the 0-1 scale, before normalisation.
    """

    size: int
    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.5
    quarter_turn: float = 0.5
    shift: float = 0.5
    gain: float = 0.1
    offset: float = 0.1

    @classmethod
    def plain(cls, size: int) -> View:
        """Return a view that only resizes."""
        return cls(size, (1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def check(self, height: int, width: int, what: str = "a crop") -> None:
        """Raise DataError if the view makes no sense for images of this size."""
        if not 1 <= self.size <= min(height, width):
            raise DataError(
                f"{what} of {self.size} x {self.size} pixels is larger than the images, which have {height} x "
                f"{width}"
            )
        low, high = self.scale
        if not 0 < low <= high or low > 1:
            raise DataError(
                f"{what} covers {low:g} to {high:g} of the image's area; expected a range that begins above 0 "
                f"and not "
                f"beyond 1, the whole image"
            )
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise DataError(f"{what} has width over height {self.ratio[0]:g} to {self.ratio[1]:g}")


def crop_boxes(
    keys: torch.Tensor, first: int, height: int, width: int, view: View
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the crops' ``top, left, height, width``, (B,) whole numbers as float64, see :class:`View`."""
    area, aspect = uniforms(keys, first, 2 * TRIES).chunk(2, dim=1)
    (low, high), (narrow, wide) = view.scale, view.ratio
    area = (low + area * (high - low)) * (height * width)
    aspect = torch.exp(math.log(narrow) + aspect * (math.log(wide) - math.log(narrow)))
    widths, heights = torch.round(torch.sqrt(area * aspect)), torch.round(torch.sqrt(area / aspect))
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    chosen = fits.to(torch.int8).argmax(dim=1, keepdim=True)
    own = width / height
    whole = (height, width)
    if own < narrow:
        whole = (round(width / narrow), width)
    elif own > wide:
        whole = (height, round(height * wide))
    found = fits.any(dim=1)
    h = torch.where(found, heights.gather(1, chosen)[:, 0], float(whole[0]))
    w = torch.where(found, widths.gather(1, chosen)[:, 0], float(whole[1]))
    place = uniforms(keys, first + 2 * TRIES, 2)
    top, left = torch.floor(place[:, 0] * (height - h + 1)), torch.floor(place[:, 1] * (width - w + 1))
    top = torch.where(found, top, float((height - whole[0]) // 2))
    left = torch.where(found, left, float((width - whole[1]) // 2))
    return top, left, h, w


def _coordinates(start: torch.Tensor, length: torch.Tensor, size: int, extent: int) -> torch.Tensor:
    """Return (B, size) places along one axis where a resized crop is read, as ``grid_sample`` counts them."""
    steps = (torch.arange(size, device=start.device, dtype=torch.float64) + 0.5) / size
    inside = (steps * length[:, None] - 0.5).clamp(min=0)
    inside = torch.minimum(inside, length[:, None] - 1)
    return (2 * (start[:, None] + inside) + 1) / extent - 1


def _reversed(rows: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    return torch.where(which[:, None], rows.flip(1), rows)


def sampling_grid(keys: torch.Tensor, first: int, height: int, width: int, view: View) -> torch.Tensor:
    """Return where each pixel of a view is read: (B, size, size, 2), x before y, for ``grid_sample``.

    Flips and turns rearrange the same numbers, so they are exact.
    """
    top, left, h, w = crop_boxes(keys, first + _CROP, height, width, view)
    y, x = _coordinates(top, h, view.size, height), _coordinates(left, w, view.size, width)
    vertical, horizontal, turned, angle = uniforms(keys, first + _FLIPS, 4).unbind(1)
    quarters = torch.where(turned < view.quarter_turn, torch.floor(angle * 4), 0.0)
    half, odd = quarters >= 2, (quarters == 1) | (quarters == 3)
    y = _reversed(y, (vertical < view.vertical_flip) ^ half).float()
    x = _reversed(x, (horizontal < view.horizontal_flip) ^ half).float()
    # A quarter turn to the left: the pixel in row i, column j was in row j, column size - 1 - i.
    odd = odd[:, None, None]
    grid_x = torch.where(odd, x.flip(1)[:, :, None], x[:, None, :])
    grid_y = torch.where(odd, y[:, None, :], y[:, :, None])
    return torch.stack([grid_x, grid_y], dim=-1)


def shift_parameters(
    keys: torch.Tensor, first: int, channels: int, view: View
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return gain and offset of the intensity shift, (B, C) each; 1 and 0 for samples that are not shifted."""
    shifted = uniforms(keys, first + _SHIFT, 1) < view.shift
    gain, offset = normals(keys, first + _SHIFT + 1, 2 * channels).chunk(2, dim=1)
    return torch.where(shifted, 1 + view.gain * gain, 1.0), torch.where(shifted, view.offset * offset, 0.0)


class MultiCrop:
    """The views of a batch.

    Parameters
    ----------
    global_view, local_view
        How large and small crops are made.
    globals_, locals_
        How many of each; CDCL and DINO 2 and 6, BYOL 2 and 0, supervised 1 and 0.
    normalisation
        Of the store that the images are from.

    Notes
    -----
    Without partners all views are of the images. With partners the first global crop and the first half of the
    local ones are of the images, the others of their partners (CDCL, appendix C and authors' code).
    """

    def __init__(
        self,
        global_view: View,
        local_view: View | None,
        normalisation: Normalisation,
        *,
        globals_: int = 2,
        locals_: int = 6,
    ) -> None:
        if locals_ and local_view is None:
            raise DataError(f"{locals_} local crops were asked for, but not how they are made")
        self.views = [global_view] * globals_ + [local_view] * locals_
        self.from_partner = [i >= (globals_ + 1) // 2 for i in range(globals_)]
        self.from_partner += [i >= (locals_ + 1) // 2 for i in range(locals_)]
        self.normalisation = normalisation
        self._statistics: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def check(self, shape: Sequence[int]) -> None:
        """Raise DataError if a view does not fit images of shape (C, H, W)."""
        for view in self.views:
            view.check(shape[1], shape[2])

    def __call__(self, batch: Mapping[str, Any]) -> list[torch.Tensor]:
        """Return the views, global ones first, float32 (B, C, size, size) each.

        Parameters
        ----------
        batch
            ``images`` (B, C, H, W) of stored pixels, ``plate`` (B,) codes, ``key`` (B,), ``partners`` and
            ``partner_plate`` or None; see :class:`morphobench.learning.data.ScreenData`.
        """
        sources = [(_as_float(batch["images"]), batch["plate"])]
        if batch.get("partners") is not None:
            sources.append((_as_float(batch["partners"]), batch["partner_plate"]))
        views = []
        for index in range(len(self.views)):
            images, plates = sources[len(sources) - 1 if self.from_partner[index] else 0]
            views.append(self.view(images, plates, batch["key"], index))
        return views

    def view(self, images: torch.Tensor, plates: torch.Tensor, keys: torch.Tensor, index: int) -> torch.Tensor:
        """Return view number ``index`` of images."""
        view, (_, channels, height, width) = self.views[index], images.shape
        first = index * _PER_VIEW
        grid = sampling_grid(keys, first, height, width, view)
        gain, offset = shift_parameters(keys, first, channels, view)
        mean, std = statistics_on(self.normalisation, images.device, self._statistics)
        mean, std = mean[plates], std[plates]
        scale = (gain / (self.normalisation.maximum * std)).float()[:, :, None, None]
        bias = ((offset - mean) / std).float()[:, :, None, None]
        pixels = functional.grid_sample(_as_float(images), grid, padding_mode="border", align_corners=False)
        return pixels.mul_(scale).add_(bias)


class CentreCrop:
    """The one view by which images are judged: resized, cropped in the middle, normalised, nothing random.

    Parameters
    ----------
    normalisation
        Of the store that the images are from.
    resize
        Shorter side after resizing (bilinear, as the training views), None to leave images as they are.
    size
        Side of the crop, None for the whole image.
    """

    def __init__(
        self, normalisation: Normalisation, *, resize: int | None = None, size: int | None = None
    ) -> None:
        self.normalisation, self.resize, self.size = normalisation, resize, size
        self._statistics: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width after resizing."""
        factor = 1 if self.resize is None else self.resize / min(height, width)
        return round(height * factor), round(width * factor)

    def check(self, shape: Sequence[int]) -> None:
        """Raise DataError if the crop does not fit images of shape (C, H, W)."""
        if self.size is not None:
            View.plain(self.size).check(*self.resized(shape[1], shape[2]), what="the centre crop")

    def facts(self, channels: Sequence[str]) -> dict[str, Any]:
        """Return what is kept beside a model, to show it images in the same way."""
        shown = {"resize": self.resize, "size": self.size, "normalised_by": self.normalisation.source}
        return {"channels": list(channels), **shown}

    def __call__(self, images: torch.Tensor, plates: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, C, size, size) views of (B, C, H, W) stored pixels of the plates' codes (B,)."""
        self.check(images.shape[1:])
        pixels = _as_float(images)
        height, width = self.resized(*images.shape[2:])
        if (height, width) != tuple(images.shape[2:]):
            pixels = functional.interpolate(pixels, (height, width), mode="bilinear", align_corners=False)
        if self.size is not None:
            # As torchvision's CenterCrop: the middle, rounded to even.
            top, left = round((height - self.size) / 2), round((width - self.size) / 2)
            pixels = pixels[:, :, top : top + self.size, left : left + self.size]
        mean, std = statistics_on(self.normalisation, images.device, self._statistics)
        mean, std = mean[plates], std[plates]
        scale, bias = (1 / (self.normalisation.maximum * std)).float(), (-mean / std).float()
        return pixels * scale[:, :, None, None] + bias[:, :, None, None]


def statistics_on(
    normalisation: Normalisation,
    device: torch.device,
    known: dict[torch.device, tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and std, (P, C) float64 each, on a device; sent there once."""
    if device not in known:
        known[device] = tuple(torch.tensor(a, device=device) for a in (normalisation.mean, normalisation.std))
    return known[device]


def _as_float(images: torch.Tensor) -> torch.Tensor:
    return images if images.dtype == torch.float32 else images.float()
