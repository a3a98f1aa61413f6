"""Find the neighbours that all metrics share, and check the embedding's health."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.metrics.neighbours import neighbours_file

    neighbours_file(
        snakemake.input.profiles,
        snakemake.output.neighbours,
        snakemake.output.health,
        needs=snakemake.params.needs,
    )
