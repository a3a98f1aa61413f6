"""Read one dataset's raw files and preprocess them into profiles."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.datasets.prepare import prepare

    prepare(
        snakemake.params.spec,
        manifest=snakemake.input.manifest,
        raw_root=snakemake.params.raw,
        profiles=snakemake.output.profiles,
        annotations=snakemake.output.annotations,
        excluded=snakemake.output.excluded,
        report=snakemake.output.report,
    )
