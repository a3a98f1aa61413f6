"""The two ways to install must give the same versions."""

import re
import tomllib

import yaml

# Where conda's name of a package differs from pip's.
CONDA_NAMES = {
    "python-igraph": "igraph",
    "matplotlib-base": "matplotlib",
    "pytorch": "torch",
    "snakemake-minimal": "snakemake",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(root) -> dict[str, str]:
    lines = (root / "envs" / "constraints.txt").read_text().split()
    return {normal(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}


def test_conda_versions_are_those_of_the_constraints(root):
    constraints = pins(root)
    environment = yaml.safe_load((root / "envs" / "morphobench.yaml").read_text())
    packages = dict(line.split(" =") for line in environment["dependencies"])
    packages.pop("python")
    for name, version in packages.items():
        pip_name = normal(CONDA_NAMES.get(name, name))
        assert constraints[pip_name] == version, f"{name}: conda {version}, pip {constraints[pip_name]}"


def test_conda_has_every_direct_dependency(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = {normal(re.match(r"[A-Za-z0-9_.-]+", d).group()) for d in project["dependencies"]}
    environment = yaml.safe_load((root / "envs" / "morphobench.yaml").read_text())
    names = {line.split(" =")[0] for line in environment["dependencies"]} - {"python"}
    assert {normal(CONDA_NAMES.get(n, n)) for n in names} == wanted


def test_every_dependency_is_pinned(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    missing = [d for d in wanted if normal(re.match(r"[A-Za-z0-9_.-]+", d).group()) not in pins(root)]
    assert not missing
