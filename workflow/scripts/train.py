"""Train one method on one fold of an image store."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.learning.recipes import Hardware, build_recipe

    gpus = int(snakemake.resources.get("gpu", 0))
    build_recipe(snakemake.params.spec, seed=int(snakemake.wildcards.seed)).train(
        Path(snakemake.input.store[0]).parent,
        int(snakemake.wildcards.fold),
        Path(snakemake.output.model).parent,
        Path(snakemake.params.checkpoints),
        configuration={**snakemake.params.spec, "code": snakemake.params.code},
        weights=snakemake.input.get("weights") or None,
        start=Path(snakemake.input.start).parent if snakemake.input.get("start") else None,
        hardware=Hardware.of_job(gpus=gpus, threads=snakemake.threads),
    )
