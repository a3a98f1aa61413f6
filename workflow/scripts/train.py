"""Train one method on one fold of an image store, and embed the images of the fold with it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.learning.recipes import build_recipe
    from morphobench.learning.runs import Hardware
    from morphobench.profiles import write_profiles

    recipe = build_recipe(snakemake.params.spec, seed=int(snakemake.wildcards.seed))
    store, fold = Path(snakemake.input.store[0]).parent, int(snakemake.wildcards.fold)
    model = Path(snakemake.output.model).parent
    gpus = int(snakemake.resources.get("gpu", 0))
    hardware = Hardware.of_job(gpus=gpus, threads=snakemake.threads)
    recipe.train(
        store,
        fold,
        model,
        Path(snakemake.params.checkpoints),
        configuration={**snakemake.params.spec, "code": snakemake.params.code},
        weights=snakemake.input.get("weights") or None,
        start=Path(snakemake.input.start).parent if snakemake.input.get("start") else None,
        hardware=hardware,
    )
    write_profiles(recipe.embed(store, fold, model, hardware=hardware), snakemake.output.profiles)
