"""Digests of the code behind a rule, so that editing the library reruns what depends on it and nothing else.

Thin scripts over an installed package hide the package from the workflow: without a digest among a rule's
params, an edited metric would leave stale numbers in the tables. The digest covers a module and every module of
this package that it imports, found by reading the source, never by importing it. Docstrings, comments and
layout do not count.
"""

from __future__ import annotations

import ast
import atexit
import hashlib
import json
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from morphobench.files import write_text

PACKAGE = "morphobench"
# Marks outlines that are not on disk yet; no digest of a source is empty.
_CHANGED = ""
_SOURCE = Path(__file__).resolve().parents[1]
# What every module may import without being a different computation because of it.
_NEUTRAL = {f"{PACKAGE}.errors", PACKAGE}


def module_path(module: str) -> Path | None:
    """Return the source file of a module of this package, or None if there is none."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    base = _SOURCE.joinpath(*parts[1:])
    if base.with_suffix(".py").is_file() and parts[1:]:
        return base.with_suffix(".py")
    return base / "__init__.py" if (base / "__init__.py").is_file() else None


@cache
def parsed(module: str) -> ast.Module:
    """Return the syntax tree of a module of this package."""
    path = module_path(module)
    if path is None:
        raise ValueError(f"{module} is no module of {PACKAGE}")
    return ast.parse(path.read_bytes(), filename=str(path))


@cache
def defined_names(module: str) -> frozenset[str]:
    """Return the names of the functions and classes that a module defines at its top level."""
    return frozenset(_outline(module)["names"])


def accepted(module: str, name: str) -> list[str] | None:
    """Return the parameters that a function or class takes, without what every caller gives; None if unknown.

    Those of a data class include what it inherits from data classes of this package.
    """
    outline = _outline(module)
    own = outline["accepted"][name]
    for base in outline["bases"].get(name, []) if own is not None else ():
        origin = module if base in outline["names"] else _origin(module, base)
        inherited = accepted(origin, base) if origin else None
        own = [*(inherited or []), *(n for n in own if n not in (inherited or []))]
    return own


def _origin(module: str, name: str) -> str | None:
    """Return the module of this package that ``module`` imports ``name`` from; None if there is none."""
    for level, base, names in _outline(module)["from"]:
        if name in names and not level and module_path(base) is not None and name in defined_names(base):
            return base
    return None


@cache
def imported_modules(module: str) -> frozenset[str]:
    """Return the modules of this package that ``module`` imports, at its top or inside functions."""
    path = module_path(module)
    package = module if path and path.name == "__init__.py" else module.rpartition(".")[0]
    found = set(_outline(module)["imports"])
    for level, base, names in _outline(module)["from"]:
        if level:
            parent = package.split(".")[: len(package.split(".")) - level + 1]
            base = ".".join([*parent, base] if base else parent)
        found |= {base, *(f"{base}.{name}" for name in names)}
    return frozenset(m for m in found if m.split(".")[0] == PACKAGE and module_path(m) is not None)


@cache
def closure(module: str) -> tuple[str, ...]:
    """Return ``module`` and all modules of this package that it reaches by imports, sorted."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        current = todo.pop()
        if current in seen or (current in _NEUTRAL and current != module):
            continue
        seen.add(current)
        todo.extend(imported_modules(current))
    return tuple(sorted(seen))


@cache
def _outline(module: str) -> dict[str, Any]:
    """Return what a module's source says: its digest, the names it defines, what these take, what it imports."""
    path = module_path(module)
    if path is None:
        raise ValueError(f"{module} is no module of {PACKAGE}")
    known = _known()
    key = hashlib.sha256(path.read_bytes()).hexdigest()
    if key not in known:
        known[key] = _read_outline(parsed(module))
        known[_CHANGED] = {}
    return known[key]


def _read_outline(tree: ast.Module) -> dict[str, Any]:
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    names = [n.name for n in tree.body if isinstance(n, kinds)]
    imports: list[str] = []
    imports_from: list[tuple[int, str, list[str]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports_from.append((node.level, node.module or "", [alias.name for alias in node.names]))
        elif isinstance(node, (*kinds, ast.Module)):
            # Docstrings are cut from the shared tree: nothing else reads them.
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    known = {n.name: _parameters(n) for n in tree.body if isinstance(n, kinds)}
    bases = {n.name: [ast.unparse(b) for b in n.bases] for n in tree.body if _is_data_class(n)}
    found = {"digest": digest, "names": names, "imports": imports, "from": imports_from}
    return {**found, "accepted": known, "bases": bases}


def _is_data_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any("dataclass" in ast.unparse(d) for d in node.decorator_list)


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> list[str] | None:
    if isinstance(node, ast.ClassDef):
        init = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not init:
            fields = [
                n.target.id
                for n in node.body
                if isinstance(n, ast.AnnAssign)
                and isinstance(n.target, ast.Name)
                and "ClassVar" not in ast.unparse(n.annotation)
            ]
            return [f for f in fields if f != "seed"] if _is_data_class(node) else None
        node = init[0]
    arguments = node.args
    if arguments.kwarg:
        return None
    names = [a.arg for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]]
    return [n for n in names if n not in ("self", "evaluation", "scores", "seed")]


@cache
def _known() -> dict[str, dict[str, Any]]:
    """Return the outlines of earlier processes by the SHA-256 of the source, and save them when this one ends.

    Every parse of the workflow asks for all modules, and reading their syntax is most of a dry run's time. The
    file lies where Python keeps what it derives from source, and is as dispensable.
    """
    # What an outline holds depends on this module and on the version of Python.
    made_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    path = _SOURCE / "__pycache__" / f"outlines-{sys.implementation.cache_tag}-{made_by}.json"
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}

    def save() -> None:
        if known.pop(_CHANGED, None) is not None:
            with suppress(OSError):
                write_text(path, json.dumps(known))

    atexit.register(save)
    return known


@cache
def code_digest(*modules: str, data: str | None = None) -> str:
    """Return a 12-digit digest of the named modules and of all they import from this package.

    Parameters
    ----------
    *modules
        Dotted names, e.g. ``"morphobench.corrections.combat"``; a ``module:name`` path counts as its module.
    data
        Pattern of further files of the package that the code reads, e.g. ``"report/templates/*.j2"``.
    """
    names = sorted({m for name in modules for m in closure(name.partition(":")[0])})
    text = "\n".join(f"{name} {_outline(name)['digest']}" for name in names)
    for path in sorted(_SOURCE.glob(data)) if data else []:
        text += f"\n{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
