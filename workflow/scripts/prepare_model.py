"""Read one dataset's raw files and preprocess them for networks that are trained on profiles."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.datasets.prepare import prepare_model

    prepare_model(
        snakemake.params.spec,
        raw_root=snakemake.params.raw,
        profiles=snakemake.output.profiles,
        report=snakemake.output.report,
    )
