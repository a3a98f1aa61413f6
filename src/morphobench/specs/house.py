"""The house: configuration and all specs, read, validated and resolved for one scale."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from morphobench.errors import SpecError, nearest
from morphobench.report.claims import read_claims
from morphobench.specs.checks import check_dataset, check_reference, check_table
from morphobench.specs.figures import check_figure
from morphobench.specs.lines import Document, load_yaml
from morphobench.specs.methods import resolve_methods
from morphobench.specs.metrics import resolve_metrics
from morphobench.specs.schema import check

KINDS = ("datasets", "weights", "methods", "metrics", "tables", "figures")


@dataclass(frozen=True)
class House:
    """Everything the workflow knows before it plans a single job.

    Attributes
    ----------
    root
        The workflow's folder.
    config
        The validated configuration.
    datasets, weights, methods, metrics, tables, figures
        Specs by id; datasets, methods and tables are resolved for the configuration's scale, datasets also for its
        mirror; metrics derived from others are whole.
    """

    root: Path
    config: dict[str, Any]
    datasets: dict[str, dict[str, Any]]
    weights: dict[str, dict[str, Any]]
    methods: dict[str, dict[str, Any]]
    metrics: dict[str, dict[str, Any]]
    tables: dict[str, dict[str, Any]]
    figures: dict[str, dict[str, Any]]

    def method_on(self, method: str, dataset: str) -> dict[str, Any]:
        """Return a method's spec as it is on a data set."""
        spec = self.methods[method]
        return {k: v for k, v in spec["on"].get(dataset, spec).items() if k != "on"}


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
        The merged configuration, command line included; what it lacks is taken from ``config.yaml``.
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
    defaults = load_yaml(root / "config.yaml").value
    config = {**defaults, **(config or {})}
    config = {k: _typed(k, v) for k, v in config.items() if v is not None or k == "mirror"}
    command_line = Document(Path("the configuration (config.yaml with --config and --configfile)"), config)
    check(command_line, schemas / "config.schema.yaml")
    documents = {kind: _read_kind(root, kind, schemas) for kind in KINDS}
    _check_config(config, documents, command_line)
    methods = resolve_methods(documents, config["scale"])
    documents["metrics"] = resolve_metrics(documents["metrics"])
    for document in documents["datasets"].values():
        check_dataset(document)
    for document in documents["tables"].values():
        check_table(document, documents, root / "specs" / "published")
    for document in documents["figures"].values():
        check_figure(document, documents)
    read_claims(root / "specs" / "claims.csv", root / "specs" / "published")
    specs = {kind: {i: d.value for i, d in docs.items()} for kind, docs in documents.items()}
    specs["datasets"] = {i: resolve_dataset(s, config) for i, s in specs["datasets"].items()}
    specs["methods"] = methods
    specs["tables"] = {i: _table_at_scale(s, config["scale"]) for i, s in specs["tables"].items()}
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
    resolved.setdefault("images", None)
    resolved.setdefault("folds", None)
    resolved.setdefault("preprocessing_model", None)
    resolved.setdefault("evaluated_wells", "all")
    resolved["local"] = (config.get("local") or {}).get(spec["id"])
    if resolved["local"]:
        # The user's files take the place of simulated ones, and so do the addresses of the fixed ones.
        resolved |= {"source": "real", "files": spec["files"]}
        if "local_root" in (resolved["images"] or {}).get("options", {}):
            resolved = merged(resolved, {"images": {"options": {"local_root": resolved["local"]}}})
    return _with_subset(resolved, (config.get("subset") or {}).get(spec["id"], {}))


def _table_at_scale(spec: Mapping[str, Any], scale: str) -> dict[str, Any]:
    plain = {k: v for k, v in spec.items() if k != "scales"}
    return {"folds": 1, **merged(plain, spec.get("scales", {}).get(scale, {}))}


def _with_subset(spec: dict[str, Any], subset: Mapping[str, Any]) -> dict[str, Any]:
    where = f"the configuration: subset.{spec['id']}"
    if not subset:
        return spec
    if spec["images"]:
        choices = (spec["plates"] or {}).get("select") or {}
        known = tuple(dict.fromkeys(("units", *spec["images"]["options"], *choices)))
        all_units = spec["images"]["units"]
        units = subset.get("units", all_units)
        for unit in units:
            if unit not in all_units:
                hint = nearest(unit, all_units)
                raise SpecError(
                    f"{where}.units names {unit!r}, expected one of the {len(all_units)} units of this scale{hint}"
                )
        options = {k: _unquoted(v) for k, v in subset.items() if k != "units"}
        # What images and measured profiles share, they share also in part.
        changed = {"images": {"units": list(units), "options": options}}
        if choices:
            changed["plates"] = {"select": _whole_scenario({k: v for k, v in options.items() if k in choices})}
            changed["images"]["options"] = {k: v for k, v in options.items() if k in spec["images"]["options"]}
    elif spec["plates"]:
        known = tuple(spec["plates"]["select"])
        # Plates may have numbers as names, so only what stands alone is taken for a number.
        select = {k: v if isinstance(v, list) else _unquoted(v) for k, v in subset.items()}
        changed = {"plates": {"select": _whole_scenario(select)}}
    else:
        raise SpecError(f"{where}: this data set is small and has no parts to choose from")
    for key in subset:
        if key not in known:
            raise SpecError(
                f"{where} has no key {key!r}{nearest(key, list(known)) or '; it takes ' + ', '.join(known)}"
            )
    return merged(spec, changed)


def _whole_scenario(select: dict[str, Any]) -> dict[str, Any]:
    # A scenario is sources and types of plates: those of the spec give way to it, those named beside it do not.
    return {"sources": None, "plate_types": None, **select} if select.get("scenario") is not None else select


def _unquoted(value: Any) -> Any:
    # Below its first level Snakemake hands the command line over as text: --config 'subset={x: {max_tiles: 4}}'.
    if isinstance(value, list):
        return [_unquoted(v) for v in value]
    if isinstance(value, str) and re.fullmatch(r"null|true|false|-?(0|[1-9]\d*)(\.\d+)?(e-?\d+)?", value):
        return json.loads(value)
    return value


def _typed(key: str, value: Any) -> Any:
    # Snakemake hands the items of a list on the command line over as text: --config seeds=[0].
    if key == "seeds" and isinstance(value, list):
        return [int(v) if isinstance(v, str) and v.isdigit() else v for v in value]
    # And so the words of YAML, unless they are spelt as Python's.
    if key == "keep_raw" and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


def _read_kind(root: Path, kind: str, schemas: Path) -> dict[str, Document]:
    documents = {}
    for path in sorted((root / "specs" / kind).glob("*.yaml")):
        document = load_yaml(path)
        name = "weights" if kind == "weights" else kind.removesuffix("s")
        check(document, schemas / f"{name}.schema.yaml")
        if document.value["id"] != path.stem:
            raise SpecError(
                f"{document.where(('id',))}: id is {document.value['id']!r}, "
                f"expected {path.stem!r} as the file's name"
            )
        documents[path.stem] = document
    return documents


def _check_config(config: Mapping[str, Any], documents: Mapping[str, Any], where: Document) -> None:
    mirror = config.get("mirror")
    if mirror and not mirror.startswith(("http://", "https://", "s3://")) and not Path(mirror).is_dir():
        raise SpecError(
            f"{where.path}: mirror is {mirror!r}, which is no folder here; "
            f"expected a folder or base URL with copies in the layout <host>/<path>, or nothing"
        )
    for key in ("local", "subset"):
        for dataset in config.get(key) or {}:
            check_reference(where, (key, dataset), dataset, documents["datasets"], "data set")
    for dataset, folder in (config.get("local") or {}).items():
        if not Path(folder).is_dir():
            raise SpecError(f"{where.path}: local.{dataset} is {folder!r}, which is no folder here")
        if not documents["datasets"][dataset].value.get("images"):
            raise SpecError(
                f"{where.path}: local.{dataset}: only images are read where they lie; for this data set set "
                f"a mirror, a folder with copies (or links to them) in the layout <host>/<path>"
            )
    for name, path in (config.get("weights") or {}).items():
        check_reference(where, ("weights", name), name, documents["weights"], "file of weights")
        if not Path(path).is_file():
            raise SpecError(f"{where.path}: weights.{name} is {path!r}, which is no file here")
    if config["tables"] != "all":
        for table in config["tables"]:
            check_reference(where, ("tables",), table, documents["tables"], "table")
