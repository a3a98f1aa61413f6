"""Raw files: pinned addresses in, exactly the provider's bytes out, or one clear sentence."""

from morphobench.fetch.addresses import local_path
from morphobench.fetch.dataset import fetch_dataset
from morphobench.fetch.files import fetch
from morphobench.fetch.manifest import read_manifest, write_manifest

__all__ = ["fetch", "fetch_dataset", "local_path", "read_manifest", "write_manifest"]
