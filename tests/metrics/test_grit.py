"""Grit against a plain loop over cytominer-eval's definition."""

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from morphobench.errors import NotApplicable
from morphobench.metrics.grit import grit

from .conftest import changed, evaluation_of, screen


def loop_grit(profiles, same_plate=False):
    correlation = np.corrcoef(profiles.features.astype(float))
    label, plate = profiles.column("Metadata_Perturbation"), profiles.column("Metadata_Plate")
    control = profiles.column("Metadata_Control") == "negcon"
    means = []
    for name in np.unique(label[~control]):
        wells = np.flatnonzero(label == name)
        values = []
        for i in wells:
            pool = control & (plate == plate[i]) if same_plate else control
            scaler = StandardScaler().fit(correlation[i, pool][:, None])
            values.append(scaler.transform(correlation[i, wells[wells != i]][:, None]).mean())
        means.append(np.mean(values))
    return np.mean(means)


def test_equals_a_plain_loop(small):
    score = grit(evaluation_of(small))
    assert score.value == pytest.approx(loop_grit(small), rel=1e-9)
    assert score.low < score.value < score.high
    assert score.n == 8


def test_controls_of_the_plate():
    profiles = screen(n_plates=3, n_compounds=4)
    score = grit(evaluation_of(profiles), controls="plate")
    # Mates come from all plates, controls from the profile's own.
    assert score.value == pytest.approx(loop_grit(profiles, same_plate=True), rel=1e-9)
    assert score.value != pytest.approx(loop_grit(profiles), rel=1e-3)


def test_no_effect_scores_near_zero():
    profiles = screen(n_compounds=40, biology=0.0, batch=0.0, controls=20, seed=7)
    assert abs(grit(evaluation_of(profiles)).value) < 0.15


def test_what_does_not_apply(small):
    with pytest.raises(NotApplicable, match="0 negative controls"):
        grit(evaluation_of(changed(small, Metadata_Control="trt")))
    one = small.rows(small.column("Metadata_Plate") == "p0")
    with pytest.raises(NotApplicable, match="no treated well has a replicate"):
        grit(evaluation_of(one))


@pytest.mark.parametrize("controls", ["all", "plate"])
def test_a_split_has_its_own_queries_mates_and_controls(controls):
    profiles = screen(n_plates=9)
    alone = profiles.rows(profiles.column("Metadata_Split") == "test")
    score = grit(evaluation_of(profiles), controls=controls, split="test")
    assert score.value == pytest.approx(loop_grit(alone, same_plate=controls == "plate"), rel=1e-9)
    assert score.value != pytest.approx(grit(evaluation_of(profiles), controls=controls).value, rel=1e-3)
    assert score.n == 8
    with pytest.raises(NotApplicable, match="val split is empty"):
        grit(evaluation_of(profiles), split="val")
