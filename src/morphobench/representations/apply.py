"""Representing profiles by a method spec."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from morphobench.corrections.apply import build, parameter_values
from morphobench.datasets.splits import split as split_rows
from morphobench.errors import NotApplicable
from morphobench.profiles import Profiles, check_profiles
from morphobench.representations.base import Representation


def represent(
    profiles: Profiles, annotations: pd.DataFrame | None, spec: dict[str, Any], seed: int = 0
) -> Profiles:
    """Return profiles in the representation a method spec names; rows stay as they are.

    So do metadata, unless the spec has a ``split``: which wells are for testing is then chosen as it says, so that
    what is not trained can stand beside networks that were trained without these wells.

    Parameters
    ----------
    profiles
        Prepared profiles; not modified.
    annotations
        The data set's gene sets (``entity, set, collection``), or None.
    spec
        A method spec of kind ``representation`` or ``control``; its ``split``, if it has one, holds arguments of
        :func:`morphobench.datasets.splits.split`.
    seed
        Of the representation.

    Returns
    -------
    Profiles
        With provenance ``method`` (its id), ``method_spec`` (its parameters) and ``seed``.

    Raises
    ------
    NotApplicable
        If the spec lists its data sets and the profiles' provenance names another.
    DataError
        If profiles or the representation are unsound.
    SpecError
        If the spec names no representation class or wrong parameters.
    """
    allowed, dataset = spec.get("datasets", "all"), profiles.provenance.get("dataset")
    if allowed != "all" and dataset is not None and dataset not in allowed:
        raise NotApplicable(f"{spec['id']} represents {', '.join(allowed)} only, not {dataset}")
    representation = build(spec, Representation, seed)
    check_profiles(profiles, f"profiles for {spec['id']}")
    result = representation.embed(profiles, annotations)
    if len(result) != len(profiles) or not result.metadata.equals(profiles.metadata):
        raise RuntimeError(f"{spec['id']} changed the rows of the profiles")
    if spec.get("split"):
        metadata = result.metadata.assign(Metadata_Split=split_rows(result.metadata, **spec["split"]))
        result = replace(result, metadata=metadata, provenance={**result.provenance, "split": spec["split"]})
    result = result.with_features(
        result.features, result.names, method=spec["id"], method_spec=parameter_values(spec), seed=seed
    )
    check_profiles(result, f"profiles represented by {spec['id']}")
    return result
