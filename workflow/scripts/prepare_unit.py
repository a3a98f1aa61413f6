"""Read the raw images of one unit of a dataset into its image store."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.images.prepare import prepare_unit

    prepare_unit(
        snakemake.params.spec,
        snakemake.wildcards.unit,
        files=snakemake.input.files,
        manifest=snakemake.input.manifest,
        folder=Path(snakemake.output.images).parent,
        keep_raw=snakemake.params.keep_raw,
    )
