"""Complete the image store of one dataset: samples, statistics, folds and what was left out."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.images.finish import finish_store

    finish_store(
        Path(snakemake.output.store).parent,
        snakemake.params.units,
        snakemake.params.spec["images"]["channels"],
        snakemake.params.folds,
        pixel_size_um=snakemake.params.spec["images"]["pixel_size_um"],
    )
