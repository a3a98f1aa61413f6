"""Check every raw file that was fetched against its manifest."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.fetch.verify import check_manifests

    check_manifests(snakemake.params.manifests)
print(Path(snakemake.log[0]).read_text())
