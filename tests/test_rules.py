"""House rules that a reader cannot be asked to check by eye."""

import ast
import re

import pytest
import yaml

DIRECTIVES = ("log", "threads", "resources", "conda", "message", "params")


def blocks(root):
    """The text of every rule that runs something, by file and name."""
    for path in [root / "Snakefile", *sorted((root / "rules").glob("*.smk"))]:
        text = path.read_text()
        starts = list(re.finditer(r"^[ \t]*(?:rule|checkpoint)(?:[ \t]+(\w+))?:[ \t]*$", text, re.M))
        ends = [*(m.start() for m in starts[1:]), len(text)][: len(starts)]
        for start, end in zip(starts, ends, strict=True):
            body = text[start.start() : end]
            if re.search(r"^\s+(script|shell|run):", body, re.M):
                yield f"{path.name}:{start.group(1)}", body


def test_every_rule_that_runs_declares_what_it_uses(root):
    found = dict(blocks(root))
    assert len(found) >= 9
    for name, body in found.items():
        for directive in DIRECTIVES:
            assert re.search(rf"^\s+{directive}:", body, re.M), f"{name} has no {directive}"
        assert re.search(r"^\s+run:", body, re.M) is None, f"{name} hides its work in run:"
        for resource in ("mem_mb", "runtime"):
            assert f"{resource}=" in body, f"{name} states no {resource}"
        if not name.endswith((":targets", ":verify")):  # print, make nothing
            for directive in ("output", "benchmark"):
                assert re.search(rf"^\s+{directive}:", body, re.M), f"{name} has no {directive}"


def test_scripts_are_thin(root):
    for path in (root / "workflow" / "scripts").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 40, path


def test_modules_and_functions_stay_small(root):
    for path in (root / "src").rglob("*.py"):
        text = path.read_text()
        assert len(text.splitlines()) <= 400, f"{path} is long; two modules would be easier to live with"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= 80, f"{path}: {node.name} has {lines} lines"


def test_the_library_knows_nothing_of_snakemake(root):
    for path in (root / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0] == "snakemake" for n in names), path


def test_every_profile_is_yaml(root):
    for name in ("default", "slurm"):
        assert yaml.safe_load((root / "profiles" / name / "config.yaml").read_text())
    assert (root / "slurm").resolve() == (root / "profiles" / "slurm").resolve()


@pytest.mark.parametrize("pattern", [r"\bpdb\b", r"import \*", r"TODO|FIXME", r"(?<![\w.])/home/"])
def test_nothing_left_behind(root, pattern):
    for folder in ("src", "rules", "workflow"):
        for path in (root / folder).rglob("*"):
            if path.suffix in (".py", ".smk", ".rst", ".yaml"):
                assert not re.search(pattern, path.read_text()), f"{path} has {pattern}"


def test_every_rule_that_uses_a_gpu_has_a_partition_in_the_slurm_profile(root):
    text = "\n".join(path.read_text() for path in sorted((root / "rules").glob("*.smk")))
    rules = set(re.findall(r"^use rule \w+ as (\w+_gpu) with:$", text, re.M))
    assert rules >= {"embed_gpu", "train_gpu", "train_network_gpu"}
    profile = yaml.safe_load((root / "profiles" / "slurm" / "config.yaml").read_text())
    assert {rule for rule, set_ in profile["set-resources"].items() if "slurm_partition" in set_} == rules
