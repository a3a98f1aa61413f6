"""Correcting profiles by a method spec."""

from __future__ import annotations

import importlib
from typing import Any

from morphobench.corrections.base import Correction, Covariates
from morphobench.errors import SpecError
from morphobench.profiles import Profiles, check_profiles


def resolve_class(spec: dict[str, Any], parent: type) -> type:
    """Return the class that a method spec names as ``module:Class``; SpecError unless it is a ``parent``."""
    path = str(spec["class"])
    module, _, name = path.partition(":")
    try:
        cls = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(f"method {spec['id']}: class {path!r} cannot be imported ({error})") from error
    if not (isinstance(cls, type) and issubclass(cls, parent)):
        raise SpecError(f"method {spec['id']}: {path} is not a {parent.__name__}")
    return cls


def parameter_values(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a method spec's parameters, without sources and notes."""
    return {name: entry["value"] for name, entry in (spec.get("parameters") or {}).items()}


def build(spec: dict[str, Any], parent: type, seed: int) -> Any:
    """Return an instance of the class a method spec names, with its parameters and the seed."""
    cls = resolve_class(spec, parent)
    try:
        return cls(**parameter_values(spec), seed=seed)
    except TypeError as error:
        raise SpecError(f"method {spec['id']}: parameters do not fit {spec['class']} ({error})") from error


def correct(profiles: Profiles, spec: dict[str, Any], seed: int = 0) -> Profiles:
    """Fit a correction on profiles and return them corrected, rows and metadata as they were.

    Parameters
    ----------
    profiles
        Finite profiles; not modified.
    spec
        A method spec of kind ``correction``.
    seed
        Of the correction.

    Returns
    -------
    Profiles
        With provenance ``correction`` (its id), ``correction_spec`` (its parameters), ``correction_seed`` and
        ``fitted``.

    Raises
    ------
    DataError
        If profiles are unsound or lack what the correction needs.
    SpecError
        If the spec names no correction class or wrong parameters.
    """
    correction = build(spec, Correction, seed)
    check_profiles(profiles, f"profiles to correct by {spec['id']}")
    features = correction.fit_transform(profiles.features, Covariates.from_profiles(profiles))
    if len(features) != len(profiles):
        raise RuntimeError(f"{spec['id']} returned {len(features)} rows for {len(profiles)}")
    names = profiles.names
    if correction.component is not None:
        names = tuple(f"{correction.component}_{i:03d}" for i in range(features.shape[1]))
    return profiles.with_features(
        features,
        names,
        correction=spec["id"],
        correction_spec=parameter_values(spec),
        correction_seed=seed,
        fitted=correction.fitted,
    )
