"""Train a network on a data set's profiles, and represent the wells that are evaluated with it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.learning.runs import Hardware
    from morphobench.profilenets.profile_method import build_recipe
    from morphobench.profiles import write_profiles

    recipe = build_recipe(snakemake.params.spec, seed=int(snakemake.wildcards.seed))
    model = Path(snakemake.output.model).parent
    gpus = int(snakemake.resources.get("gpu", 0))
    hardware = Hardware.of_job(gpus=gpus, threads=snakemake.threads)
    recipe.train(
        snakemake.input.profiles,
        model,
        Path(snakemake.params.checkpoints),
        configuration={**snakemake.params.spec, "code": snakemake.params.code},
        start=Path(snakemake.input.start).parent if snakemake.input.get("start") else None,
        hardware=hardware,
    )
    wells = snakemake.params.wells
    embedding = recipe.embed(snakemake.input.profiles, model, wells=wells, hardware=hardware)
    write_profiles(embedding, snakemake.output.profiles)
