import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import yaml

from morphobench.datasets import funk22, funk22_profiles
from morphobench.datasets.funk22_table import STAGES, choose_parts, list_parts, select_parts
from morphobench.errors import DataError, SpecError
from morphobench.fetch import fetch_dataset, fetch_unit, local_path
from morphobench.images.unit import Excluded, Sample, UnitFiles
from morphobench.profiles import check_profiles
from morphobench.simulate import funk22_screen as screen

UNIT = "20200202_6W-LaC024A_A1"


@pytest.fixture(scope="module")
def spec(root):
    """The spec at its smallest scale, as far as fetching and reading need it."""
    found = yaml.safe_load((root / "specs/datasets/funk22.yaml").read_text(encoding="utf-8"))
    overlay = found["scales"]["tiny"]
    options = {**found["images"]["options"], **overlay["images"]["options"]}
    images = {**found["images"], **overlay["images"], "options": options}
    return {**found, "images": images, "simulate": overlay["simulate"]}


@pytest.fixture(scope="module")
def mirrored(spec, tmp_path_factory):
    """The simulated screen, fetched as from a mirror: folder of raw files, fixed files, manifest rows by unit."""
    source, raw = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("raw")
    parameters = dict(spec["simulate"])
    pins = {r["url"]: r for r in screen.simulate(parameters, source, parameters.pop("seed"))}
    rows = fetch_dataset(spec, raw, source, manifest=source / "manifest.tsv")
    files = {r["name"]: local_path(r["url"], raw) for r in rows if "plate" not in r}
    units = {u: tuple(fetch_unit(spec, u, files, raw, source, pins=pins)) for u in spec["images"]["units"]}
    return source, raw, files, units


@pytest.fixture
def unit(spec, mirrored):
    def make(name=UNIT, records=None, **options):
        _, _, files, units = mirrored
        return UnitFiles(
            name, files, units[name] if records is None else records, {**spec["images"]["options"], **options}
        )

    return make


def read(unit):
    rows = list(funk22.read_unit(unit))
    return [r for r in rows if isinstance(r, Sample)], [r for r in rows if isinstance(r, Excluded)]


def changed(records, which, **values):
    return tuple({**r, **values} if which in r["name"] else r for r in records)


def table_of(mirrored, well=UNIT):
    """The cell table of a well, read plainly."""
    _, raw, files, _ = mirrored
    parts = [pd.read_parquet(local_path(p.raw.url, raw)).reset_index() for p in list_parts(files["listing"])]
    table = pd.concat(parts, ignore_index=True)
    return table[table["plate"] + "_" + table["well"] == well]


# Units.


def test_samples_are_the_cells_of_the_table_that_lie_inside(mirrored, unit, spec):
    samples, excluded = read(unit())
    table = table_of(mirrored)
    margin = spec["images"]["options"]["crop"] // 2
    place = np.floor(table[["cell_i", "cell_j"]] + 0.5)
    whole = ((place >= margin) & (place <= 256 - margin)).all(axis=1)
    found = {
        (s.metadata["Metadata_Tile"], s.metadata["Metadata_Y"], s.metadata["Metadata_Guide"]) for s in samples
    }
    expected = table[whole]
    assert found == set(zip(expected["tile"], expected["cell_i"], expected["sgRNA_0"], strict=True))
    assert len(samples) == whole.sum() > 50
    counted = {e.id: int(e.reason.split()[0]) for e in excluded}
    edge = table[~whole].groupby("tile").size()
    assert counted == {f"20200202_6W-LaC024A/A1/{tile}": n for tile, n in edge.items()}
    assert {e.what for e in excluded} == {"cell"}
    assert all("within 32 px of the edge" in e.reason for e in excluded)


def test_metadata_are_complete_and_name_each_cell_once(mirrored, unit):
    samples, _ = read(unit())
    frame = pd.DataFrame([s.metadata for s in samples])
    from morphobench.profiles import Profiles

    check_profiles(Profiles(frame, np.zeros((len(frame), 1), np.float32), ("x",)), "samples")
    assert set(frame["Metadata_Batch"]) == {UNIT}
    assert set(frame["Metadata_Stage"]) <= {"interphase", "mitotic"}
    control = frame["Metadata_Control"] == "negcon"
    assert set(frame.loc[control, "Metadata_Gene"]) == {"nontargeting"}
    assert 0 < control.mean() < 0.6
    table = table_of(mirrored).set_index("sgRNA_0")["gene_symbol_0"].groupby(level=0).first()
    assert (frame["Metadata_Guide"].map(table) == frame["Metadata_Gene"]).all()
    assert all(s.pixels.dtype == np.uint16 and s.pixels.shape == (4, 64, 64) for s in samples)


def test_crops_are_slices_of_the_projected_clipped_and_registered_tile(mirrored, unit):
    source, _, _, _ = mirrored
    samples, _ = read(unit())
    truth = pd.read_parquet(source / screen.CELLS)
    truth = truth[(truth["plate"] == "20200202_6W-LaC024A")].groupby("tile")[["shift_y", "shift_x"]].first()
    folder = source / "ftp.ebi.ac.uk/biostudies/fire/S-BIAD/394/S-BIAD394/Files" / "screenA/20200202_6W-LaC024A"
    folder = folder / "phenotype/images/input/DAPI-GFP-A594-AF750"

    def plain(tile, name):
        return tifffile.imread(folder / f"20X_DAPI-GFP-A594-AF750_A1_{name}_Site-{tile}.tif").max(axis=0)

    for sample in samples[:: len(samples) // 20]:
        m = sample.metadata
        tile = m["Metadata_Tile"]
        down, right = truth.loc[tile]
        assert (m["Metadata_ShiftY_A594"], m["Metadata_ShiftX_A594"]) == (down, right)
        y, x = int(np.floor(m["Metadata_Y"] + 0.5)) - 32, int(np.floor(m["Metadata_X"] + 0.5)) - 32
        stack = plain(tile, "DAPI-GFP")
        for channel, image, (dy, dx) in (
            (0, plain(tile, "A594"), (down, right)),
            (1, plain(tile, "AF750"), (down, right)),
            (2, stack[0], (0, 0)),
            (3, stack[1], (0, 0)),
        ):
            low, high = np.quantile(image, [0.001, 0.999], method="inverted_cdf")
            rows = np.clip(np.arange(y, y + 64) - dy, 0, 255)
            columns = np.clip(np.arange(x, x + 64) - dx, 0, 255)
            np.testing.assert_array_equal(sample.pixels[channel], np.clip(image, low, high)[np.ix_(rows, columns)])


def test_without_clip_and_registration_raw_counts_come_back(mirrored, unit):
    samples, _ = read(unit(clip=0, align=[]))
    assert not any(key.startswith("Metadata_Shift") for key in samples[0].metadata)
    name = next(r["path"] for r in mirrored[3][UNIT] if r["name"].endswith("AF750_Site-0.tif"))
    image = tifffile.imread(name).max(axis=0)
    m = samples[0].metadata
    y, x = (int(np.floor(m[f"Metadata_{axis}"] + 0.5)) - 32 for axis in "YX")
    np.testing.assert_array_equal(samples[0].pixels[1], image[y : y + 64, x : x + 64])


def test_a_missing_tile_is_listed_with_its_reason(mirrored, unit):
    records = changed(mirrored[3][UNIT], "A594_Site-2.tif", status="missing", reason="the archive answers 404")
    samples, excluded = read(unit(records=records))
    (tile,) = [e for e in excluded if e.what == "tile"]
    assert tile.id == "20200202_6W-LaC024A/A1/2"
    assert "A594_Site-2.tif is missing (the archive answers 404)" in tile.reason
    whole, _ = read(unit())
    assert len(samples) + int(tile.reason.split()[0]) == len(whole)
    assert {s.metadata["Metadata_Tile"] for s in samples} == {0, 1, 3, 4}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda image: image[:, :100, :100], "tile is 100 x 100, expected 256 x 256"),
        (lambda image: image.astype(np.uint8), "pixels are 8-bit, expected 16-bit"),
        (lambda image: np.full_like(image, 7), "constant: every pixel is 7"),
        (None, "truncated or damaged"),
    ],
)
def test_a_damaged_tile_is_listed(mirrored, unit, tmp_path, damage, words):
    path = next(r["path"] for r in mirrored[3][UNIT] if r["name"].endswith("A594_Site-1.tif"))
    if damage is None:
        (tmp_path / "bad.tif").write_bytes(Path(path).read_bytes()[:5000])
    else:
        tifffile.imwrite(tmp_path / "bad.tif", damage(tifffile.imread(path)))
    records = changed(mirrored[3][UNIT], "A594_Site-1.tif", path=str(tmp_path / "bad.tif"))
    samples, excluded = read(unit(records=records))
    (tile,) = [e for e in excluded if e.what == "tile"]
    assert tile.id.endswith("/A1/1")
    assert words in tile.reason
    assert {s.metadata["Metadata_Tile"] for s in samples} == {0, 2, 3, 4}


def test_options_choose_tiles_genes_and_cells(unit):
    whole, _ = read(unit())
    some, _ = read(unit(tiles=[3, 1]))
    kept = [s for s in whole if s.metadata["Metadata_Tile"] in (1, 3)]
    assert [s.metadata for s in some] == [s.metadata for s in kept]
    few, _ = read(unit(cells_per_gene=2, control_cells=5))
    counts = pd.Series([s.metadata["Metadata_Gene"] for s in few]).value_counts()
    every = pd.Series([s.metadata["Metadata_Gene"] for s in whole]).value_counts()
    assert counts.to_dict() == {g: min(n, 5 if g == "nontargeting" else 2) for g, n in every.items()}
    again, _ = read(unit(cells_per_gene=2, control_cells=5))
    assert [s.metadata["Metadata_Site"] for s in again] == [s.metadata["Metadata_Site"] for s in few]
    others, _ = read(unit(cells_per_gene=2, control_cells=5, seed=1))
    assert [s.metadata["Metadata_Site"] for s in others] != [s.metadata["Metadata_Site"] for s in few]
    genes, _ = read(unit(genes=["SIMG0003"]))
    assert {s.metadata["Metadata_Gene"] for s in genes} == {"SIMG0003", "nontargeting"}


def test_lister_gives_the_table_and_the_tiles_asked_for(mirrored, spec):
    files, options = mirrored[2], spec["images"]["options"]
    (variant,) = funk22.list_files(UNIT, files, {**options, "max_tiles": 1, "base": "https://example.org/Files/"})
    tiles = [f for f in variant.files if f.local.endswith(".tif")]
    name = "screenA/20200202_6W-LaC024A/phenotype/images/input/DAPI-GFP-A594-AF750/20X_DAPI-GFP-A594-AF750_A1"
    assert [f.local for f in tiles] == [f"{name}_{c}_Site-2.tif" for c in ("DAPI-GFP", "A594", "AF750")]
    assert tiles[0].url == f"https://example.org/Files/{name}_DAPI-GFP_Site-2.tif"
    parts = [f for f in variant.files if not f.local.endswith(".tif")]
    assert [f.local.partition("/")[0] for f in parts] == [*[next(iter(STAGES))] * 2, list(STAGES)[1]]
    assert all(f.checksum.startswith("md5:") and f.size for f in parts)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tiles": [5]}, "numbers from 0 to 4"),
        ({"tiles": []}, "at least one"),
        ({"tile": 3}, "unknown key 'tile'"),
    ],
)
def test_wrong_options(mirrored, spec, options, words):
    with pytest.raises(SpecError, match=words):
        funk22.list_files(UNIT, mirrored[2], {**spec["images"]["options"], **options})


# The table.


@pytest.fixture
def damaged(mirrored, unit, tmp_path):
    """A function that changes the first part of the table for one unit's reader."""

    def make(change):
        records = mirrored[3][UNIT]
        part = next(r for r in records if r["name"].endswith("part.0.parquet"))
        table = pd.read_parquet(part["path"]).reset_index()
        change(table).to_parquet(tmp_path / "part.parquet")
        return unit(records=changed(records, part["name"], path=str(tmp_path / "part.parquet"))), table

    return make


def test_a_cell_without_a_position_is_listed(damaged, unit):
    def change(table):
        first = table.index[(table["plate"] + "_" + table["well"] == UNIT) & (table["tile"] == 0)][0]
        table.loc[first, "cell_i"] = np.nan
        return table

    files, _ = damaged(change)
    samples, excluded = read(files)
    (cell,) = [e for e in excluded if "position" in e.reason]
    assert cell.what == "cell"
    assert cell.id == "20200202_6W-LaC024A/A1/0"
    assert "position is (nan, " in cell.reason
    assert all(np.isfinite(s.metadata["Metadata_Y"]) for s in samples)


def test_cells_without_tile_guide_or_gene_and_twins_are_counted(damaged):
    def change(table):
        here = table.index[table["plate"] + "_" + table["well"] == UNIT]
        table["tile"] = table["tile"].astype(float)
        table.loc[here[0], "tile"] = 99
        table.loc[here[1], "tile"] = np.nan
        table.loc[here[2], "sgRNA_0"] = None
        return pd.concat([table, table.loc[here[3:5]]])

    _, excluded = read(damaged(change)[0])
    reasons = [e.reason for e in excluded if "edge" not in e.reason]
    assert reasons == [
        "2 cells in no tile from 0 to 4",
        "1 cells without a guide or a gene",
        "2 cells at the place of another cell of the table",
    ]


def test_a_missing_column_is_an_error_that_names_file_and_column(damaged):
    files, _ = damaged(lambda table: table.drop(columns="cell_j"))
    with pytest.raises(DataError, match=r"part.parquet: column cell_j is missing"):
        read(files)


def test_a_part_that_could_not_be_had_is_listed(mirrored, unit):
    records = changed(mirrored[3][UNIT], "part.1.parquet", status="missing", reason="gone")
    samples, excluded = read(unit(records=records))
    assert [e for e in excluded if e.what == "file"][0].reason.endswith("part.1.parquet is missing (gone)")
    assert 0 < len(samples) < len(read(unit())[0])


def test_a_well_that_the_table_does_not_have(mirrored, unit):
    samples, excluded = read(unit("20200202_6W-LaC024D_A1", tables=[list(STAGES)[1]], parts=0, records=()))
    assert not samples
    assert [(e.what, e.id) for e in excluded] == [("well", "20200202_6W-LaC024D/A1")]


def test_a_damaged_part_is_an_error(mirrored, unit, tmp_path):
    (tmp_path / "part").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="part: not a readable parquet file"):
        read(unit(records=changed(mirrored[3][UNIT], "part.0.parquet", path=str(tmp_path / "part"))))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>", "not the description of a Dataverse dataset"),
        (b'{"status": "ERROR", "message": "no such"}', "the Dataverse answers ERROR"),
        (json.dumps({"data": {"latestVersion": {"files": []}}}).encode(), "lists 0 files, none of them a parquet"),
    ],
)
def test_a_listing_that_is_none(tmp_path, content, words):
    (tmp_path / "listing").write_bytes(content)
    with pytest.raises(DataError, match=words):
        list_parts(tmp_path / "listing")


def test_choice_of_parts(mirrored):
    listing = mirrored[2]["listing"]
    assert len(choose_parts(listing, None, None)) == 3
    assert [p.name.rpartition("/")[2] for p in choose_parts(listing, None, 1)] == ["part.0.parquet"] * 2
    name = f"{next(iter(STAGES))}/part.1.parquet"
    assert [p.name for p in choose_parts(listing, None, [name])] == [name]
    with pytest.raises(SpecError, match="lists no part 'x'"):
        choose_parts(listing, None, ["x"])
    stage = next(iter(STAGES))
    chosen = select_parts(mirrored[2], {"tables": [stage], "parts": 1})
    first = choose_parts(listing, [stage], 1)[0]
    assert chosen.to_numpy().tolist() == [["dataverse", stage, first.id]]


# Profiles.


def profiles_of(mirrored, spec, **options):
    _, raw, files, _ = mirrored
    return funk22_profiles.read(files, raw, {"plates": spec["plates"], **options})


@pytest.mark.parametrize("level", ["guide", "gene"])
def test_profiles_are_means_over_finite_cells(mirrored, spec, level):
    collection = profiles_of(mirrored, spec, level=level)
    column = {"guide": "sgRNA_0", "gene": "gene_symbol_0"}[level]
    for source in collection:
        profiles = source.read()
        check_profiles(profiles, source.plate)
        # A pipeline asks for plates of one batch under the names that their sources have.
        for name, value in (("Plate", source.plate), ("Batch", source.batch), ("Well", source.plate[-2:])):
            assert set(profiles.column(f"Metadata_{name}")) == {value}
        table = table_of(mirrored, source.plate)
        finite = table[np.isfinite(table[list(collection.names)]).all(axis=1)]
        expected = finite.groupby(column)[list(collection.names)].mean()
        rows = profiles.column("Metadata_Site")
        np.testing.assert_allclose(profiles.features, expected.loc[rows], rtol=1e-5, atol=1e-6)
        assert set(rows) == set(expected.index)
        counts = finite.groupby(column).size()
        assert (profiles.column("Metadata_CellCount") == counts.loc[rows]).all()
        again = source.read()
        np.testing.assert_array_equal(again.features, profiles.features)
    assert [s.batch for s in collection] == spec["images"]["units"]


def test_features_are_measurements_and_what_is_none_is_listed(mirrored, spec):
    collection = profiles_of(mirrored, spec)
    places = {"cell_i", "cell_j", "nucleus_i", "nucleus_j", "cell_bounds_0", "tile", "i_0"}
    assert not places & set(collection.names)
    out = collection.excluded
    assert places <= set(out.loc[out["what"] == "feature", "id"])
    assert {"nucleus_dapi_int", "cell_area", "cell_phalloidin_mean"} <= set(collection.names)


def test_cells_with_a_bad_feature_are_counted(mirrored, spec, tmp_path):
    _, raw, files, _ = mirrored
    part = list_parts(files["listing"])[0]
    path = local_path(part.raw.url, raw)
    before = path.read_bytes()
    table = pd.read_parquet(path)
    names = [n for n in table if n.startswith("cell_tubulin")]
    here = np.flatnonzero((table["plate"] + "_" + table["well"] == UNIT) & np.isfinite(table[names]).all(axis=1))[
        :3
    ]
    table.iloc[here, table.columns.get_loc("cell_tubulin_mean")] = [np.nan, np.inf, -np.inf]
    clean = table_of(mirrored)[list(profiles_of(mirrored, spec).names)]
    lost = int((~np.isfinite(clean).all(axis=1)).sum())
    try:
        table.to_parquet(path)
        out = profiles_of(mirrored, spec).excluded
    finally:
        path.write_bytes(before)
    row = out[(out["what"] == "cell") & (out["id"] == UNIT)]
    assert row["reason"].tolist() == [f"{lost + 3} of {len(clean)} cells with a NaN or infinite feature"]


def test_gene_sets_come_with_the_profiles(mirrored, spec):
    collection = profiles_of(mirrored, spec)
    truth = pd.read_csv(mirrored[0] / "truth.tsv", sep="\t", keep_default_na=False)
    for column, name in (("complex", "corum"), ("group", "function")):
        found = collection.annotations[collection.annotations["collection"] == name]
        expected = truth[truth[column] != ""]
        assert set(zip(found["entity"], found["set"], strict=True)) == set(
            zip(expected["gene"], expected[column], strict=True)
        )
    assert "Sim complex of lost genes" in set(collection.excluded["id"])


def test_wells_can_be_chosen_and_wrong_options_are_refused(mirrored, spec):
    assert [s.plate for s in profiles_of(mirrored, spec, wells=[UNIT])] == [UNIT]
    with pytest.raises(SpecError, match="level is 'cell'"):
        profiles_of(mirrored, spec, level="cell")
    with pytest.raises(DataError, match="no cell with finite features"):
        profiles_of(mirrored, spec, wells=["nowhere_A1"])
    with pytest.raises(DataError, match="no such file; expected part"):
        funk22_profiles.read(mirrored[2], mirrored[1] / "elsewhere", {"plates": spec["plates"]})


# What networks see.


def test_transform_of_whole_blocks_is_the_mean_of_blocks():
    batch = np.random.default_rng(0).integers(100, 30000, (3, 4, 8, 8)).astype(np.uint16)
    out = funk22.load_transform(batch, size=4)
    means = batch.astype(float).reshape(3, 4, 4, 2, 4, 2).mean(axis=(3, 5))
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, (np.arcsinh(means) - 7) / 7, rtol=1e-5, atol=1e-6)


def test_transform_of_100_to_64_keeps_means_and_order():
    batch = np.random.default_rng(1).integers(0, 65536, (2, 4, 100, 100)).astype(np.uint16)
    weights = funk22.area_weights(64, 100)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=0), 0.64, rtol=1e-5)
    fine = np.repeat(np.repeat(batch[0, 0].astype(float), 16, axis=0), 16, axis=1)
    expected = fine.reshape(64, 25, 64, 25).mean(axis=(1, 3))
    out = funk22.load_transform(batch)
    assert out.shape == (2, 4, 64, 64)
    np.testing.assert_allclose(np.sinh(out[0, 0].astype(float) * 7 + 7), expected, rtol=1e-4)
    np.testing.assert_array_equal(funk22.load_transform(batch[1, 2])[3], out[1, 2, 3])


def test_transform_leaves_its_input_and_refuses_to_enlarge():
    batch = np.full((1, 1, 64, 64), 548, np.uint16)
    assert np.abs(funk22.load_transform(batch)).max() < 0.001
    assert (batch == 548).all()
    with pytest.raises(DataError, match="cannot be enlarged"):
        funk22.load_transform(batch, size=96)
