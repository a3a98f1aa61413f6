"""Validation of configuration and specs: each violation becomes one sentence with file, line and key."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema

from morphobench.errors import SpecError, nearest
from morphobench.specs.lines import Document, load_yaml

_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


@cache
def _validator(path: Path) -> Any:
    schema = load_yaml(path).value
    return jsonschema.validators.validator_for(schema)(schema)


def check(document: Document, schema: Path) -> None:
    """Raise SpecError for the first violation, in the order of the file.

    Parameters
    ----------
    document
        What to check.
    schema
        A JSON schema, written as YAML or JSON.
    """
    errors = sorted(
        _validator(schema).iter_errors(document.value),
        # A misspelt key is both unknown and missing; the first says more.
        key=lambda e: (e.validator == "required", document.lines.get(tuple(e.absolute_path), 0), str(e.message)),
    )
    if errors:
        raise SpecError(_sentence(document, _deepest(errors[0])))


def _deepest(error: Any) -> Any:
    # Of the alternatives of an anyOf, the one that came furthest is the one the user meant.
    while error.context:
        error = max(error.context, key=lambda e: (len(e.absolute_path), e.validator != "type"))
    return error


def _sentence(document: Document, error: Any) -> str:
    keys = tuple(error.absolute_path)
    name = ".".join(str(k) for k in keys) or "the document"
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        patterns = error.schema.get("patternProperties", {})
        extra = next(
            k for k in error.instance if k not in known and not any(re.search(p, str(k)) for p in patterns)
        )
        inside = f" in {name}" if keys else ""
        hint = nearest(extra, known) or f"; known keys are {', '.join(map(str, known))}"
        return f"{document.where((*keys, extra))}: unknown key {extra!r}{inside}{hint}"
    where = document.where(keys)
    if error.validator == "required":
        missing = next(k for k in error.validator_value if k not in error.instance)
        inside = f" in {name}" if keys else ""
        return f"{where}: key {missing!r} is missing{inside}"
    found = error.instance
    if error.validator == "enum":
        allowed = [v for v in error.validator_value if v is not None]
        listed = ", ".join(map(str, allowed))
        return f"{where}: {name} is {found!r}, expected one of {listed}{nearest(found, allowed)}"
    if error.validator == "type":
        types = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        return f"{where}: {name} is {found!r}, expected {' or '.join(_TYPES[t] for t in types)}"
    if error.validator == "pattern":
        hint = error.schema.get("description", f"text of the form {error.validator_value}")
        return f"{where}: {name} is {found!r}, expected {hint}"
    return f"{where}: {name} is {found!r}, which is wrong: {error.message}"
