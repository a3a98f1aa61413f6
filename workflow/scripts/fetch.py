"""Fetch one dataset's raw files and list them in a manifest."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.fetch.dataset import fetch_to_manifest

    simulated = snakemake.input.get("simulated")
    fetch_to_manifest(
        snakemake.params.spec,
        raw_root=snakemake.params.raw,
        mirror=snakemake.config.get("mirror"),
        simulated=Path(simulated).parent if simulated else None,
        manifest=snakemake.output.manifest,
    )
