"""Compute one representation or control."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.representations.apply import represent_file

    represent_file(
        snakemake.input.profiles,
        snakemake.input.annotations,
        snakemake.output.profiles,
        spec=snakemake.params.spec,
        seed=int(snakemake.wildcards.seed),
    )
