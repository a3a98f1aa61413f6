"""Raw files: pinned addresses in, exactly the provider's bytes out, or one clear sentence."""

from morphobench.fetch.addresses import local_path
from morphobench.fetch.dataset import fetch_dataset
from morphobench.fetch.files import fetch
from morphobench.fetch.manifest import (
    open_raw,
    read_manifest,
    read_unit_manifest,
    write_manifest,
    write_unit_manifest,
)
from morphobench.fetch.requests import RawFile, Variant
from morphobench.fetch.unit import fetch_unit

__all__ = [
    "RawFile",
    "Variant",
    "fetch",
    "fetch_dataset",
    "fetch_unit",
    "local_path",
    "open_raw",
    "read_manifest",
    "read_unit_manifest",
    "write_manifest",
    "write_unit_manifest",
]
