"""What a Dataverse dataset consists of, and where each file is downloaded from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from morphobench.errors import FetchError
from morphobench.fetch.transport import Transport


@dataclass(frozen=True)
class DataverseFile:
    """One file of a dataset.

    Parameters
    ----------
    name
        File name as deposited.
    directory
        Folder in the dataset, "" at its top.
    id
        Number of the file in the installation.
    size
        Bytes, None if not stated.
    md5
        Lower-case hexadecimal, None if the installation uses another checksum.
    url
        The API address. It redirects to a signed link that expires, so it is this address that is fetched, each
        time afresh.
    """

    name: str
    directory: str
    id: int
    size: int | None
    md5: str | None
    url: str

    @property
    def path(self) -> str:
        """Folder and name."""
        return f"{self.directory}/{self.name}" if self.directory else self.name


def dataset_address(base: str, doi: str) -> str:
    """Return the API address of a dataset's description."""
    doi = doi if doi.startswith("doi:") else f"doi:{doi}"
    return f"{base.rstrip('/')}/api/datasets/:persistentId/?persistentId={quote(doi, safe=':/')}"


def list_dataverse(base: str, doi: str, *, transport: Transport | None = None) -> list[DataverseFile]:
    """List the files of a dataset's latest version, in the order of the API.

    Parameters
    ----------
    base
        The installation, e.g. ``https://dataverse.harvard.edu``.
    doi
        The dataset, e.g. ``10.7910/DVN/VYKTI5``, with or without ``doi:``.
    transport
        How patient to be.

    Raises
    ------
    FetchError
        If the dataset cannot be asked for or the answer is not what the API documents
        (https://guides.dataverse.org/en/latest/api/native-api.html).
    """
    transport = transport or Transport()
    url = dataset_address(base, doi)
    return parse_listing(transport.read(transport.source(url)), url, base)


def parse_listing(content: bytes, where: str, base: str) -> list[DataverseFile]:
    """Return the files that a stored or fetched description of a dataset lists.

    Parameters
    ----------
    content
        JSON, as the API sends it.
    where
        Its address or file, for messages.
    base
        The installation that the files are downloaded from.
    """
    try:
        answer = json.loads(content)
        if answer.get("status", "OK") != "OK":
            raise FetchError(f"{where}: the Dataverse answers {answer['status']} ({answer.get('message', '')})")
        entries = answer["data"]["latestVersion"]["files"]
        return [_file(entry, base) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FetchError(
            f"{where}: not the description of a Dataverse dataset, expected data.latestVersion.files ({error!r})"
        ) from error


def _file(entry: dict[str, Any], base: str) -> DataverseFile:
    data = entry["dataFile"]
    url = f"{base.rstrip('/')}/api/access/datafile/{data['id']}"
    name, size = data["filename"], data.get("filesize")
    # A table that Dataverse has converted to .tab is asked for as deposited; the checksum is of that.
    if data.get("originalFileName") or data.get("originalFileFormat"):
        url += "?format=original"
        name, size = data.get("originalFileName", name), data.get("originalFileSize")
    checksum = data.get("checksum") or {}
    md5 = data.get("md5") or (checksum.get("value") if checksum.get("type") == "MD5" else None)
    return DataverseFile(
        name=name,
        directory=(entry.get("directoryLabel") or "").strip("/"),
        id=int(data["id"]),
        size=None if size is None else int(size),
        md5=md5.lower() if md5 else None,
        url=url,
    )
