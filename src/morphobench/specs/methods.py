"""Method specs: inheritance, and what differs on a data set or at a scale.

Only the standard library is imported, because every parse of the workflow asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from morphobench.errors import SpecError
from morphobench.specs.checks import check_callable, check_parameters, check_reference
from morphobench.specs.lines import Document

# What names a spec itself; all else is handed on to the specs that extend it.
_OWN = ("id", "label", "summary", "extends")
# What lies over the rest of a spec and is merged key by key.
_OVERLAYS = ("on", "scales")
# By input of a method that is trained, the key of a data set's spec that provides it.
TRAINED_ON = {"images": "images", "model_profiles": "preprocessing_model"}
NEEDED = ("kind", "class", "parameters", "deterministic", "reference", "resources")


def overlaid(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return a spec with another laid over it.

    ``parameters`` and ``resources`` are merged by name: a parameter is replaced with its source and note, since
    those of the old value say nothing of the new one. ``on`` and ``scales`` are merged by the same rule, key by
    key. Everything else is replaced.
    """
    result = {**base, **{k: v for k, v in overlay.items() if k not in (*_OVERLAYS, "parameters", "resources")}}
    for key in ("parameters", "resources"):
        if key in overlay:
            result[key] = {**base.get(key, {}), **overlay[key]}
    for key in _OVERLAYS:
        if key in overlay:
            known = base.get(key, {})
            changed = {name: overlaid(known.get(name, {}), part) for name, part in overlay[key].items()}
            result[key] = {**known, **changed}
    return result


def inherited(documents: Mapping[str, Document]) -> dict[str, dict[str, Any]]:
    """Return all method specs with what they take from the specs they extend.

    Parameters
    ----------
    documents
        Method specs by id.

    Raises
    ------
    SpecError
        If a spec extends one that does not exist, or itself by a detour, or lacks a key that nothing gives it.
    """
    specs: dict[str, dict[str, Any]] = {}

    def resolve(name: str, chain: tuple[str, ...]) -> dict[str, Any]:
        if name in specs:
            return specs[name]
        document = documents[name]
        own = document.value
        parent = own.get("extends")
        if parent is None:
            result = dict(own)
        else:
            check_reference(document, ("extends",), parent, documents, "method")
            if parent in (*chain, name):
                way = " extends ".join([*chain, name, parent])
                raise SpecError(f"{document.where(('extends',))}: {way}; expected no circle")
            base = resolve(parent, (*chain, name))
            result = overlaid({k: v for k, v in base.items() if k not in _OWN}, own)
        for key in NEEDED:
            if key not in result:
                raise SpecError(f"{document.path}: method {name!r} has no key {key!r}")
        specs[name] = result
        return result

    for name in documents:
        resolve(name, ())
    return specs


def at_scale(spec: Mapping[str, Any], scale: str) -> dict[str, Any]:
    """Return a spec for one scale, with the key ``on``: by data set, the whole spec as it is there.

    The order is: the spec, what it says of the data set, what it says of the scale, what it says of the data set
    at the scale.
    """
    plain = {k: v for k, v in spec.items() if k not in (*_OVERLAYS, "extends")}
    plain = {"input": "profiles", "starts_from": None, "weights": None, "datasets": "all", **plain}
    everywhere = spec.get("on", {})
    at = spec.get("scales", {}).get(scale, {})
    here = {k: v for k, v in at.items() if k != "on"}
    result = overlaid(plain, here)
    result["on"] = {
        dataset: overlaid(
            overlaid(overlaid(plain, everywhere.get(dataset, {})), here), at.get("on", {}).get(dataset, {})
        )
        for dataset in dict.fromkeys([*everywhere, *at.get("on", {})])
    }
    return result


def resolve_methods(
    documents: Mapping[str, Mapping[str, Document]], scale: str, scales: tuple[str, ...] = ("full", "demo", "tiny")
) -> dict[str, dict[str, Any]]:
    """Return the method specs for a scale, all of them checked.

    Parameters
    ----------
    documents
        Documents of all kinds of specs, by kind and id.
    scale
        The configuration's.
    scales
        All that there are: each is checked, so that a slip in the full one shows in a demo.

    Raises
    ------
    SpecError
        One sentence with file, line and key.
    """
    whole = inherited(documents["methods"])
    for name, document in documents["methods"].items():
        _check(document, whole[name], documents, scales)
    check_starts(whole, documents["methods"])
    return {name: at_scale(spec, scale) for name, spec in whole.items()}


def _check(
    document: Document,
    spec: Mapping[str, Any],
    documents: Mapping[str, Mapping[str, Document]],
    scales: tuple[str, ...],
) -> None:
    own = document.value
    if "class" in own:
        check_callable(document, ("class",))
    parts = [((), own)]
    parts += [(("on", d), part) for d, part in own.get("on", {}).items()]
    for scale, part in own.get("scales", {}).items():
        check_reference(document, ("scales", scale), scale, dict.fromkeys(scales), "scale")
        parts.append((("scales", scale), part))
        parts += [(("scales", scale, "on", d), p) for d, p in part.get("on", {}).items()]
    for keys, part in parts:
        if keys and keys[-2] == "on":
            check_reference(document, keys, keys[-1], documents["datasets"], "data set")
        check_parameters(document, keys, spec["class"], part.get("parameters", {}))
        if part.get("weights"):
            check_reference(document, (*keys, "weights"), part["weights"], documents["weights"], "file of weights")
    if own.get("starts_from"):
        check_reference(document, ("starts_from",), own["starts_from"], documents["methods"], "method")
    for i, dataset in enumerate(own["datasets"] if isinstance(own.get("datasets"), list) else []):
        check_reference(document, ("datasets", i), dataset, documents["datasets"], "data set")
    if spec.get("split") and spec.get("input", "profiles") != "profiles":
        raise SpecError(
            f"{document.path}: method {spec['id']!r} is trained and has a key 'split'; expected its parameters to "
            f"say what is held out"
        )
    if spec.get("input", "profiles") != "profiles":
        _check_input(document, spec, documents["datasets"])


def _check_input(document: Document, spec: Mapping[str, Any], datasets: Mapping[str, Document]) -> None:
    """Raise SpecError unless a method that is trained lists its data sets, and each has what it is trained on."""
    where = document.where(("datasets",) if "datasets" in document.value else ())
    needed = TRAINED_ON[spec["input"]]
    if spec.get("datasets", "all") == "all":
        raise SpecError(
            f"{where}: a method with input {spec['input']!r} needs a list of data sets under 'datasets'"
        )
    for dataset in spec["datasets"]:
        if dataset in datasets and not datasets[dataset].value.get(needed):
            raise SpecError(f"{where}: data set {dataset!r} has no {needed}")


def check_starts(specs: Mapping[str, Mapping[str, Any]], documents: Mapping[str, Document]) -> None:
    """Raise SpecError unless what a training starts from is itself trained, on the same kind of input and data."""
    for name, spec in specs.items():
        start = spec.get("starts_from")
        if not start:
            continue
        where = documents[name].where(("starts_from",))
        own, other = spec.get("input", "profiles"), specs[start].get("input", "profiles")
        if own not in TRAINED_ON or other != own:
            raise SpecError(
                f"{where}: {name!r} with input {own!r} starts from {start!r} with input {other!r}; expected two "
                f"methods with input 'images', or two with 'model_profiles'"
            )
        lacking = [d for d in spec["datasets"] if d not in specs[start]["datasets"]]
        if lacking:
            raise SpecError(f"{where}: {start!r} does not take data set {lacking[0]!r}, which {name!r} takes")
        seen = [name]
        while start:
            if start in seen:
                raise SpecError(f"{where}: {' starts from '.join([*seen, start])}; expected no circle")
            seen.append(start)
            start = specs[start].get("starts_from")
