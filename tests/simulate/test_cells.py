from dataclasses import replace

import numpy as np
import pytest

from morphobench.simulate.cells import (
    CELL_LINES,
    PHASES,
    PHENOTYPES,
    Truth,
    draw_field,
    phenotype_names,
)
from morphobench.simulate.fluorescence import STAINS, textures
from morphobench.simulate.microscope import Laboratory, Nuisance

PAINT = ("DNA", "ER", "Actin", "RNA", "Mito", "Golgi")


def field(phenotype=None, nuisance=None, seed=0, channels=PAINT, shape=(96, 96), **options):
    nuisance = nuisance or Nuisance.none(len(channels), noise=0.0)
    return draw_field(np.random.default_rng(seed), phenotype or {}, nuisance, shape, channels, **options)


def mean_over_seeds(measure, phenotype, n=6, **options):
    return np.mean([measure(*field(phenotype, seed=seed, **options)) for seed in range(n)])


def test_picture_and_table():
    image, table = field(shape=(60, 90))
    assert image.shape == (6, 60, 90)
    assert image.dtype == np.float32
    assert (image >= 0).all()
    assert (image <= 1).all()
    assert list(table.columns) == ["y", "x", "nucleus_area", "phase"]
    assert set(table["phase"]) <= set(PHASES)
    again, _ = field(shape=(60, 90))
    np.testing.assert_array_equal(image, again)
    assert not np.array_equal(image, field(shape=(60, 90), seed=1)[0])


@pytest.mark.parametrize("role", STAINS)
def test_every_stain_shows_cells_on_a_dark_background(role):
    image, table = field(channels=(role,), n_cells=6, shape=(120, 120), line="A549")
    inside = image[0][np.round(table["y"]).astype(int) % 120, np.round(table["x"]).astype(int) % 120]
    assert np.quantile(image, 0.02) < 0.06
    assert image.max() > 0.12
    if role == "DNA":
        assert inside.min() > 0.15


def test_cells_are_where_the_table_says():
    positions = np.array([[30.0, 30.0], [90.0, 60.0]])
    image, table = field(channels=("DNA",), shape=(120, 120), positions=positions, phases=["G1", "G1"])
    np.testing.assert_array_equal(table[["y", "x"]], positions)
    bright = image[0] > 0.15
    rows, columns = np.nonzero(bright)
    near = np.min(np.hypot(rows[:, None] - positions[:, 0], columns[:, None] - positions[:, 1]), axis=1)
    assert near.max() < 14
    # The nuclei are ellipses of the stated area, but for the soft edge.
    assert bright.sum() == pytest.approx(table["nucleus_area"].sum(), rel=0.2)


def test_texture_tiles_are_the_same_whatever_was_drawn_before():
    first = {name: tile.copy() for name, tile in textures().items()}
    textures.cache_clear()
    for name, tile in textures().items():
        np.testing.assert_array_equal(tile, first[name])


def foreground(image, table):
    return (image[2] > 0.08).mean()


def test_phenotypes_change_what_they_say():
    assert mean_over_seeds(lambda i, t: len(t), {"cells": 2}) > 1.3 * mean_over_seeds(lambda i, t: len(t), {})
    area = {z: mean_over_seeds(lambda i, t: t["nucleus_area"].mean(), {"nucleus_area": z}) for z in (-1.5, 0, 1.5)}
    assert area[-1.5] < 0.85 * area[0] < 0.72 * area[1.5]
    size = {z: mean_over_seeds(foreground, {"cell_area": z}, n_cells=6, shape=(160, 160)) for z in (-1.5, 0, 1.5)}
    assert size[-1.5] < 0.9 * size[0] < 0.81 * size[1.5]
    fibres = {z: mean_over_seeds(lambda i, t: i[2].mean(), {"fibres": z}) for z in (-2, 2)}
    assert fibres[-2] < fibres[2]
    nucleoli = {z: mean_over_seeds(lambda i, t: np.quantile(i[3], 0.99), {"nucleoli": z}) for z in (-2, 2)}
    assert nucleoli[-2] < nucleoli[2]


@pytest.mark.parametrize("channel", range(6))
def test_intensity_of_a_channel_changes_that_channel_alone(channel):
    plain, _ = field()
    bright, _ = field({f"{PAINT[channel]}_intensity": 1.5})
    changed = [not np.array_equal(a, b) for a, b in zip(plain, bright, strict=True)]
    assert changed == [i == channel for i in range(6)]
    assert bright[channel].mean() > 1.1 * plain[channel].mean()


@pytest.mark.parametrize("name", PHENOTYPES)
def test_every_phenotype_changes_the_picture_and_stays_finite(name):
    plain, _ = field()
    for value in (-50.0, 1.0, 50.0):
        image, _ = field({name: value})
        assert np.isfinite(image).all()
        assert np.abs(image - plain).max() > 0.02


def test_phenotype_as_mapping_row_or_one_row_a_cell():
    names = phenotype_names(PAINT)
    row = np.zeros(len(names))
    row[names.index("ER_intensity")] = 1.0
    by_name = field({"ER_intensity": 1.0}, n_cells=5)[0]
    draws = [draw_field(np.random.default_rng(0), r, Nuisance.none(6, 0.0), (96, 96), PAINT, n_cells=5)[0]
             for r in (row, np.tile(row, (5, 1)))]  # fmt: skip
    np.testing.assert_array_equal(by_name, draws[0])
    np.testing.assert_array_equal(by_name, draws[1])


def test_a_cell_has_its_own_phenotype():
    names = phenotype_names(("DNA",))
    rows = np.zeros((2, len(names)))
    rows[1, names.index("DNA_intensity")] = 3.0
    rows[0, names.index("DNA_intensity")] = -3.0
    positions = np.array([[30.0, 30.0], [30.0, 90.0]])
    image, _ = draw_field(
        np.random.default_rng(0),
        rows,
        Nuisance.none(1),
        (60, 120),
        ("DNA",),
        positions=positions,
        phases=["G1"] * 2,
    )
    assert image[0, :, 60:].max() > 1.5 * image[0, :, :60].max()


def test_dna_content_follows_the_cell_cycle():
    positions = np.array([[y, x] for y in range(20, 240, 40) for x in range(20, 240, 40)], float)
    content, area = {}, {}
    for phase in PHASES:
        image, table = field(
            channels=("DNA",), shape=(240, 240), positions=positions, phases=[phase] * len(positions), pixel_um=1.0
        )
        content[phase] = (image[0] - 0.04).clip(0).sum()
        area[phase] = table["nucleus_area"].mean()
    assert 1.15 < content["S"] / content["G1"] < 1.7
    assert 1.6 < content["G2"] / content["G1"] < 2.4
    assert area["G1"] < area["S"] < area["G2"]
    bright = [field(channels=("DNA",), n_cells=9, phases=[p] * 9, seed=4)[0].max() for p in ("G2", "M")]
    assert bright[1] > 1.2 * bright[0]


@pytest.mark.parametrize("n_cells", [0, 1, 200])
def test_number_of_cells(n_cells):
    image, table = field(n_cells=n_cells, shape=(150, 150))
    assert len(table) == n_cells
    assert table["y"].between(0, 150).all()
    assert np.isfinite(image).all()


def test_a_large_field_is_the_sum_of_its_cells_however_they_are_chunked(monkeypatch):
    plain, _ = field(n_cells=90, shape=(200, 200))
    monkeypatch.setattr("morphobench.simulate.microscope._CHUNK", 7)
    chunked, _ = field(n_cells=90, shape=(200, 200))
    np.testing.assert_allclose(plain, chunked, atol=2e-6)


@pytest.mark.parametrize(
    ("phenotype", "options", "words"),
    [
        ({"cels": 1.0}, {}, "unknown phenotype 'cels'"),
        (np.zeros(3), {}, "phenotype has 3 columns, expected 17"),
        (np.zeros((4, 17)), {"n_cells": 5}, "5 cells have positions"),
        ({}, {"positions": np.ones((3, 2)), "phases": ["G1"]}, "3 cells have positions"),
    ],
)
def test_what_does_not_fit_is_refused(phenotype, options, words):
    with pytest.raises(ValueError, match=words):
        draw_field(np.random.default_rng(0), phenotype, Nuisance.none(6), (64, 64), PAINT, **options)


def test_gain_background_gradient_blur_and_noise():
    calm = Nuisance.none(6, noise=0.0)
    plain, _ = field(nuisance=calm)
    dark = np.quantile(plain, 0.001)
    gained, _ = field(nuisance=replace(calm, gain=np.full(6, 1.5)))
    small = plain < 0.6
    np.testing.assert_allclose((gained - dark)[small], 1.5 * (plain - dark)[small], atol=2e-3)
    np.testing.assert_allclose(
        field(nuisance=replace(calm, background=np.full(6, 0.05)))[0][small], plain[small] + 0.05, atol=1e-5
    )
    uneven, _ = field(nuisance=replace(calm, gradient=np.array([0.4, 0.0])))
    assert (uneven[:, :20] <= plain[:, :20]).all()
    assert (uneven[:, -20:] >= plain[:, -20:]).all()
    blurred, _ = field(nuisance=replace(calm, blur=2.0))
    assert np.abs(np.diff(blurred, axis=1)).mean() < 0.8 * np.abs(np.diff(plain, axis=1)).mean()
    noisy, _ = field(nuisance=replace(calm, noise=1.0))
    assert 0.001 < (noisy - plain).std() < 0.02


def test_strength_0_of_the_laboratory_adds_nothing():
    none = Laboratory(0, 6, 0.0, 0.0, 0.0, 1.0).nuisance(3, 1, 17)
    plain = Nuisance.none(6, 1.0)
    for name in ("gain", "background", "gradient", "blur", "noise", "state"):
        np.testing.assert_array_equal(getattr(none, name), getattr(plain, name))


def test_batches_plates_and_positions_differ():
    def gain(*strengths, place):
        return Laboratory(0, 6, *strengths, 1.0).nuisance(*place).gain

    assert np.array_equal(gain(1, 0, 0, place=(0, 0, 0)), gain(1, 0, 0, place=(0, 1, 5)))
    assert not np.array_equal(gain(1, 0, 0, place=(0, 0, 0)), gain(1, 0, 0, place=(1, 0, 0)))
    assert np.array_equal(gain(0, 1, 0, place=(0, 1, 0)), gain(0, 1, 0, place=(0, 1, 5)))
    assert not np.array_equal(gain(0, 1, 0, place=(0, 1, 0)), gain(0, 1, 0, place=(1, 1, 0)))
    assert np.array_equal(gain(0, 0, 1, place=(0, 0, 5)), gain(0, 0, 1, place=(3, 2, 5)))
    assert not np.array_equal(gain(0, 0, 1, place=(0, 0, 5)), gain(0, 0, 1, place=(0, 0, 6)))
    both = Laboratory(0, 6, 1, 1, 1, 1.0).nuisance(1, 2, 3).gain
    parts = [gain(*s, place=(1, 2, 3)) for s in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    np.testing.assert_allclose(both, np.prod(parts, axis=0))


def test_truth_shares_directions_within_groups():
    groups = np.repeat(np.arange(10), 5)
    truth = Truth.draw(np.random.default_rng(0), groups, np.ones(50), PAINT)
    assert truth.effects.shape == (50, len(phenotype_names(PAINT)))
    unit = truth.effects / np.linalg.norm(truth.effects, axis=1, keepdims=True)
    cosine, same = unit @ unit.T, groups[:, None] == groups
    np.fill_diagonal(same, False)
    assert cosine[same].mean() > 0.7
    assert abs(cosine[groups[:, None] != groups].mean()) < 0.1
    nothing = Truth.draw(np.random.default_rng(0), groups, np.ones(50), PAINT, strength=0.0)
    assert not nothing.effects.any()


def test_denser_lines_have_more_cells():
    sparse, dense = (
        np.mean([len(field(seed=s, line=replace(CELL_LINES["A549"], density=d))[1]) for s in range(8)])
        for d in (5.0, 15.0)
    )
    assert 2 < dense / sparse < 4.5
