"""Fields of view whose channels lie in one file each: which are there, and their pixels as one array.

Shared by the readers of screens that serve one grey image a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from morphobench.errors import DataError, SpecError
from morphobench.images.decode import check_pixels, decode_image, resize
from morphobench.images.unit import Excluded, MissingImage, Sample, UnitFiles

# Turns the bytes of one channel into (H, W) uint8; gets the channel's index, the bytes and the file's name.
Decode = Callable[[int, bytes, str], np.ndarray]


@dataclass(frozen=True)
class Field:
    """One field of view that the metadata promise.

    Attributes
    ----------
    metadata
        ``Metadata_*`` values of the sample it becomes, with plate, well and site.
    names
        Names of its channels' files in the unit's manifest, in storage order.
    """

    metadata: dict[str, Any]
    names: tuple[str, ...]

    @property
    def plate(self) -> str:
        """The plate's name."""
        return self.metadata["Metadata_Plate"]

    @property
    def well(self) -> str:
        """The well on the plate."""
        return self.metadata["Metadata_Well"]


def grey8(raw_size: int | None) -> Decode:
    """Return a decoder of 8-bit images of ``raw_size`` x ``raw_size`` pixels (any size if None)."""
    shape = None if raw_size is None else (raw_size, raw_size)

    def decode(channel: int, content: bytes, name: str) -> np.ndarray:
        return decode_image(content, name, dtype=np.uint8, shape=shape)

    return decode


def read_fields(
    unit: UnitFiles, expected: Sequence[Field], decode: Decode, size: int
) -> Iterator[Sample | Excluded]:
    """Yield a sample for each field whose channels can all be used, and say of everything else why not.

    Parameters
    ----------
    unit
        The unit's files. Files that no field names are listed as images without metadata.
    expected
        The fields in the order of the samples, those of a well one after the other.
    decode
        See :func:`grey8`.
    size
        Height and width of the samples.

    Yields
    ------
    Sample or Excluded
        A well of which no file is there gives one row, a missing or bad file one row.
    """
    for well in _by_well(expected):
        names = [name for one in well for name in one.names]
        if all(unit.reason(name) for name in names):
            first = well[0]
            reason = f"none of its {len(names)} images is there; the first: {unit.reason(names[0])}"
            yield Excluded("well", f"{first.plate}/{first.well}", reason)
            continue
        for one in well:
            yield from _read_field(unit, one, decode, size)
    planned = {name for one in expected for name in one.names}
    for name in unit.names():
        if name not in planned:
            yield Excluded("image", name, "has no row in the metadata of its plate")


def _read_field(unit: UnitFiles, one: Field, decode: Decode, size: int) -> Iterator[Sample | Excluded]:
    channels, good = [], True
    for index, name in enumerate(one.names):
        try:
            image = decode(index, unit.read(name), name)
            reason = check_pixels(image)
            if reason is None and channels and image.shape != channels[0].shape:
                reason = "differs in size from the channels before"
        except (DataError, MissingImage) as error:
            image, reason = None, str(error).removeprefix(f"{name}: ").removeprefix(f"{name} ")
        if reason is None:
            channels.append(image)
        else:
            good = False
            site = f"site {one.metadata['Metadata_Site']} of well {one.well} of plate {one.plate}"
            yield Excluded("image", name, f"{reason}; {site} is left out")
    if good:
        yield Sample(one.metadata, np.stack([resize(image, size) for image in channels]))


def _by_well(expected: Iterable[Field]) -> Iterator[list[Field]]:
    group: list[Field] = []
    for one in expected:
        if group and (one.plate, one.well) != (group[0].plate, group[0].well):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


def parse_options(kind: type, options: Mapping[str, Any]) -> Any:
    """Build a dataclass of ``images.options``; lists become tuples.

    Raises
    ------
    SpecError
        If a key is unknown or missing, or a value that should be a list or a whole number is not.
    """
    known = {f.name: f for f in fields(kind)}
    for key in options:
        if key not in known:
            raise SpecError(f"images.options has unknown key {key!r}; known keys are {', '.join(known)}")
    for key, field in known.items():
        if field.default is MISSING and key not in options:
            raise SpecError(f"images.options lacks key {key!r}")
    values = {}
    for key, value in options.items():
        if value is None and "None" not in str(known[key].type):
            raise SpecError(f"images.options: {key} is null, expected a value")
        text = str(known[key].type)
        if (
            value is not None
            and text.startswith("int")
            and (not isinstance(value, int) or value is True or value < 0)
        ):
            raise SpecError(f"images.options: {key} is {value!r}, expected a whole number, 0 or more")
        if value is not None and text.startswith("tuple"):
            if not isinstance(value, (list, tuple)) or not value:
                raise SpecError(f"images.options: {key} is {value!r}, expected a list or null")
            value = tuple(value)
        values[key] = value
    return kind(**values)
