"""What the documentation tells a reader to type or write works."""

import re
import shlex

import numpy as np
import pytest
import yaml

from morphobench.corrections.base import Covariates
from morphobench.specs.lines import Document
from morphobench.specs.schema import check

from .workflow.conftest import fresh


def block(text, language):
    return re.search(rf"```{language}\n(.*?)```", text, re.S).group(1)


def test_the_example_correction_works(root, tmp_path):
    text = (root / "docs" / "extending.md").read_text()
    names = {}
    exec(block(text, "python"), names)  # the block a reader is told to copy
    spec = yaml.safe_load(block(text, "yaml"))
    check(Document(tmp_path / "mine.yaml", spec), root / "workflow" / "schemas" / "method.schema.yaml")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, 3))
    features[4:] += 5
    text = np.array(["x"] * 8)
    batch = np.repeat(["a", "b"], 4)
    control = np.tile(["negcon", "negcon", "negcon", "trt"], 2)
    covariates = Covariates(batch, text, text, control, text)
    parameters = {k: v["value"] for k, v in spec["parameters"].items()}
    corrected = names["MyCorrection"](**parameters).fit_transform(features, covariates)
    for name in "ab":
        reference = corrected[(batch == name) & (control == "negcon")]
        assert np.allclose(np.median(reference, axis=0), 0, atol=1e-6)


def test_links_lead_somewhere(root):
    for page in [root / "README.md", *(root / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.slow
def test_every_command_of_the_readme_can_be_dry_run(root, tmp_path):
    checkout = fresh(tmp_path / "checkout", root)
    (tmp_path / "mirror").mkdir()
    pages = [(root / name).read_text() for name in ("README.md", "docs/data.md")]
    (tmp_path / "data" / "rxrx1").mkdir(parents=True)
    lines = [line for page in pages for line in re.findall(r"^    snakemake ?(.*?)(?:  +#.*)?$", page, re.M)]
    assert len(lines) >= 12
    for line in lines:
        arguments = shlex.split(
            line.replace("/path/to", str(tmp_path)).replace("/data/rxrx1", str(tmp_path / "data" / "rxrx1"))
        )
        if "--report" in arguments:
            continue  # needs results; made for real in tests/workflow/test_run.py
        if "-n" not in arguments and arguments[0] not in ("targets", "verify"):
            arguments.insert(0, "-n")
        checkout.snakemake(*arguments)
