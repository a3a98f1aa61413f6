import hashlib
import io
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from morphobench.errors import SpecError
from morphobench.simulate.incucyte import BATCHES, DMSO_WELLS, simulate, units
from morphobench.simulate.incucyte_model import DRUGS, MECHANISMS, Culture, Treatment, line_of
from morphobench.simulate.phase_contrast import BACKGROUND, Cells, Optics, draw_frame
from tests.incucyte_screen import at, options, read, small, spec


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    return small(tmp_path_factory.mktemp("incucyte"))


def paths(root):
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def digest(root):
    return hashlib.sha256(b"".join(p.encode() + (root / p).read_bytes() for p in paths(root))).hexdigest()


@pytest.mark.parametrize("scale", ["full", "demo", "tiny"])
def test_spec_and_simulator_have_the_same_units(scale):
    whole = spec()
    overlay = whole["scales"][scale]
    expected = overlay.get("images", {}).get("units", whole["images"]["units"])
    parameters = {k: v for k, v in overlay.get("simulate", {}).items() if k != "seed"}
    assert units(parameters) == expected


def test_lines_and_drugs_are_those_of_the_paper():
    lines = [line for batch in BATCHES for line in batch]
    assert len(lines) == len(set(lines)) == 21
    assert {"SKMEL2", "SW620", "COLO205", "M14", "ACHN", "HT29", "HCT15"} <= set(lines)
    assert len(DRUGS) == 31
    assert set(DRUGS) == set(spec()["images"]["options"]["drugs"])
    assert {mechanism for mechanism, _ in DRUGS.values()} == set(MECHANISMS)


def test_layout(screen):
    names = [p.removeprefix("incucyte.invalid/data/") for p in paths(screen)]
    assert {"manifest.tsv", "truth.tsv", "listing.tsv"} <= set(names)
    assert {"metadata/HT29_CL1_P1.csv", "metadata/M14_CL2_P1.csv"} <= set(names)
    assert f"batch_1/M14_CL2_P1/M14_CL2_P1_{DMSO_WELLS[0]}_1_2019y08m28d_20h30m.jpg" in names
    listed = pd.read_csv(at(screen, "listing.tsv"), sep="\t")
    assert set(listed["path"]) == {n for n in names if n.startswith(("batch_", "metadata/"))}
    assert all(at(screen, path).stat().st_size == size for path, size in listed.itertuples(index=False))
    table = pd.read_csv(at(screen, "metadata/M14_CL2_P1.csv"))
    assert list(table.columns) == ["Well", "Drug", "Final_conc_uM"]
    assert set(table.loc[table["Well"].isin(DMSO_WELLS), "Drug"]) == {"DMSO"}
    doses = table[table["Drug"] == "Pemetrexed"]["Final_conc_uM"]
    assert sorted(doses) == [1.0, 10.0]


def test_images_are_jpgs_or_raw_tiffs(tmp_path):
    small(tmp_path, batches=2, lines_per_batch=1, raw_batches=1, frames=1, drugs=1)
    kinds = Counter()
    for path in tmp_path.rglob("batch_*/*/*_1_*"):
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            kinds[path.parts[-3], path.suffix, image.mode, image.size] += 1
    assert set(kinds) == {("batch_1", ".jpg", "L", (64, 64)), ("batch_2", ".tif", "L", (72, 72))}


def test_same_seed_same_bytes(screen, tmp_path):
    assert digest(small(tmp_path / "again")) == digest(screen)
    assert digest(small(tmp_path / "other", seed=1)) != digest(screen)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"batches": 8}, "batches is 8, expected 1 to 7"),
        ({"drugs": 32}, "drugs is 32"),
        ({"dmso": 200, "drugs": 31, "doses": 5, "replicates": 2}, "a plate has 384"),
        ({"batch": 2}, "unknown parameter 'batch'"),
    ],
)
def test_impossible_parameters(tmp_path, parameters, words):
    with pytest.raises(SpecError, match=words):
        simulate(parameters, tmp_path, 0)


def one_cell(height, flatness, radius=10.0):
    one = {k: np.array([v]) for k, v in {"y": 32.0, "x": 32.0, "radius": radius, "aspect": 1.0}.items()}
    return Cells(
        **one,
        angle=np.zeros(1),
        height=np.array([height]),
        flatness=np.array([flatness]),
        lobes=np.zeros((1, 4), complex),
        grain=np.zeros(1),
    )


def test_a_cell_has_a_bright_halo_and_a_dark_rim_and_round_ones_are_brighter():
    still = Optics(noise=0.0)
    halos = []
    for height, flatness in ((0.3, 0.3), (1.0, 0.5)):
        image = draw_frame(np.random.default_rng(0), one_cell(height, flatness), still, 64).astype(float)
        distance = np.hypot(*(np.indices((64, 64)) - 32))
        assert abs(image[distance > 28] - BACKGROUND).max() <= 1
        halo, rim = (
            image[(distance > 10) & (distance < 12)].mean(),
            image[(distance > 8) & (distance < 9.5)].mean(),
        )
        assert halo > BACKGROUND + 4
        assert rim < BACKGROUND - 4
        halos.append(halo)
    assert halos[1] > halos[0]


def test_nuisance_moves_what_it_should():
    cells = one_cell(0.6, 0.4)
    plain = draw_frame(np.random.default_rng(0), cells, Optics(noise=0.0), 64).astype(float)

    def drawn(**changes):
        return draw_frame(np.random.default_rng(0), cells, Optics(**{"noise": 0.0, **changes}), 64).astype(float)

    assert drawn(contrast=0.5).std() < 0.6 * plain.std()
    np.testing.assert_allclose(drawn(level=7.0), plain + 7, atol=1)
    tilted = drawn(gradient=(8.0, 0.0)) - plain
    np.testing.assert_allclose(tilted.mean(axis=1), np.linspace(-8, 8, 64), atol=0.6)
    assert drawn(blur=2.0).max() < plain.max()
    assert drawn(noise=3.0)[:20, :20].std() == pytest.approx(3.0, rel=0.2)


def culture(mechanism, effect, seed=0, name="HT29"):
    line, _ = line_of(name, np.random.default_rng(0))
    hours = np.arange(9) * 6.0
    return Culture(np.random.default_rng(seed), line, Treatment(mechanism, effect), 160, hours, 1.0)


def test_cultures_grow_and_drugs_stop_or_kill_them():
    free, stopped, killed = culture("none", 0.0), culture("kinase", 1.0), culture("translation", 1.0)
    assert np.all(np.diff(free.count) >= 0)
    assert free.count[-1] > 2 * free.count[0]
    assert free.count[0] == stopped.count[0] == killed.count[0]
    assert stopped.count[-1] < 0.7 * free.count[-1]
    assert stopped.dead.max() == free.dead.max() == 0
    assert np.all(np.diff(killed.dead) > 0)
    assert killed.dead[-1] > 0.5
    rng = np.random.default_rng(1)
    assert len(killed.cells(rng, 8)) > killed.count[8]
    half = culture("translation", 0.3)
    assert 0.1 < half.dead[-1] < killed.dead[-1]


def test_drugs_change_shapes():
    free, round_, long = (culture(m, 1.0, name="M14") for m in ("none", "microtubule", "kinase"))
    rng = np.random.default_rng(1)
    # Debris comes after the cells.
    height = {c: c.cells(rng, 8).height[: c.count[8]] for c in (free, round_)}
    assert (height[round_] > 0.9).mean() > (height[free] > 0.9).mean() + 0.3
    aspect = {c: np.median(c.cells(rng, 8).aspect[: c.count[8]]) for c in (free, long)}
    assert aspect[long] > aspect[free] + 1


def statistics(samples):
    pixels = np.stack([s.pixels[0] for s in samples]).astype(float)
    deviation = pixels - np.median(pixels, axis=(1, 2), keepdims=True)
    quantiles = np.quantile(deviation, [0.01, 0.05, 0.25, 0.75, 0.95, 0.99], axis=(1, 2)).T
    edges = [np.abs(np.diff(pixels, axis=a)).mean(axis=(1, 2)) for a in (1, 2)]
    return np.column_stack(
        [deviation.std(axis=(1, 2)), (np.abs(deviation) > 12).mean(axis=(1, 2)), *edges, quantiles]
    )


def accuracy(root, strength, seed):
    """Accuracy of treated against control at the same hours, on plates that were not trained on."""
    parameters = {"batches": 3, "lines_per_batch": 2, "drugs": 5, "doses": 1, "dmso": 15, "pbs": 0, "hours": 24}
    small(root, seed, **parameters, replicates=3, frames=3, strength=strength)
    chosen = options(tile=64, last_times=1)
    samples = [s for b in (1, 2, 3) for s in read(root, f"batch_{b}", {**chosen, "balance": False})[0]]
    samples = [s for s in samples if s.metadata["Metadata_Time"] == 48]
    treated = [s.metadata["Metadata_Control"] == "trt" for s in samples]
    assert 0.4 < np.mean(treated) < 0.6
    groups = [s.metadata["Metadata_Batch"] for s in samples]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    return cross_val_score(model, statistics(samples), treated, groups=groups, cv=GroupKFold(3)).mean()


@pytest.mark.slow
def test_without_strength_nothing_is_learnt_and_with_it_something(tmp_path):
    # 360 images: the standard error of chance is 0.026.
    nothing = [accuracy(tmp_path / f"none{seed}", 0.0, seed) for seed in range(2)]
    assert abs(np.mean(nothing) - 0.5) < 0.07
    some = [accuracy(tmp_path / f"some{seed}", 1.0, seed) for seed in range(2)]
    assert np.mean(some) > 0.65


def test_without_strength_the_drugs_change_no_pixel(tmp_path):
    for strength in (0.0, 1.0):
        small(tmp_path / str(strength), strength=strength)
    for control in ("DMSO", "Omacetaxine"):
        table = pd.read_csv(at(tmp_path / "0.0", "metadata/M14_CL2_P1.csv"))
        well = table[table["Drug"] == control].sort_values("Final_conc_uM")["Well"].iloc[-1]
        name = f"batch_1/M14_CL2_P1/M14_CL2_P1_{well}_1_2019y08m30d_08h30m.jpg"
        same = at(tmp_path / "0.0", name).read_bytes() == at(tmp_path / "1.0", name).read_bytes()
        assert same == (control == "DMSO")
