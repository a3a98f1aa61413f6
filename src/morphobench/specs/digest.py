"""Digests of the code behind a rule, so that editing the library reruns what depends on it and nothing else.

Thin scripts over an installed package hide the package from the workflow: without a digest among a rule's
params, an edited metric would leave stale numbers in the tables. The digest covers a module and every module of
this package that it imports, found by reading the source, never by importing it. Docstrings, comments and
layout do not count.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = "morphobench"
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
    kinds = (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    return frozenset(n.name for n in parsed(module).body if isinstance(n, kinds))


@cache
def imported_modules(module: str) -> frozenset[str]:
    """Return the modules of this package that ``module`` imports, at its top or inside functions."""
    path = module_path(module)
    package = module if path and path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
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
def _module_digest(module: str) -> str:
    # Docstrings are cut from the shared tree: nothing else reads them, and a second parse would double the cost.
    tree = parsed(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef | ast.Module):
            body = node.body
            if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                node.body = body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


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
    text = "\n".join(f"{name} {_module_digest(name)}" for name in names)
    for path in sorted(_SOURCE.glob(data)) if data else []:
        text += f"\n{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]
