"""Embed the images of one fold with its trained model."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.learning.recipes import Hardware, build_recipe
    from morphobench.profiles import write_profiles

    gpus = int(snakemake.resources.get("gpu", 0))
    recipe = build_recipe(snakemake.params.spec, seed=int(snakemake.wildcards.seed))
    profiles = recipe.embed(
        Path(snakemake.input.store[0]).parent,
        int(snakemake.wildcards.fold),
        Path(snakemake.input.model).parent,
        hardware=Hardware.of_job(gpus=gpus, threads=snakemake.threads),
    )
    write_profiles(profiles, snakemake.output.profiles)
