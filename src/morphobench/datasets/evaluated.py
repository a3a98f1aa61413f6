"""Which wells of a data set are scored: a screen may be trained on that is far larger than what can be judged."""

from __future__ import annotations

from dataclasses import replace

from morphobench.datasets.jump_annotations import chosen_wells
from morphobench.errors import DataError
from morphobench.profiles import Profiles


def evaluated(profiles: Profiles, which: str) -> Profiles:
    """Return the wells that a data set's ``evaluated_wells`` names, with the choice in the provenance.

    Parameters
    ----------
    profiles
        Prepared profiles: preprocessing saw all wells of a plate.
    which
        ``all``, ``controls`` or ``curated``, see :func:`morphobench.datasets.jump_annotations.chosen_wells`.

    Raises
    ------
    DataError
        If the curated wells are asked for and mechanisms are not known, or no well is left.
    """
    if which == "curated" and "Metadata_MoA" not in profiles.metadata:
        raise DataError(
            "evaluated_wells is curated, but the profiles have no column Metadata_MoA; prepare them with "
            "reader_options.mechanisms"
        )
    chosen = chosen_wells(profiles.metadata, which).to_numpy(dtype=bool)
    if not chosen.any():
        raise DataError(f"evaluated_wells is {which}, but none of {len(chosen)} wells is one; expected some")
    if not chosen.all():
        print(f"{chosen.sum()} of {len(chosen)} wells are evaluated ({which})", flush=True)
    kept = profiles.rows(chosen)
    return replace(kept, provenance={**kept.provenance, "evaluated_wells": which})
