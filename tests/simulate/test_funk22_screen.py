import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from morphobench.datasets import funk22
from morphobench.datasets.funk22_profiles import read as read_profiles
from morphobench.datasets.funk22_table import STAGES, list_parts
from morphobench.datasets.funk22_tiles import well_grid
from morphobench.errors import SpecError
from morphobench.fetch.addresses import local_path
from morphobench.images.unit import Sample, UnitFiles
from morphobench.simulate import funk22_screen as screen
from morphobench.simulate.funk22 import COMPLEXES, FUNCTIONS

SMALL = {"plates": 2, "wells": 1, "tile": 256, "genes": 12, "control_guides": 4, "parts": 2}
FILES = {"listing": screen.LISTING, "corum": COMPLEXES, "functions": FUNCTIONS}


def files_of(folder):
    return {name: local_path(url, folder) for name, url in FILES.items()}


def read_all(folder, parameters):
    """Samples of all units as a table and an array, read straight from the simulated folder."""
    options = {
        "grid": screen.columns_of(parameters.get("grid", 3)),
        "tile_px": parameters["tile"],
        "crop": 64,
        "window": 1,
    }
    samples = []
    for unit in screen.units_of(parameters):
        (variant,) = funk22.list_files(unit, files_of(folder), options)
        records = tuple(
            {"name": f.local, "path": str(local_path(f.url, folder)), "status": "present"} for f in variant.files
        )
        found = funk22.read_unit(UnitFiles(unit, files_of(folder), records, options))
        samples += [row for row in found if isinstance(row, Sample)]
    return pd.DataFrame([s.metadata for s in samples]), np.stack([s.pixels for s in samples])


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    screen.simulate(SMALL, folder, 0)
    return folder


def digests(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_same_bytes_and_another_seed_others(small, tmp_path):
    screen.simulate(SMALL, tmp_path / "again", 0)
    assert digests(small) == digests(tmp_path / "again")
    screen.simulate(SMALL, tmp_path / "other", 1)
    tiles = [p for p in digests(small) if p.suffix == ".tif"]
    other = digests(tmp_path / "other")
    assert len(tiles) == 2 * 5 * 3
    assert all(digests(small)[p] != other[p] for p in tiles)


def test_layout_is_that_of_the_archive(small):
    plate = small / "ftp.ebi.ac.uk/biostudies/fire/S-BIAD/394/S-BIAD394/Files/screenA/20200202_6W-LaC024A"
    folder = plate / "phenotype/images/input/DAPI-GFP-A594-AF750"
    assert len(list(folder.iterdir())) == 3 * 5
    for channel, shape, axes in (
        ("DAPI-GFP", (2, 2, 256, 256), "ZCYX"),
        ("A594", (2, 256, 256), "ZYX"),
        ("AF750", (2, 256, 256), "ZYX"),
    ):
        with tifffile.TiffFile(folder / f"20X_DAPI-GFP-A594-AF750_A1_{channel}_Site-4.tif") as file:
            (series,) = file.series
            assert (series.shape, series.axes, series.dtype) == (shape, axes, np.dtype(np.uint16))


def test_listing_and_parts_agree(small):
    parts = list_parts(local_path(screen.LISTING, small))
    assert [p.table for p in parts] == [*[next(iter(STAGES))] * 2, list(STAGES)[1]]
    for part in parts:
        content = local_path(part.raw.url, small).read_bytes()
        assert part.raw.size == len(content)
        assert part.raw.checksum == f"md5:{hashlib.md5(content).hexdigest()}"
    table = pd.concat(pd.read_parquet(local_path(p.raw.url, small)).reset_index() for p in parts)
    cells = pd.read_parquet(small / screen.CELLS)
    assert len(table) == len(cells)
    assert set(table["gene_symbol_0"]) == set(pd.read_csv(small / "truth.tsv", sep="\t")["gene"])
    assert table.groupby("sgRNA_0")["gene_symbol_0"].nunique().max() == 1
    edge = (table[["cell_i", "cell_j"]] < 32).any(axis=1) | (table[["cell_i", "cell_j"]] > 256 - 32).any(axis=1)
    assert 0.1 < edge.mean() < 0.7


def test_scores_are_against_the_controls_of_the_well(small):
    parts = list_parts(local_path(screen.LISTING, small))
    table = pd.concat(pd.read_parquet(local_path(p.raw.url, small)).reset_index() for p in parts)
    controls = table[table["gene_symbol_0"] == "nontargeting"]
    features = [c for c in table if c.startswith("nucleus_tubulin")]
    finite = controls[np.isfinite(controls[features]).all(axis=1)]
    means = finite.groupby(["plate", "well"])[features].mean()
    assert len(means) == 2
    assert np.abs(means.to_numpy()).max() < 0.2


def test_gene_sets_name_the_genes_of_the_screen(small):
    truth = pd.read_csv(small / "truth.tsv", sep="\t", keep_default_na=False)
    functions = json.loads(local_path(FUNCTIONS, small).read_text())
    assert {g: s for g, s in zip(truth["gene"], truth["group"], strict=True) if s} == {
        g: s for g, s in functions.items() if "LOST" not in g
    }
    sizes = truth[truth["complex"] != ""].groupby("complex").size()
    assert (sizes == 4).all()
    assert len(sizes) == 2


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"tiles": 3}, "unknown parameter 'tiles'"),
        ({"plates": 7}, "plates is 7, expected 1 to 6"),
        ({"grid": 2}, "grid is 2"),
        ({"penetrance": 1.5}, "penetrance is 1.5, expected 0 to 1"),
    ],
)
def test_impossible_parameters(tmp_path, parameters, words):
    with pytest.raises(SpecError, match=words):
        screen.simulate(parameters, tmp_path, 0)


@pytest.mark.parametrize("scale", ["demo", "tiny"])
def test_spec_and_simulator_agree(root, scale):
    spec = yaml.safe_load((root / "specs/datasets/funk22.yaml").read_text(encoding="utf-8"))
    overlay = spec["scales"][scale]
    assert overlay["images"]["units"] == screen.units_of(overlay["simulate"])
    assert overlay["images"]["options"]["grid"] == screen.columns_of(overlay["simulate"]["grid"])
    assert overlay["images"]["options"]["tile_px"] == overlay["simulate"]["tile"]


def test_missing_files_are_those_of_the_last_tiles(tmp_path):
    records = screen.simulate({**SMALL, "lost_tiles": 2}, tmp_path, 0)
    present = {r["url"].rpartition("/")[2] for r in records if "LaC024D" in r["url"]}
    gone = {f"20X_DAPI-GFP-A594-AF750_A1_AF750_Site-{n}.tif" for n in range(5)} - present
    assert gone == {f"20X_DAPI-GFP-A594-AF750_A1_AF750_Site-{n}.tif" for n in (3, 4)}


# What can be learnt.
LARGER = {"plates": 2, "wells": 1, "tile": 512, "genes": 8, "control_guides": 8, "complexed": 1.0}


def statistics(pixels):
    """Simple statistics of crops: moments and quantiles by channel, of the whole and of the middle."""
    values = np.arcsinh(pixels.astype(np.float32))
    middle = values[:, :, 20:44, 20:44]
    parts = [f(v, axis=(2, 3)) for v in (values, middle) for f in (np.mean, np.std)]
    parts += [np.abs(np.diff(values, axis=a)).mean(axis=(2, 3)) for a in (2, 3)]
    parts += [np.quantile(values, q, axis=(2, 3)) for q in (0.1, 0.9)]
    return np.concatenate(parts, axis=1)


def accuracy_across_wells(metadata, features, label):
    """Accuracy of logistic regression from one well on the other, features scored against controls by well."""
    batch, control = metadata["Metadata_Batch"], metadata["Metadata_Control"] == "negcon"
    scored = np.zeros_like(features)
    for name in batch.unique():
        here = (batch == name).to_numpy()
        scored[here] = (features[here] - features[here & control].mean(0)) / features[here & control].std(0)
    found = []
    for name in batch.unique():
        train, test = ((batch != name) & ~control).to_numpy(), ((batch == name) & ~control).to_numpy()
        model = LogisticRegression(max_iter=200, C=0.1).fit(scored[train], label[train])
        found.append(model.predict(scored[test]) == label[test])
    return np.concatenate(found)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Screens by strength, read once: folder, metadata, statistics."""
    known = {}

    def make(strength):
        if strength not in known:
            folder = tmp_path_factory.mktemp("planted")
            screen.simulate({**LARGER, "strength": strength}, folder, 3)
            metadata, pixels = read_all(folder, LARGER)
            known[strength] = folder, metadata, statistics(pixels)
        return known[strength]

    return make


def test_genes_can_be_told_apart_at_default_strength(planted):
    _, metadata, features = planted(1.0)
    right = accuracy_across_wells(metadata, features, metadata["Metadata_Gene"].to_numpy())
    assert right.mean() > 2 / 8


def test_strength_zero_leaves_chance(planted):
    _, metadata, features = planted(0.0)
    right = accuracy_across_wells(metadata, features, metadata["Metadata_Gene"].to_numpy())
    # Three standard deviations of a coin with eight sides.
    assert abs(right.mean() - 1 / 8) < 3 * np.sqrt(1 / 8 * 7 / 8 / len(right))


def pair_auc(folder, values, names):
    truth = pd.read_csv(folder / "truth.tsv", sep="\t").set_index("gene")["complex"]
    share = np.array([[truth[a] == truth[b] for a in names] for b in names])
    z = (values - values.mean(axis=0)) / values.std(axis=0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    upper = np.triu_indices(len(names), 1)
    return roc_auc_score(share[upper], (z @ z.T)[upper])


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_complexes_are_planted_in_the_features(tmp_path, strength):
    parameters = {**SMALL, "genes": 40, "tile": 512, "strength": strength, "complexed": 1.0}
    screen.simulate(parameters, tmp_path, 0)
    collection = read_profiles(files_of(tmp_path), tmp_path, {"plates": {"select": {}}, "level": "gene"})
    plates = [source.read() for source in collection]
    frame = pd.concat(pd.DataFrame(p.features, index=p.column("Metadata_Gene")) for p in plates)
    means = frame.groupby(level=0).mean().drop(index="nontargeting")
    found = pair_auc(tmp_path, means.to_numpy(), list(means.index))
    assert found > 0.8 if strength else abs(found - 0.5) < 0.15


def test_dna_follows_the_cell_cycle_also_without_genes(planted):
    folder = planted(0.0)[0]
    metadata, pixels = read_all(folder, LARGER)
    cells = pd.read_parquet(folder / screen.CELLS)
    place = ["Metadata_Plate", "Metadata_Tile", "Metadata_Y", "Metadata_X"]
    phase = metadata.merge(cells, "left", left_on=place, right_on=["plate", "tile", "y", "x"], validate="1:1")[
        "phase"
    ]
    assert phase.notna().all()
    light = pixels[:, 2, 22:42, 22:42].mean(axis=(1, 2))
    for name in metadata["Metadata_Batch"].unique():
        here = (metadata["Metadata_Batch"] == name).to_numpy()
        late, early = here & (phase == "G2"), here & (phase == "G1")
        both = late | early
        assert roc_auc_score(phase[both] == "G2", light[both]) > 0.75


def test_dna_feature_follows_the_planted_phase(small):
    parts = list_parts(local_path(screen.LISTING, small))
    table = pd.concat(pd.read_parquet(local_path(p.raw.url, small)).reset_index() for p in parts)
    cells = pd.read_parquet(small / screen.CELLS)
    joined = table.merge(
        cells, left_on=["plate", "tile", "cell_i", "cell_j"], right_on=["plate", "tile", "y", "x"], validate="1:1"
    )
    joined = joined[np.isfinite(joined["nucleus_dapi_int"])]
    medians = joined.groupby("phase")["nucleus_dapi_int"].median()
    assert medians["G1"] < medians["S"] < medians["G2"]
    assert set(joined.loc[joined["class_predict_1"] == "mitotic", "phase"]) == {"M"}


def test_illumination_is_uneven_and_can_be_switched_off(tmp_path):
    found = []
    for strength in (0.0, 0.9):
        parameters = {**SMALL, "field_strength": strength, "tile": 512, "plates": 1}
        flat = {f"{kind}_strength": 0.0 for kind in ("batch", "plate", "well", "tile")}
        screen.simulate(parameters | flat, tmp_path / str(strength), 0)
        stacks = [tifffile.imread(p) for p in (tmp_path / str(strength)).rglob("*_DAPI-GFP_*.tif")]
        mean = np.mean([s.max(axis=0)[1] for s in stacks], axis=0)
        found.append(mean[192:320, 192:320].mean() / np.mean([mean[:64, :64], mean[-64:, -64:]]))
    assert abs(found[0] - 1) < 0.2
    assert found[1] > 1.4


def test_grid_of_a_real_well_has_1281_tiles_each_in_its_place():
    places = well_grid(funk22.WELL)
    assert len(places) == 1281
    assert len({tuple(p) for p in places}) == 1281
    steps = np.abs(np.diff(places, axis=0))
    # The stage moves to a neighbour: along a column by one row, to the next column by one column.
    assert (steps[:, 1] <= 1).all()
    assert (steps[steps[:, 1] == 0, 0] == 1).all()
