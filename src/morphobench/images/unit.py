"""What a reader is given and what it yields: the raw files of one unit, samples, and what is left out.

A unit is what one job fetches and prepares (an experiment, a plate, a well of a plate, a folder). A reader is a
function ``read_unit(unit: UnitFiles) -> Iterator[Sample | Excluded]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from morphobench.errors import DataError, MorphobenchError


class MissingImage(MorphobenchError):  # noqa: N818 - a row of the excluded samples, not a fault
    """A raw file that could not be had or is damaged; the message is the reason for ``excluded.csv``."""


@dataclass(frozen=True)
class Sample:
    """One image with what is known about it.

    Attributes
    ----------
    metadata
        ``Metadata_*`` values (see :data:`morphobench.profiles.COLUMNS`), text or numbers.
    pixels
        (C, H, W) uint8 or uint16, C-contiguous, channels in the order of the spec.
    """

    metadata: dict[str, Any]
    pixels: np.ndarray


@dataclass(frozen=True)
class Excluded:
    """Something that did not become a sample: a row of ``excluded.csv``.

    Attributes
    ----------
    what
        ``image``, ``well``, ``site``, ``cell``, ``tile``, ``file`` or ``plate``.
    id
        Which one, such as ``HUVEC-01/Plate1/B02/s1``.
    reason
        One sentence.
    """

    what: str
    id: str
    reason: str


@dataclass(frozen=True)
class UnitFiles:
    """The raw files of one unit.

    Attributes
    ----------
    unit
        Its name.
    files
        The files that all units share (metadata tables), by their names in the spec.
    records
        The rows of the unit's manifest; ``name`` is the file's path below a user's own copy.
    options
        Options of the spec for the lister and the reader.
    """

    unit: str
    files: Mapping[str, Path]
    records: tuple[dict[str, Any], ...]
    options: Mapping[str, Any]

    @cached_property
    def by_name(self) -> dict[str, dict[str, Any]]:
        """The manifest rows by name.

        Raises
        ------
        DataError
            If a name occurs twice.
        """
        rows: dict[str, dict[str, Any]] = {}
        for record in self.records:
            if record["name"] in rows:
                raise DataError(f"manifest of unit {self.unit}: file {record['name']} is listed twice")
            rows[record["name"]] = record
        return rows

    def names(self) -> list[str]:
        """Return the names of all files of the unit, in the manifest's order, also of those that are missing."""
        return list(self.by_name)

    def reason(self, name: str) -> str:
        """Return why a file cannot be read, or an empty text if it can."""
        record = self.by_name.get(name)
        if record is None:
            return f"{name} is not among the files of unit {self.unit}"
        if record.get("path") and record.get("status") not in ("missing", "damaged"):
            return ""
        because = f" ({record['reason']})" if record.get("reason") else ""
        return f"{name} is {record.get('status') or 'missing'}{because}"

    def read(self, name: str) -> bytes:
        """Return the bytes of a raw file.

        Parameters
        ----------
        name
            The file's name in the manifest.

        Raises
        ------
        MissingImage
            If the file could not be had, is damaged, or is gone since it was fetched.
        """
        # The clients that fetching needs are heavy, and only readers get here.
        from morphobench.fetch.manifest import open_raw

        reason = self.reason(name)
        if reason:
            raise MissingImage(reason)
        try:
            return open_raw(self.by_name[name])
        except (OSError, MorphobenchError) as error:
            raise MissingImage(f"{name} cannot be read ({error})") from error
