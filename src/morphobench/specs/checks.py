"""Checks of specs against each other and against the library's source: one sentence with file, line and key."""

from __future__ import annotations

import ast
import csv
import difflib
from collections.abc import Iterable, Mapping
from functools import cache, reduce
from pathlib import Path
from typing import Any

from morphobench.errors import SpecError, nearest
from morphobench.report.cells import Cell, expand_cells, expand_columns
from morphobench.report.published import read_published, unit_factor
from morphobench.specs.digest import PACKAGE, accepted, defined_names, imported_modules, module_path, parsed
from morphobench.specs.lines import Document, Keys

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
    check_parameters(document, (), target, parameters or {})


def check_parameters(document: Document, keys: Keys, target: str, parameters: Mapping[str, Any]) -> None:
    """Raise SpecError unless a ``module:name`` of this package takes the ``parameters`` that stand below a key."""
    module, _, name = target.partition(":")
    known = accepted(module, name) if module.startswith(f"{PACKAGE}.") else None
    for key in parameters if known is not None else ():
        if key not in known:
            hint = nearest(key, known) or f"; it takes {', '.join(known) or 'none'}"
            where = document.where((*keys, "parameters", key))
            raise SpecError(f"{where}: {target} takes no parameter {key!r}{hint}")


def check_dataset(document: Document) -> None:
    """Raise SpecError for an unknown preprocessing step, or an unknown key of a step, reader or simulator."""
    spec = document.value
    check_callable(document, ("simulator",))
    if spec["reader"]:
        check_callable(document, ("reader",))
    if spec.get("images"):
        _check_images(document)
    if spec.get("preprocessing_model") and not spec["reader"]:
        raise SpecError(f"{document.where(('preprocessing_model',))}: there is no reader of profiles to prepare")
    if not (spec["reader"] or spec.get("images")):
        raise SpecError(f"{document.where(('reader',))}: neither a reader of profiles nor a key 'images'")
    parts = [((), spec), *((("scales", scale), overlay) for scale, overlay in spec["scales"].items())]
    for keys, part in parts:
        for branch in ("preprocessing", "preprocessing_model"):
            for i, step in enumerate(part.get(branch, [])):
                where = (*keys, branch, i)
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
    _check_folds(document, documents["datasets"][table["dataset"]].value)
    for b, block in enumerate(table["blocks"]):
        given = block["published"] if "published" in block else table.get("published")
        keys = ("blocks", b, "published") if "published" in block else ("published",)
        names = _published_names(document, keys, given, published)
        for c, column in enumerate(block["columns"]):
            where = ("blocks", b, "columns", c)
            metric = column["metric"].partition("@")[0]
            check_reference(document, (*where, "metric"), metric, documents["metrics"], "metric")
            _check_spelling(document, (*where, "column"), column["column"], names["column"])
            if "correction" in column:
                _check_correction(document, where, column["correction"], documents["methods"])
        for r, row in enumerate(block["rows"]):
            where = ("blocks", b, "rows", r)
            _check_row(document, where, row, block, documents["methods"])
            if "published_row" in row and given and row["published_row"] not in names["row"]:
                hint = nearest(row["published_row"], sorted(names["row"]))
                raise SpecError(
                    f"{document.where((*where, 'published_row'))}: no published row "
                    f"{row['published_row']!r} in {given['file']}{hint}"
                )
            if "published_row" not in row:
                _check_spelling(document, (*where, "row"), row["row"], names["row"])
    try:
        cells = expand_cells(table)
    except SpecError as error:
        raise SpecError(f"{document.where(('blocks',))}: {error}") from error
    for b, block in enumerate(table["blocks"]):
        mine = [cell for cell in cells if cell.block == block["id"]]
        _check_twins(document, b, block, mine)
        _check_units(document, b, mine, documents["metrics"], published)


def _check_folds(document: Document, dataset: Mapping[str, Any]) -> None:
    parts = [((), document.value)]
    parts += [(("scales", scale), overlay) for scale, overlay in document.value.get("scales", {}).items()]
    for keys, part in parts:
        if part.get("folds", 1) > 1 and not dataset.get("folds"):
            raise SpecError(
                f"{document.where((*keys, 'folds'))}: folds is {part['folds']}, but data set "
                f"{document.value['dataset']!r} has no folds; expected 1"
            )


def _check_twins(document: Document, b: int, block: Mapping[str, Any], cells: list[Cell]) -> None:
    """Raise SpecError for two rows of a block that have the same methods and corrections in all its columns."""
    seen: dict[tuple[Any, ...], str] = {}
    width = len(expand_columns(block))
    for r, row in enumerate(block["rows"]):
        evaluations = tuple((c.methods, c.correction) for c in cells[r * width : (r + 1) * width])
        if "difference" not in row and evaluations in seen:
            raise SpecError(
                f"{document.where(('blocks', b, 'rows', r))}: row {row['row']!r} is the same method and "
                f"correction as row {seen[evaluations]!r}"
            )
        seen[evaluations] = row["row"]


def _check_units(
    document: Document, b: int, cells: list[Cell], metrics: Mapping[str, Document], folder: Path
) -> None:
    """Raise SpecError for a metric whose numbers cannot stand above the published ones of its column."""
    # What a difference is given in has a name of its own.
    beside = [cell for cell in cells if cell.published and len(cell.methods) == 1]
    numbers = {source: read_published(folder, *source) for source in {c.published[:2] for c in beside}}
    for cell in beside:
        column = (cell.setting, cell.column)
        found = next((p.unit for k, p in numbers[cell.published[:2]].items() if k[1:] == column), None)
        unit = metrics[cell.metric_id].value["unit"]
        if found is not None and unit_factor(unit, found) is None:
            raise SpecError(
                f"{document.where(('blocks', b, 'columns'))}: column {cell.column!r} is published in {found}, but "
                f"metric {cell.metric_id!r} is in {unit}"
            )


def _check_spelling(document: Document, keys: Keys, name: str, published: Iterable[str]) -> None:
    # A row or column that nearly has a published name would silently lose its published numbers.
    close = difflib.get_close_matches(name, list(published), n=1, cutoff=_ALIKE)
    if close and close[0] != name and name not in published:
        raise SpecError(
            f"{document.where(keys)}: {keys[-1]} {name!r} is not among the published names; "
            f"did you mean {close[0]!r}?"
        )


def _check_row(
    document: Document,
    keys: Keys,
    row: Mapping[str, Any],
    block: Mapping[str, Any],
    methods: Mapping[str, Document],
) -> None:
    named: list[tuple[Keys, str]] = [(("methods", setting), m) for setting, m in row.get("methods", {}).items()]
    if "difference" in row:
        named = [(("difference", i), m) for i, m in enumerate(row["difference"])]
    elif "method" in row:
        named.append((("method",), row["method"]))
    if not named:
        raise SpecError(f"{document.where(keys)}: row {row['row']!r} names no method; expected a key 'method'")
    if "difference" in row and "methods" in row:
        raise SpecError(f"{document.where(keys)}: row {row['row']!r} has 'difference' and 'methods'; expected one")
    settings = list(dict.fromkeys(column["setting"] for column in expand_columns(block)))
    for setting in row.get("methods", {}):
        if setting not in settings:
            hint = nearest(setting, settings) or f"; settings are {', '.join(settings)}"
            raise SpecError(
                f"{document.where((*keys, 'methods', setting))}: no column has setting {setting!r}{hint}"
            )
    for key, method in named:
        _check_method(document, (*keys, *key), method, methods)
    _check_correction(document, keys, row.get("correction", "none"), methods)


def _check_method(document: Document, keys: Keys, method: str, methods: Mapping[str, Document]) -> None:
    check_reference(document, keys, method, methods, "method")
    kind, takes = _stated(methods, method, "kind"), _stated(methods, method, "datasets") or "all"
    if kind not in REPRESENTATIONS:
        raise SpecError(
            f"{document.where(keys)}: method {method!r} is a {kind}, expected a representation or control"
        )
    if takes != "all" and document.value["dataset"] not in takes:
        raise SpecError(
            f"{document.where(keys)}: method {method!r} cannot take dataset "
            f"{document.value['dataset']!r}; it takes {', '.join(takes)}"
        )


def _check_correction(document: Document, keys: Keys, correction: str, methods: Mapping[str, Document]) -> None:
    check_reference(document, (*keys, "correction"), correction, methods, "correction")
    kind = _stated(methods, correction, "kind")
    if kind != "correction":
        raise SpecError(
            f"{document.where((*keys, 'correction'))}: {correction!r} is a {kind}, expected a correction"
        )


def _stated(methods: Mapping[str, Document], name: str, key: str) -> Any:
    """Return what a method's spec says under a key, or the spec that it extends; None if neither does."""
    seen: set[str] = set()
    while name in methods and name not in seen:
        seen.add(name)
        if key in methods[name].value:
            return methods[name].value[key]
        name = methods[name].value.get("extends", "")
    return None


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
