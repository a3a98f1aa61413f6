"""Score one profiles file with every metric that its tables name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.metrics.evaluate import evaluate_file

    evaluate_file(
        snakemake.input.profiles,
        snakemake.input.neighbours,
        snakemake.input.health,
        snakemake.input.annotations,
        snakemake.output.scores,
        metrics=snakemake.params.metrics,
        wildcards=dict(snakemake.wildcards.items()),
    )
