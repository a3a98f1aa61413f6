"""Compute one representation or control."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    import pandas as pd

    from morphobench.datasets.evaluated import evaluated
    from morphobench.images.pixels import of_fold
    from morphobench.profiles import read_profiles, write_profiles
    from morphobench.representations.apply import represent

    profiles = read_profiles(snakemake.input.profiles)
    if snakemake.input.get("folds"):
        profiles = of_fold(profiles, pd.read_parquet(snakemake.input.folds), int(snakemake.wildcards.fold))
    profiles = evaluated(profiles, snakemake.params.wells)
    annotations = pd.read_parquet(snakemake.input.annotations)
    seed = int(snakemake.wildcards.seed)
    write_profiles(represent(profiles, annotations, snakemake.params.spec, seed), snakemake.output.profiles)
