"""The shipped specs of image methods: each can be built on each of its data sets at each scale."""

from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest

from morphobench.corrections.apply import build, parameter_values
from morphobench.learning.backbones import create_backbone
from morphobench.learning.image_method import ImageMethod
from morphobench.specs.lines import load_yaml
from morphobench.specs.methods import at_scale, inherited

EIGHT = {"supervised", "dino", "byol", "dino_cb", "byol_cb", "cdcl", "dino_bl", "byol_bl"}
SIZES = {"full": 256, "demo": 64, "tiny": 32}


@pytest.fixture(scope="module")
def specs(root):
    paths = sorted((root / "specs" / "methods").glob("*.yaml"))
    whole = inherited({path.stem: load_yaml(path) for path in paths})
    return {
        name: spec for name, spec in whole.items() if spec["class"].startswith("morphobench.learning.recipes:")
    }


@pytest.fixture(scope="module")
def cases(specs):
    """Every (method, scale, data set) with its resolved spec."""
    found = {}
    for name, spec in specs.items():
        for scale in SIZES:
            resolved = at_scale(spec, scale)
            for dataset in resolved["datasets"]:
                found[name, scale, dataset] = resolved["on"].get(dataset, resolved)
    return found


def values(cases, name, scale="full", dataset="rxrx1_huvec"):
    return parameter_values(cases[name, scale, dataset])


def test_every_spec_states_every_parameter_and_fits_its_images(specs, cases):
    assert set(specs) >= EIGHT
    for (name, scale, dataset), spec in cases.items():
        made = build(spec, ImageMethod, seed=0)
        needed = {f.name for f in fields(made)} - {"seed", "warmup_steps"}
        assert set(spec["parameters"]) == needed, (name, scale, dataset)
        store = SimpleNamespace(shape=(6, SIZES[scale], SIZES[scale]))
        if hasattr(made, "crops"):
            made.crops(None).check(store.shape)
            assert (made.warmup_epochs or 0) < made.epochs or scale != "full"
        patch = made.patch or 16
        sides = [made.crop, made.img_size, *(getattr(made, f"{k}_size", patch) for k in ("global", "local"))]
        assert all(side % patch == 0 for side in sides), (name, scale)


def test_full_scale_is_the_papers(cases):
    made = values(cases, "cdcl")
    published = {
        "epochs": 200, "batch_size": 92, "learning_rate": 7e-4, "minimum_rate": 1e-5, "weight_decay": 4e-3,
        "final_weight_decay": 1e-2, "clip": 3.0, "momentum": 0.995, "final_momentum": 0.9996, "outputs": 4096,
        "dino_weight": 0.25, "barlow_weight": 0.75, "off_diagonal": 0.95, "local_crops": 6, "global_size": 224,
        "local_size": 112, "student_temperature": 0.1, "teacher_temperature": 0.04, "shift": 0.5,
        "final_teacher_temperature": 0.07, "temperature_epochs": 10, "hidden": 1024, "bottleneck": 512,
        "cross_batch": True, "centre_by_domain": True, "domain": "Metadata_Batch", "drop_path": 0.1,
        "probe_rate": 5e-5, "probe_decay": 1e-3, "probe_minimum_rate": 1e-8, "select": "knn", "check_every": 2,
    }  # fmt: skip
    assert {k: made[k] for k in published} == published
    # YAML 1.1 takes 7e-4 for text.
    numbers = [v for v in made.values() if not isinstance(v, (str, bool, list)) and v is not None]
    assert all(np.isreal(v) for v in numbers)
    assert not [k for k, v in made.items() if isinstance(v, str) and v[:1].isdigit()]
    for name, dataset in ((n, d) for n in EIGHT for d in ("rxrx1_huvec", "cpg0004")):
        spec = cases[name, "full", dataset]
        assert spec["weights"] == "deit_small_patch16_224"
        assert spec["resources"]["gpu"] == 1
        assert cases[name, "demo", dataset]["weights"] is None
        assert cases[name, "demo", dataset]["resources"]["gpu"] == 0


def test_variants_differ_from_their_parents_in_what_names_them(cases):
    def changed(one, other):
        a, b = values(cases, one), values(cases, other)
        return {k for k in a | b if a.get(k) != b.get(k)}

    losses = {"dino_weight", "barlow_weight", "off_diagonal"}
    assert changed("dino", "dino_cb") == changed("byol", "byol_cb") == {"cross_batch"}
    assert changed("dino_cb", "cdcl") == {"centre_by_domain", *losses}
    assert changed("dino", "dino_bl") == losses
    assert changed("byol", "byol_bl") == {"byol_weight", "barlow_weight", "off_diagonal"}
    for parent in ("supervised", "cdcl"):
        for variant in ("controls", "treatments", "half", "half_images"):
            assert changed(parent, f"{parent}_{variant}") == {"subset"}


def test_the_second_data_set_has_its_own_domain_normalisation_and_crops(cases):
    for name in ("cdcl", "byol_cb"):
        made = values(cases, name, dataset="cpg0004")
        assert made["domain"] == "Metadata_Plate"
        assert made["normalise"] == "images"
        assert made["global_scale"] == [0.75, 0.9]
        assert values(cases, name)["global_scale"] == [0.9, 1.1]
    assert values(cases, "supervised")["global_scale"] == [0.8, 1.2]
    for name, start in (("imagenet", "imagenet"), ("supervised", "supervised"), ("cdcl", "cdcl")):
        tuned = cases[f"{name}_moa", "full", "cpg0004"]
        assert tuned["starts_from"] == start
        assert tuned["weights"] is None
        assert parameter_values(tuned)["label"] == "Metadata_MoA"
        assert parameter_values(tuned)["normalise"] == "images"


def test_the_papers_network_has_its_size(cases):
    made = build(cases["cdcl", "full", "rxrx1_huvec"], ImageMethod, seed=0)
    backbone = create_backbone(**made.network(SimpleNamespace(shape=(6, 256, 256))), pretrained=None)
    assert backbone.num_features == 384
    # 22,050,664 of the published network, less its classifier, with three more channels.
    assert sum(p.numel() for p in backbone.parameters()) == 22_050_664 - 385_000 + 3 * 16 * 16 * 384
