"""Find the neighbours that all metrics share, and check the health of the embedding."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.files import write_json
    from morphobench.metrics.health import health
    from morphobench.metrics.neighbours import compute_neighbours, required_neighbours, save_neighbours
    from morphobench.profiles import read_profiles

    profiles = read_profiles(snakemake.input.profiles)
    found = health(profiles.features)
    print(found)
    split = profiles.column("Metadata_Split")
    needed = required_neighbours(snakemake.params.needs, len(profiles), split)
    save_neighbours(compute_neighbours(profiles.features, needed, split=split), snakemake.output.neighbours)
    write_json(snakemake.output.health, found)
