"""Checks of figure specs against the tables, data sets and methods that they name."""

from __future__ import annotations

from collections.abc import Mapping

from morphobench.errors import SpecError
from morphobench.report.figures_rows import shown_rows
from morphobench.specs.checks import REPRESENTATIONS, check_reference
from morphobench.specs.lines import Document


def check_figure(document: Document, documents: Mapping[str, Mapping[str, Document]]) -> None:
    """Raise SpecError unless a figure's table or data set exists, and its panels' methods and corrections."""
    spec = document.value
    kind = "table" if "table" in spec else "dataset"
    check_reference(document, (kind,), spec[kind], documents[f"{kind}s"], kind)
    if kind == "dataset" and not documents["datasets"][spec["dataset"]].value.get("images"):
        raise SpecError(f"{document.where((kind,))}: data set {spec[kind]!r} has no images")
    if "montage" in spec and spec["kind"] != "screen":
        raise SpecError(f"{document.where(('montage',))}: a montage is for figures of kind screen")
    for name, panel in spec.get("panels", {}).items():
        keys = ("panels", name)
        for i, row in enumerate(panel.get("rows", [])):
            if isinstance(row, Mapping):
                _check_methods(document, (*keys, "rows", i), row, documents["methods"])
        for i, band in enumerate(panel.get("corrections", [])):
            _check_methods(document, (*keys, "corrections", i), band, documents["methods"])
        try:
            shown_rows(panel, documents["tables"][spec["table"]].value)
        except SpecError as error:
            raise SpecError(f"{document.where(keys)}: {error}") from error


def _check_methods(document: Document, keys: tuple, named: Mapping, methods: Mapping[str, Document]) -> None:
    for key, kinds in (("method", REPRESENTATIONS), ("correction", ("correction",))):
        if key not in named:
            continue
        check_reference(document, (*keys, key), named[key], methods, key)
        # A spec that extends another may leave its kind to it.
        kind = methods[named[key]].value.get("kind")
        if kind is not None and kind not in kinds:
            raise SpecError(f"{document.where((*keys, key))}: {named[key]!r} is a {kind}, expected {kinds[0]}")
