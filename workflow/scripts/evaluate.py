"""Score one profiles file with every metric that its tables name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    import json

    import pandas as pd

    from morphobench.metrics.evaluate import evaluate
    from morphobench.metrics.neighbours import load_neighbours
    from morphobench.metrics.scores import write_scores
    from morphobench.profiles import read_profiles

    profiles = read_profiles(snakemake.input.profiles)
    scores = evaluate(
        profiles,
        load_neighbours(snakemake.input.neighbours, profiles),
        pd.read_parquet(snakemake.input.annotations),
        snakemake.params.metrics,
        int(snakemake.wildcards.seed),
        wildcards=dict(snakemake.wildcards.items()),
        health=json.loads(Path(snakemake.input.health).read_text()),
    )
    print(scores.to_string())
    write_scores(scores, snakemake.output.scores, snakemake.output.draws)
