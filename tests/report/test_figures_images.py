"""Montages and plate maps: what is drawn, and that the same store gives the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from morphobench.errors import DataError
from morphobench.files import sha256_of
from morphobench.images.finish import finish_store
from morphobench.images.store import ImageStore
from morphobench.images.unit import Sample
from morphobench.images.write import write_unit
from morphobench.report import figures_images
from morphobench.report.figures_images import draw_montage, draw_plates
from tests.images.screens import CHANNELS, make_store, metadata, unit_files

SPEC = {"channels": CHANNELS, "pixel_size_um": 2.0, "montage": {"label": "Metadata_Perturbation"}}
WORDS = {"title": "A screen", "subtitle": "Scale tiny, simulated"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return ImageStore(make_store(tmp_path_factory.mktemp("store")))


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved, as matplotlib objects; they are still written."""
    figures, save = [], figures_images.save

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(figures_images, "save", keep)
    return figures


def texts(figure) -> list[str]:
    found = [t.get_text() for t in figure.texts]
    for axes in figure.axes:
        found += [t.get_text() for t in [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]]
        found += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
    found += [t.get_text() for legend in figure.legends for t in legend.get_texts()]
    return [t for t in found if t]


def test_montage_names_all_it_shows(store, tmp_path, drawn):
    path = tmp_path / "m.png"
    draw_montage(store, SPEC, path, **WORDS)
    found = texts(drawn[0])
    assert found[0] == "A screen"
    assert any("Scale tiny, simulated" in t and "across: perturbation, down: batch" in t for t in found)
    assert {"DMSO (control)", "drug A02", "drug B03", "batch-1", "batch-3", "DNA", "Actin"} <= set(found)
    assert "10 \N{MICRO SIGN}m" in found
    with Image.open(path) as image:
        assert min(image.size) > 300


def test_panels_show_the_images_of_their_treatment_and_batch(tmp_path, drawn):
    """Each treatment has its own brightness in its own channel; a panel without images is pale grey."""

    def reader(unit):
        for well, level in (("A01", 0), ("A02", 100), ("B02", 200)):
            if (unit.unit, well) != ("q", "B02"):
                image = np.zeros((2, 32, 32), np.uint8)
                image[0] = level
                image[:, 0, 0] = 200
                yield Sample(metadata(unit.unit, well, 1), image)

    for unit in "pq":
        write_unit(reader, unit_files(unit), tmp_path, channels=CHANNELS)
    finish_store(tmp_path, ["p", "q"], CHANNELS, None)
    spec = {**SPEC, "channels": [{"name": "DNA", "colour": "#0000ff"}, CHANNELS[1]], "pixel_size_um": None}
    draw_montage(ImageStore(tmp_path), spec, tmp_path / "m.png", **WORDS)
    picture = drawn[0].axes[0].get_images()[0].get_array()
    ticks = [drawn[0].axes[0].get_yticks().astype(int), drawn[0].axes[0].get_xticks().astype(int)]
    centres = picture[np.ix_(*ticks)]
    half = 0.5**1.3
    expected = [[[0, 0, 0], [0, 0, half], [0, 0, 1]], [[0, 0, 0], [0, 0, half], [0.92] * 3]]
    np.testing.assert_allclose(centres, expected, atol=0.01)
    assert not any("\N{MICRO SIGN}m" in t for t in texts(drawn[0]))


def test_scale_bar_is_as_long_as_it_says(store, tmp_path, drawn):
    draw_montage(store, SPEC, tmp_path / "m.png", **WORDS, treatments=["DMSO"], batches=["batch-1"])
    axes = drawn[0].axes[0]
    left, right = axes.get_lines()[0].get_xdata()
    # Two by two images of 24 pixels of 2 micrometres and a line between them fill the width.
    width = axes.get_images()[0].get_array().shape[1]
    np.testing.assert_allclose((right - left) / width, (10 / 2.0) / (2 * 24 + 1))


def test_one_channel_is_grey(tmp_path, drawn):
    def reader(unit):
        for well in ("A01", "A02"):
            yield Sample(metadata("p", well, 1), np.arange(900, dtype=np.uint8).reshape(1, 30, 30))

    channels = [{"name": "phase", "colour": "#00ff00"}]
    write_unit(reader, unit_files("p"), tmp_path, channels=channels)
    finish_store(tmp_path, ["p"], channels, None)
    draw_montage(ImageStore(tmp_path), {**SPEC, "channels": channels}, tmp_path / "m.png", **WORDS)
    picture = drawn[0].axes[0].get_images()[0].get_array()
    np.testing.assert_array_equal(picture[..., 0], picture[..., 1])
    assert not drawn[0].legends
    draw_plates(ImageStore(tmp_path), {"channels": channels}, tmp_path / "p.png", **WORDS)
    assert "cell count" not in texts(drawn[1])


def test_controls_without_a_mechanism_are_still_shown(tmp_path, drawn):
    def reader(unit):
        for well, mechanism in (("A01", None), ("A02", "kinase"), ("A03", None)):
            image = np.full((2, 8, 8), 9, np.uint8)
            yield Sample(metadata(unit.unit, well, 1, Metadata_MoA=mechanism), image)

    store = ImageStore(make_store(tmp_path, ["p"], reader, None))
    draw_montage(store, {**SPEC, "montage": {"label": "Metadata_MoA"}}, tmp_path / "m.png", **WORDS)
    assert [t.get_text() for t in drawn[0].axes[0].get_xticklabels()] == ["DMSO (control)", "kinase"]


def test_montage_needs_its_columns(store, tmp_path):
    with pytest.raises(DataError, match="no column Metadata_Gene, which the montage is to show"):
        draw_montage(store, {**SPEC, "montage": {"label": "Metadata_Gene"}}, tmp_path / "m.png", **WORDS)


def test_plate_maps(store, tmp_path, drawn):
    draw_plates(store, SPEC, tmp_path / "p.png", **WORDS)
    found = texts(drawn[0])
    assert {"A screen", "DNA", "Actin", "cell count", "plate-1", "plate-3", "mean pixel value"} <= set(found)
    assert any("Scale tiny, simulated" in t and "Otsu" in t for t in found)
    maps = [a for a in drawn[0].axes if a.get_images() and a.get_images()[0].get_array().shape == (2, 3)]
    assert len(maps) == 9
    first = maps[0].get_images()[0].get_array()
    images = store.take(np.flatnonzero(store.samples["Metadata_Plate"] == "plate-1"))
    np.testing.assert_allclose(first[0, 0], images[:2, 0].mean())
    np.testing.assert_allclose(first[1, 2], images[10, 0].mean())
    np.testing.assert_array_equal(maps[0].collections[0].get_offsets(), [[0, 0], [0, 1]])


def test_wells_without_rows_and_columns(tmp_path, drawn):
    def reader(unit):
        yield Sample(metadata("p", "TUBB", 1), np.zeros((2, 8, 8), np.uint8))

    store = ImageStore(make_store(tmp_path, ["p"], reader, None))
    draw_plates(store, SPEC, tmp_path / "p.png", **WORDS)
    assert any("no row and column" in " ".join(t.split()) for t in texts(drawn[0]))


def test_same_bytes(store, tmp_path):
    for draw in (draw_montage, draw_plates):
        for name in ("a", "b"):
            draw(store, SPEC, tmp_path / name, **WORDS)
        assert sha256_of(tmp_path / "a") == sha256_of(tmp_path / "b")
