"""Measure the pixels of every image: the profiles that learned ones are held against."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.images.pixels import write_pixel_profiles

    write_pixel_profiles(
        Path(snakemake.input.store[0]).parent,
        snakemake.params.spec,
        profiles=snakemake.output.profiles,
        annotations=snakemake.output.annotations,
    )
