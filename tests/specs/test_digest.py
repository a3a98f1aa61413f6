"""The digest changes with the code that a rule uses, and with nothing else."""

import subprocess
import sys

import pytest

from morphobench.specs import digest


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package of the same name elsewhere: a uses b, c stands alone."""
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "a.py").write_text('"""Doc."""\nfrom morphobench.b import f\n\n\ndef g(x):\n    return f(x)\n')
    (tmp_path / "b.py").write_text("def f(x):\n    return x + 1\n")
    (tmp_path / "c.py").write_text("y = 1\n")
    monkeypatch.setattr(digest, "_SOURCE", tmp_path)
    clear()
    yield tmp_path
    monkeypatch.undo()
    clear()


def clear():
    for function in vars(digest).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


def digest_of(module):
    clear()
    return digest.code_digest(module)


def test_closure_follows_imports(package):
    assert digest.closure("morphobench.a") == ("morphobench.a", "morphobench.b")


def test_an_edit_of_an_imported_module_changes_the_digest(package):
    before = digest_of("morphobench.a")
    (package / "b.py").write_text("def f(x):\n    return x + 2\n")
    assert digest_of("morphobench.a") != before


def test_an_edit_elsewhere_does_not(package):
    before = digest_of("morphobench.a")
    (package / "c.py").write_text("y = 2\n")
    assert digest_of("morphobench.a") == before


def test_comments_docstrings_and_layout_do_not_count(package):
    before = digest_of("morphobench.a")
    (package / "a.py").write_text(
        '"""Another text."""\nfrom morphobench.b import f\n\n\ndef g(x):\n    """Say more."""\n    # why\n'
        "    return f(\n        x\n    )\n"
    )
    assert digest_of("morphobench.a") == before


def test_relative_and_local_imports_count(package):
    (package / "a.py").write_text("def g(x):\n    from .b import f\n    return f(x)\n")
    clear()
    assert digest.closure("morphobench.a") == ("morphobench.a", "morphobench.b")


def test_specs_import_nothing_heavy():
    heavy = ["numpy", "pandas", "scipy", "sklearn", "matplotlib", "torch", "jax", "scanpy", "pyarrow", "umap"]
    code = (
        "import sys; import morphobench.specs, morphobench.specs.plan; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_outlines_of_earlier_processes_are_used_and_dispensable(package, root):
    run = "import sys; from pathlib import Path; from morphobench.specs import digest; "
    run += f"digest._SOURCE = Path({str(package)!r}); print(digest.code_digest('morphobench.a'))"

    def other_process():
        command = [sys.executable, "-c", run]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    first = other_process()
    (saved,) = (package / "__pycache__").glob("outlines-*.json")
    assert other_process() == first
    saved.write_text('{"damaged": ')
    assert other_process() == first
    (package / "b.py").write_text("def f(x):\n    return x + 2\n")
    assert other_process() != first


def test_a_data_class_takes_what_its_bases_take():
    known = digest.accepted("morphobench.learning.recipes", "BYOLRecipe")
    # Of itself, of its base in the same module, of one in another; without class variables and the seed.
    assert {"projection", "cross_batch", "backbone"} <= set(known)
    assert not {"seed", "global_crops"} & set(known)
    assert len(known) == len(set(known))
