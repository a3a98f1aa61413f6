"""Fetch the raw images of one unit of a dataset and list them in its manifest."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.fetch.screens import fetch_screen_unit

    fetch_screen_unit(
        snakemake.params.spec,
        snakemake.wildcards.unit,
        snakemake.params.raw,
        files=snakemake.input.manifest,
        manifest=snakemake.output.manifest,
        mirror=snakemake.config.get("mirror"),
        simulated=snakemake.input.get("simulated") or None,
        workers=int(snakemake.config["downloads"]),
    )
