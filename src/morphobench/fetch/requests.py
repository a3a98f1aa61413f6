"""What is asked for: raw files, and the spellings under which a provider may have them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RawFile:
    """One raw file of a unit.

    Parameters
    ----------
    url
        ``https://...``, ``http://...`` or ``s3://bucket/key``: the file, or the zip that holds it.
    local
        Path below a user's own copy (a ``local`` root), in the provider's natural tree; also the file's name in
        the unit's manifest, so no two files of a unit share it.
    member
        Name of the file in the zip at ``url``, which is then read by byte ranges.
    size
        Bytes, None where nobody could tell.
    checksum
        ``sha256:<hex>``, ``md5:<hex>``, ``crc32c:<hex or base64>``, ``git:<hex>`` (blob id) or ``etag:<...>``.
    shared
        Whether other units need the file too; it then stays when a unit's raw files are not kept.
    """

    url: str
    local: str
    member: str | None = None
    size: int | None = None
    checksum: str | None = None
    shared: bool = False


@dataclass(frozen=True)
class Variant:
    """One way in which a provider may have the files of a unit; variants are tried in order.

    Parameters
    ----------
    name
        E.g. ``png_a``, ``png_b``, ``tiff``; readers find it in the manifest.
    files
        All files of the unit in this variant. The first decides whether the provider has the variant.
    """

    name: str
    files: tuple[RawFile, ...]
