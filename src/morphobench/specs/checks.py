"""Checks of specs against each other and against the library's source: one sentence with file, line and key."""

from __future__ import annotations

import ast
import csv
import difflib
from collections.abc import Iterable, Mapping
from functools import cache, reduce
from pathlib import Path
from typing import Any

from morphobench.errors import SpecError
from morphobench.report.cells import expand_cells
from morphobench.specs.digest import PACKAGE, accepted, defined_names, imported_modules, module_path, parsed
from morphobench.specs.lines import Document, Keys
from morphobench.specs.schema import nearest

REPRESENTATIONS = ("representation", "control")
# How alike two names must be for the one to be a misspelling of the other.
_ALIKE = 0.85


def check_reference(where: Document, keys: Keys, name: str, known: Mapping[str, Any], what: str) -> None:
    """Raise SpecError unless ``name`` is among the ``known`` ids."""
    if name not in known:
        hint = nearest(name, list(known)) or f"; known are {', '.join(known) or 'none'}"
        raise SpecError(f"{where.where(keys)}: {keys[-1]} names no {what}: {name!r}{hint}")


def check_callable(document: Document, keys: Keys, parameters: Mapping[str, Any] | None = None) -> None:
    """Raise SpecError unless a ``module:name`` exists and takes the parameters given."""
    target = reduce(lambda part, key: part[key], keys, document.value)
    module, _, name = target.partition(":")
    if not module.startswith(f"{PACKAGE}."):
        return
    if module_path(module) is None:
        raise SpecError(f"{document.where(keys)}: {keys[-1]} is {target!r}, but there is no module {module}")
    if name not in defined_names(module):
        hint = nearest(name, sorted(defined_names(module)))
        raise SpecError(f"{document.where(keys)}: {keys[-1]} is {target!r}, but {module} defines no {name}{hint}")
    known = accepted(module, name)
    if parameters is None or known is None:
        return
    for key in parameters:
        if key not in known:
            hint = nearest(key, known) or f"; it takes {', '.join(known) or 'none'}"
            raise SpecError(f"{document.where(('parameters', key))}: {target} takes no parameter {key!r}{hint}")


def check_dataset(document: Document) -> None:
    """Raise SpecError for an unknown preprocessing step, or an unknown key of a step, reader or simulator."""
    spec = document.value
    check_callable(document, ("simulator",))
    if spec["reader"]:
        check_callable(document, ("reader",))
    if spec.get("images"):
        _check_images(document)
    if not (spec["reader"] or spec.get("images")):
        raise SpecError(f"{document.where(('reader',))}: neither a reader of profiles nor a key 'images'")
    parts = [((), spec), *((("scales", scale), overlay) for scale, overlay in spec["scales"].items())]
    for keys, part in parts:
        for i, step in enumerate(part.get("preprocessing", [])):
            where = (*keys, "preprocessing", i)
            check_reference(document, (*where, "step"), step["step"], _steps(), "preprocessing step")
            _check_keys(document, where, step, _steps()[step["step"]], f"step {step['step']}")
        _check_keys(document, (*keys, "simulate"), part.get("simulate"), _simulator_keys(spec), spec["simulator"])
        if spec["reader"]:
            _check_keys(
                document, (*keys, "reader_options"), part.get("reader_options"), _options(spec), spec["reader"]
            )


def _check_images(document: Document) -> None:
    images = document.value["images"]
    for key in ("lister", "reader"):
        check_callable(document, ("images", key))
    names = [c["name"] for c in images["channels"]]
    if len(set(names)) < len(names):
        raise SpecError(f"{document.where(('images', 'channels'))}: two channels have the same name")
    if not document.value.get("folds"):
        raise SpecError(f"{document.where(('images',))}: a data set of images needs a key 'folds'")
    for scale, overlay in document.value["scales"].items():
        given = overlay.get("images", {}).get("options")
        _check_keys(document, ("scales", scale, "images", "options"), given, list(images["options"]), "images")


def _check_keys(
    document: Document, keys: Keys, given: Mapping[str, Any] | None, known: list[str] | None, what: str
) -> None:
    for key in given or {}:
        if known is not None and key not in known:
            hint = nearest(key, known) or f"; it takes {', '.join(known) or 'none'}"
            raise SpecError(f"{document.where((*keys, key))}: {what} takes no key {key!r}{hint}")


@cache
def _steps() -> dict[str, list[str]]:
    """Return the keys of every preprocessing step, read from the source of its class."""
    found = {}
    for node in (n for n in parsed(f"{PACKAGE}.preprocessing.steps").body if isinstance(n, ast.ClassDef)):
        names = {
            n.target.id: n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
        }
        if "step" in names:
            keys = [k for k, n in names.items() if "ClassVar" not in ast.unparse(n.annotation)]
            found[ast.literal_eval(names["step"].value)] = ["step", "scope", *keys]
    return found


def _simulator_keys(spec: Mapping[str, Any]) -> list[str] | None:
    """Return the fields of the dataclass ``Parameters`` that a simulator's module has or imports, and ``seed``."""
    module = spec["simulator"].partition(":")[0]
    for candidate in (module, *sorted(imported_modules(module))) if module_path(module) else ():
        if "Parameters" in defined_names(candidate):
            return [*(accepted(candidate, "Parameters") or []), "seed"]
    return None


def _options(spec: Mapping[str, Any]) -> list[str] | None:
    """Return the options that a reader accepts: what it hands to ``refuse_unknown_options``."""
    module = spec["reader"].partition(":")[0]
    if module_path(module) is None:
        return None
    constants = {
        n.targets[0].id: n.value
        for n in parsed(module).body
        if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
    }
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "refuse_unknown_options":
            names = constants.get(getattr(node.args[1], "id", ""), node.args[1])
            return [n for n in ast.literal_eval(names) if n != "plates"]
    return None


def check_table(document: Document, documents: Mapping[str, Any], published: Path) -> None:
    """Raise SpecError unless a table's rows, columns, data set and published numbers exist, each row once."""
    table = document.value
    check_reference(document, ("dataset",), table["dataset"], documents["datasets"], "dataset")
    for b, block in enumerate(table["blocks"]):
        given = block["published"] if "published" in block else table.get("published")
        keys = ("blocks", b, "published") if "published" in block else ("published",)
        names = _published_names(document, keys, given, published)
        evaluations: dict[tuple[str, str], str] = {}
        for r, row in enumerate(block["rows"]):
            where = ("blocks", b, "rows", r)
            _check_row(document, where, row, documents["methods"])
            evaluation = (row.get("method", ""), row.get("correction", "none"))
            if "method" in row and evaluation in evaluations:
                raise SpecError(
                    f"{document.where(where)}: row {row['row']!r} is the same method and correction as row "
                    f"{evaluations[evaluation]!r}"
                )
            evaluations[evaluation] = row["row"]
            if "published_row" in row and given and row["published_row"] not in names["row"]:
                hint = nearest(row["published_row"], sorted(names["row"]))
                raise SpecError(
                    f"{document.where((*where, 'published_row'))}: no published row "
                    f"{row['published_row']!r} in {given['file']}{hint}"
                )
            if "published_row" not in row:
                _check_spelling(document, (*where, "row"), row["row"], names["row"])
        for c, column in enumerate(block["columns"]):
            where = ("blocks", b, "columns", c)
            metric = column["metric"].partition("@")[0]
            check_reference(document, (*where, "metric"), metric, documents["metrics"], "metric")
            _check_spelling(document, (*where, "column"), column["column"], names["column"])
    try:
        expand_cells(table)
    except SpecError as error:
        raise SpecError(f"{document.where(('blocks',))}: {error}") from error


def _check_spelling(document: Document, keys: Keys, name: str, published: Iterable[str]) -> None:
    # A row or column that nearly has a published name would silently lose its published numbers.
    close = difflib.get_close_matches(name, list(published), n=1, cutoff=_ALIKE)
    if close and close[0] != name and name not in published:
        raise SpecError(
            f"{document.where(keys)}: {keys[-1]} {name!r} is not among the published names; "
            f"did you mean {close[0]!r}?"
        )


def _check_row(document: Document, keys: Keys, row: Mapping[str, Any], methods: Mapping[str, Document]) -> None:
    if "difference" in row:
        named = [(("difference", i), m) for i, m in enumerate(row["difference"])]
    elif "method" in row:
        named = [(("method",), row["method"])]
    else:
        raise SpecError(f"{document.where(keys)}: row {row['row']!r} names no method; expected a key 'method'")
    for key, method in named:
        check_reference(document, (*keys, *key), method, methods, "method")
        if methods[method].value["kind"] not in REPRESENTATIONS:
            raise SpecError(
                f"{document.where((*keys, *key))}: method {method!r} is a {methods[method].value['kind']}, "
                f"expected a representation or control"
            )
        takes = methods[method].value.get("datasets", "all")
        if takes != "all" and document.value["dataset"] not in takes:
            raise SpecError(
                f"{document.where((*keys, *key))}: method {method!r} cannot take dataset "
                f"{document.value['dataset']!r}; it takes {', '.join(takes)}"
            )
    correction = row.get("correction", "none")
    check_reference(document, (*keys, "correction"), correction, methods, "correction")
    if methods[correction].value["kind"] != "correction":
        raise SpecError(
            f"{document.where((*keys, 'correction'))}: {correction!r} is a {methods[correction].value['kind']}, "
            f"expected a correction"
        )


def _published_names(
    document: Document, keys: Keys, published: Mapping[str, Any] | None, folder: Path
) -> dict[str, set[str]]:
    """Return the row and column names of a published table; SpecError if the file or the table is not there."""
    if not published:
        return {"row": set(), "column": set()}
    path = folder / published["file"]
    if not path.is_file():
        known = [p.name for p in folder.glob("*.csv")]
        raise SpecError(f"{document.where((*keys, 'file'))}: no file {path}{nearest(published['file'], known)}")
    with open(path, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    found = [row for row in rows if row["table"] == published["table"]]
    if not found:
        hint = nearest(published["table"], sorted({row["table"] for row in rows}))
        raise SpecError(
            f"{document.where((*keys, 'table'))}: {path.name} has no table {published['table']!r}{hint}"
        )
    return {name: {row[name] for row in found} for name in ("row", "column")}
