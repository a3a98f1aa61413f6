"""Fetch one file of pretrained weights."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.fetch import fetch_dataset

    fetch_dataset(
        {**snakemake.params.spec, "plates": None}, snakemake.params.raw, mirror=snakemake.config.get("mirror")
    )
