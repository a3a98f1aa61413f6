import json

import numpy as np
import pandas as pd
import pytest

from morphobench.datasets.prepare import prepare, prepare_model
from morphobench.errors import SpecError
from morphobench.fetch.manifest import write_manifest
from morphobench.preprocessing.pipeline import preprocess
from morphobench.profilenets.scaling import model_steps
from morphobench.profiles import Profiles, read_profiles


@pytest.fixture
def screen(raw):
    """A small JUMP with both branches in its spec."""
    found = raw("cpg0016")
    found.spec |= {"source": "simulated", "preprocessing_model": model_steps()}
    return found


def test_both_branches_have_the_same_rows(screen, tmp_path):
    write_manifest([], tmp_path / "manifest.tsv")
    out = {key: tmp_path / f"prepared/{key}" for key in ("profiles", "annotations", "excluded", "report")}
    prepare(screen.spec, manifest=tmp_path / "manifest.tsv", raw_root=screen.folder, **out)
    path, report = tmp_path / "prepared" / "model_profiles.parquet", tmp_path / "prepared" / "model.json"
    prepare_model(screen.spec, raw_root=screen.folder, profiles=path, report=report)
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([*out, "model_profiles.parquet", "model.json"])
    model, baseline = read_profiles(path), read_profiles(out["profiles"])
    pd.testing.assert_frame_equal(model.metadata, baseline.metadata)
    assert set(baseline.names) < set(model.names)
    assert model.provenance["branch"] == "model"
    assert "branch" not in baseline.provenance
    collection = screen.read()
    assert model.names == tuple(sorted(collection.names))
    plates = [plate.read() for plate in collection]
    whole = Profiles(
        pd.concat([p.metadata for p in plates], ignore_index=True),
        np.concatenate([p.features for p in plates]),
        collection.names,
    )
    np.testing.assert_array_equal(model.features, preprocess(whole, model_steps())[0].features)
    facts = json.loads(report.read_text())
    assert facts["dataset"] == "cpg0016"
    assert facts["preprocessing"]["rows"] == len(model)
    assert facts["preprocessing"]["features_out"] == len(model.names)


def test_a_data_set_without_a_model_branch(screen, tmp_path):
    del screen.spec["preprocessing_model"]
    with pytest.raises(SpecError, match="^dataset cpg0016 has no preprocessing_model; no network can be trained"):
        prepare_model(screen.spec, raw_root=screen.folder, profiles=tmp_path / "p", report=tmp_path / "r")
