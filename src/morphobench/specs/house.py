"""The house: configuration and all specs, read, validated and resolved for one scale."""

from __future__ import annotations

import ast
import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphobench.errors import SpecError
from morphobench.specs.digest import PACKAGE, _tree, defined_names, module_path
from morphobench.specs.lines import Document, Keys, load_yaml
from morphobench.specs.schema import check, nearest

KINDS = ("datasets", "methods", "metrics", "tables", "figures")
REPRESENTATIONS = ("representation", "control")


@dataclass(frozen=True)
class House:
    """Everything the workflow knows before it plans a single job.

    Attributes
    ----------
    root
        The workflow's folder.
    config
        The validated configuration.
    datasets, methods, metrics, tables, figures
        Specs by id; datasets are resolved for the configuration's scale and mirror.
    """

    root: Path
    config: dict[str, Any]
    datasets: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    tables: dict[str, dict[str, Any]]
    figures: dict[str, dict[str, Any]]


def merged(base: Any, overlay: Any) -> Any:
    """Return ``base`` with ``overlay`` laid over it: mappings key by key, everything else replaced."""
    if isinstance(base, Mapping) and isinstance(overlay, Mapping):
        keys = [*base, *(k for k in overlay if k not in base)]
        return {
            k: merged(base[k], overlay[k]) if k in base and k in overlay else {**base, **overlay}[k] for k in keys
        }
    return overlay


def load_house(
    root: str | Path, config: Mapping[str, Any] | None = None, config_files: Iterable[str | Path] = ()
) -> House:
    """Read and validate the configuration and every spec.

    Parameters
    ----------
    root
        The workflow's folder, with ``config.yaml``, ``specs/`` and ``workflow/schemas/``.
    config
        The merged configuration, command line included; None takes ``config.yaml`` as it is.
    config_files
        Further configuration files that were merged; validated for themselves so that errors have lines.

    Raises
    ------
    SpecError
        One sentence with file, line and key.
    """
    root = Path(root)
    schemas = root / "workflow" / "schemas"
    for path in [root / "config.yaml", *config_files]:
        check(load_yaml(path), schemas / "config.schema.yaml")
    if config is None:
        config = load_yaml(root / "config.yaml").value
    config = {k: _typed(k, v) for k, v in config.items() if v is not None or k == "mirror"}
    command_line = Document(Path("the configuration (config.yaml with --config and --configfile)"), config)
    check(command_line, schemas / "config.schema.yaml")
    documents = {kind: _read_kind(root, kind, schemas) for kind in KINDS}
    _check_config(config, documents, command_line)
    for document in documents["methods"].values():
        _check_callable(document, ("class",), parameters=document.value["parameters"])
    for document in documents["metrics"].values():
        _check_callable(document, ("function",), parameters=document.value["parameters"])
    for document in documents["datasets"].values():
        _check_callable(document, ("reader",))
        _check_callable(document, ("simulator",))
        _check_steps(document)
    for document in documents["tables"].values():
        _check_table(document, documents, root / "specs" / "published")
    for document in documents["figures"].values():
        _check_reference(document, ("table",), document.value["table"], documents["tables"], "table")
    specs = {kind: {i: d.value for i, d in docs.items()} for kind, docs in documents.items()}
    specs["datasets"] = {i: resolve_dataset(s, config) for i, s in specs["datasets"].items()}
    return House(root=root, config=dict(config), **specs)


def resolve_dataset(spec: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataset's spec with its overlay for the configuration's scale laid over it.

    ``source`` becomes ``real`` or ``simulated``: ``real_if_mirror`` is real when the configuration names a
    mirror, and simulated otherwise, so that a machine without network still makes every table.
    """
    overlay = spec["scales"][config["scale"]]
    resolved = merged({k: v for k, v in spec.items() if k != "scales"}, overlay)
    if resolved["source"] == "real_if_mirror":
        resolved["source"] = "real" if config.get("mirror") else "simulated"
    return resolved


def _typed(key: str, value: Any) -> Any:
    # Snakemake hands the items of a list on the command line over as text: --config seeds=[0].
    if key == "seeds" and isinstance(value, list):
        return [int(v) if isinstance(v, str) and v.isdigit() else v for v in value]
    return value


def _read_kind(root: Path, kind: str, schemas: Path) -> dict[str, Document]:
    documents = {}
    for path in sorted((root / "specs" / kind).glob("*.yaml")):
        document = load_yaml(path)
        check(document, schemas / f"{kind.removesuffix('s')}.schema.yaml")
        if document.value["id"] != path.stem:
            raise SpecError(
                f"{document.where(('id',))}: id is {document.value['id']!r}, "
                f"expected {path.stem!r} as the file's name"
            )
        documents[path.stem] = document
    return documents


def _check_config(config: Mapping[str, Any], documents: Mapping[str, Any], where: Document) -> None:
    mirror = config.get("mirror")
    if mirror and not mirror.startswith(("http://", "https://")) and not Path(mirror).is_dir():
        raise SpecError(
            f"{where.path}: mirror is {mirror!r}, which is no folder here; "
            f"expected a folder or base URL with copies in the layout <host>/<path>, or nothing"
        )
    if config["tables"] != "all":
        for table in config["tables"]:
            _check_reference(where, ("tables",), table, documents["tables"], "table")


def _check_reference(where: Document, keys: Keys, name: str, known: Mapping[str, Any], what: str) -> None:
    if name not in known:
        hint = nearest(name, list(known)) or f"; known are {', '.join(known) or 'none'}"
        raise SpecError(f"{where.where(keys)}: {keys[-1]} names no {what}: {name!r}{hint}")


def _check_callable(document: Document, keys: Keys, parameters: Mapping[str, Any] | None = None) -> None:
    target = document.value[keys[-1]]
    module, _, name = target.partition(":")
    if not module.startswith(f"{PACKAGE}."):
        return
    if module_path(module) is None:
        raise SpecError(f"{document.where(keys)}: {keys[-1]} is {target!r}, but there is no module {module}")
    if name not in defined_names(module):
        hint = nearest(name, sorted(defined_names(module)))
        raise SpecError(f"{document.where(keys)}: {keys[-1]} is {target!r}, but {module} defines no {name}{hint}")
    accepted = _accepted(module, name)
    if parameters is None or accepted is None:
        return
    for key in parameters:
        if key not in accepted:
            hint = nearest(key, accepted) or f"; it takes {', '.join(accepted) or 'none'}"
            raise SpecError(f"{document.where(('parameters', key))}: {target} takes no parameter {key!r}{hint}")


def _accepted(module: str, name: str) -> list[str] | None:
    """Return the parameters that a function or class takes, read from its source; None if that cannot tell."""
    node = next(n for n in _tree(module).body if getattr(n, "name", None) == name)
    if isinstance(node, ast.ClassDef):
        init = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not init:
            fields = [
                n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
            ]
            return fields if any("dataclass" in ast.unparse(d) for d in node.decorator_list) else None
        node = init[0]
    arguments = node.args
    if arguments.kwarg:
        return None
    names = [a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]
    return [n for n in names if n not in ("self", "evaluation", "scores", "seed")]


def _check_steps(document: Document) -> None:
    registered = _registered_steps()
    lists = [(("preprocessing",), document.value["preprocessing"])]
    lists += [
        (("scales", scale, "preprocessing"), overlay["preprocessing"])
        for scale, overlay in document.value["scales"].items()
        if "preprocessing" in overlay
    ]
    for keys, steps in lists:
        for i, step in enumerate(steps):
            _check_reference(document, (*keys, i, "step"), step["step"], registered, "preprocessing step")


def _registered_steps() -> dict[str, None]:
    """Return the names of the preprocessing steps, read from their classes' source."""
    module = f"{PACKAGE}.preprocessing.steps"
    names = {}
    for node in (n for n in _tree(module).body if isinstance(n, ast.ClassDef)):
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and getattr(item.target, "id", None) == "step":
                names[ast.literal_eval(item.value)] = None
    return names


def _check_table(document: Document, documents: Mapping[str, Any], published: Path) -> None:
    table = document.value
    _check_reference(document, ("dataset",), table["dataset"], documents["datasets"], "dataset")
    _check_published(document, ("published",), table.get("published"), published)
    for b, block in enumerate(table["blocks"]):
        _check_published(document, ("blocks", b, "published"), block.get("published"), published)
        for r, row in enumerate(block["rows"]):
            _check_row(document, ("blocks", b, "rows", r), row, documents["methods"])
        for c, column in enumerate(block["columns"]):
            keys = ("blocks", b, "columns", c, "metric")
            _check_reference(document, keys, column["metric"].partition("@")[0], documents["metrics"], "metric")


def _check_row(document: Document, keys: Keys, row: Mapping[str, Any], methods: Mapping[str, Document]) -> None:
    if "difference" in row:
        named = [(("difference", i), m) for i, m in enumerate(row["difference"])]
    elif "method" in row:
        named = [(("method",), row["method"])]
    else:
        raise SpecError(f"{document.where(keys)}: row {row['row']!r} names no method; expected a key 'method'")
    for key, method in named:
        _check_reference(document, (*keys, *key), method, methods, "method")
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
    _check_reference(document, (*keys, "correction"), correction, methods, "correction")
    if methods[correction].value["kind"] != "correction":
        raise SpecError(
            f"{document.where((*keys, 'correction'))}: {correction!r} is a {methods[correction].value['kind']}, "
            f"expected a correction"
        )


def _check_published(document: Document, keys: Keys, published: Mapping[str, Any] | None, folder: Path) -> None:
    if not published:
        return
    path = folder / published["file"]
    if not path.is_file():
        known = [p.name for p in folder.glob("*.csv")]
        raise SpecError(f"{document.where((*keys, 'file'))}: no file {path}{nearest(published['file'], known)}")
    with open(path, newline="", encoding="utf-8") as stream:
        tables = {row["table"] for row in csv.DictReader(stream)}
    if published["table"] not in tables:
        raise SpecError(
            f"{document.where((*keys, 'table'))}: {path.name} has no table {published['table']!r}"
            f"{nearest(published['table'], sorted(tables))}"
        )
