"""YAML errors point at lines."""

import pytest

from morphobench.errors import SpecError
from morphobench.specs.lines import load_yaml


def test_lines_of_nested_keys(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb:\n  c:\n    - x\n    - y: 2\n")
    document = load_yaml(path)
    assert document.value == {"a": 1, "b": {"c": ["x", {"y": 2}]}}
    assert document.where(("b", "c", 1, "y")) == f"{path}, line 5"
    assert document.where(("b", "c", 1, "absent")) == f"{path}, line 5"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\na: 2\n", "line 2: key 'a' is stated twice (first in line 1)"),
        ("a: [1\n", "not valid YAML"),
    ],
)
def test_bad_yaml(tmp_path, text, sentence):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as error:
        load_yaml(path)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(SpecError, match="cannot be read"):
        load_yaml(tmp_path / "none.yaml")
