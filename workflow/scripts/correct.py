"""Apply one correction to an embedding."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(snakemake.scriptdir).parents[1] / "src"))

from morphobench.jobs import logged_job  # noqa: E402 - the path above makes an uninstalled checkout work

with logged_job(snakemake.log[0]):
    from morphobench.corrections.apply import correct
    from morphobench.profiles import read_profiles, write_profiles

    profiles = read_profiles(snakemake.input.profiles)
    corrected = correct(profiles, snakemake.params.spec, int(snakemake.wildcards.seed))
    print(corrected.provenance["fitted"])
    write_profiles(corrected, snakemake.output.profiles)
