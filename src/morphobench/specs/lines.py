"""YAML with line numbers, so that an error can point at the line a user has to change."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from morphobench.errors import SpecError

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A YAML document and where each of its keys stands.

    Attributes
    ----------
    path
        The file.
    value
        The document as plain Python values.
    lines
        Line (1-based) of every key path, e.g. ``("parameters", "k")`` or ``("rows", 0)``.
    """

    path: Path
    value: Any
    lines: dict[Keys, int] = field(default_factory=dict)

    def where(self, keys: Keys = ()) -> str:
        """Return ``file, line n`` for a key path, or for its nearest parent that has a line."""
        keys = tuple(keys)
        if not self.lines:
            return str(self.path)
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.path}, line {self.lines.get(keys, 1)}"


def load_yaml(path: str | Path) -> Document:
    """Read one YAML file.

    Raises
    ------
    SpecError
        If the file is missing, is not YAML, or states a key twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror})") from error
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines: dict[Keys, int] = {}
        value = None if node is None else _construct(loader, node, (), lines, path)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{path}, line {line}: not valid YAML ({error.problem})") from error
    finally:
        loader.dispose()
    return Document(path, value, lines)


def _construct(loader: Any, node: yaml.Node, keys: Keys, lines: dict[Keys, int], path: Path) -> Any:
    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            # As written: YAML 1.1 would turn the keys "on", "off", "yes" and "no" into booleans.
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else loader.construct_object(key_node)
            line = key_node.start_mark.line + 1
            if key in result:
                raise SpecError(
                    f"{path}, line {line}: key {key!r} is stated twice (first in line {lines[*keys, key]})"
                )
            lines[*keys, key] = line
            result[key] = _construct(loader, value_node, (*keys, key), lines, path)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(loader, child, (*keys, i), lines, path) for i, child in enumerate(node.value)]
    return loader.construct_object(node, deep=True)
