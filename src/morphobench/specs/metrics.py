"""Metric specs: those derived from another one, for the wells of one split, are made whole.

Only the standard library is imported, because every parse of the workflow asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from morphobench.errors import SpecError
from morphobench.specs.checks import check_callable, check_reference
from morphobench.specs.lines import Document

# What the name of a derived metric ends with, and what its summary begins the added sentence with.
_WORDS = {
    "train": ("training split", "Training"),
    "val": ("validation split", "Validation"),
    "test": ("held out", "Test"),
}


def resolve_metrics(documents: Mapping[str, Document]) -> dict[str, Document]:
    """Return all metric specs, checked and whole.

    A derived spec (``of: <metric>``, ``split: <split>``) becomes what it derives from with a key ``split``: its
    neighbours are those within the split, the parts of an aggregate are the metrics ``<part>_<split>``, and label
    and summary say so unless the spec states them. Its document keeps its own file and lines.

    Parameters
    ----------
    documents
        Metric specs by id, each valid by the schema.

    Raises
    ------
    SpecError
        One sentence with file, line and key: a function that does not exist or does not take the parameters; a
        base that does not exist, is itself derived or names a split already; an aggregate whose part is not
        derived for the split.
    """
    for document in documents.values():
        if "of" not in document.value:
            check_callable(document, ("function",), parameters=document.value["parameters"])
    return {
        name: replace(document, value=_derived(document, documents)) if "of" in document.value else document
        for name, document in documents.items()
    }


def _derived(document: Document, documents: Mapping[str, Document]) -> dict[str, Any]:
    """Return the whole spec that a derived one stands for."""
    own = document.value
    split = own["split"]
    check_reference(document, ("of",), own["of"], documents, "metric")
    base = documents[own["of"]].value
    where = document.where(("of",))
    if "of" in base:
        raise SpecError(
            f"{where}: of is {own['of']!r}, which is itself derived from {base['of']!r}; expected a whole spec"
        )
    for key in ("parameters", "neighbours"):
        named = base.get(key, {}).get("split")
        if named is not None:
            raise SpecError(
                f"{where}: of is {own['of']!r}, whose {key} name the {named} split; "
                f"expected a metric that takes the wells it is given"
            )
    ending, word = _WORDS[split]
    result = {
        **base,
        "label": f"{base['label']}, {ending}",
        "summary": f"{base['summary']} {word} split alone.",
        **{key: value for key, value in own.items() if key != "of"},
    }
    if "neighbours" in base:
        result["neighbours"] = {**base["neighbours"], "split": split}
    if base["kind"] == "aggregate":
        parts = [_part(document, part, documents) for part in base["parameters"]["parts"]]
        result["parameters"] = {**base["parameters"], "parts": parts}
    return result


def _part(document: Document, part: str, documents: Mapping[str, Document]) -> str:
    """Return the id of an aggregate's part on the split of a derived aggregate."""
    base, split = document.value["of"], document.value["split"]
    name = f"{part}_{split}"
    found = documents[name].value if name in documents else {}
    # A whole spec of that name (kbet_test) computes something else than its base does on the split's wells.
    if (found.get("of"), found.get("split")) != (part, split):
        raise SpecError(
            f"{document.where(('of',))}: of is {base!r}, but its part {part!r} is not derived for the {split} "
            f"split; expected a metric {name!r} with of: {part} and split: {split}"
        )
    return name
