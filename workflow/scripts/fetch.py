"""Fetch one dataset's raw files and list them in a manifest."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.fetch import fetch_dataset, write_manifest

    simulated = snakemake.input.get("simulated")
    records = fetch_dataset(
        snakemake.params.spec,
        snakemake.params.raw,
        mirror=Path(simulated).parent if simulated else snakemake.config.get("mirror"),
        manifest=simulated or None,
        local=snakemake.params.spec["local"],
    )
    write_manifest(records, snakemake.output.manifest)
