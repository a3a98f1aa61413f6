"""Simulate one dataset's raw files in its provider's layout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.simulate.dataset import simulate_dataset

    simulate_dataset(snakemake.params.spec, Path(snakemake.output.manifest).parent)
