"""Render one table or one group of figures from its plan."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.report.plans import render

    published = Path(snakemake.scriptdir).parents[1] / "specs" / "published"
    for path in render(snakemake.params.plan, published):
        print(path)
