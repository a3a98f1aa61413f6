"""Image data sets through the workflow at scale tiny: simulated files in, stores and pictures out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from morphobench.images.store import ImageStore

from .conftest import TINY, fresh

pytestmark = pytest.mark.slow

SCREENS = ("rxrx1_huvec", "cpg0004", "funk22", "incucyte")
KINDS = ("montage", "plates")
IMAGES = "results/tiny/{}/images"


@pytest.fixture(scope="module")
def screens(tmp_path_factory, root):
    """A copy with the stores and pictures of all image data sets; tests copy it before they spoil it."""
    made = fresh(tmp_path_factory.mktemp("screens") / "checkout", root)
    made.snakemake("--cores", "2", *TINY, "--", *(f"{screen}_{kind}" for screen in SCREENS for kind in KINDS))
    return made


def opened(checkout, screen):
    return ImageStore(checkout.path / IMAGES.format(screen))


def ran(result):
    """The rules of a run and how many jobs each had."""
    lines = result.stdout.split("Job stats:")[-1].splitlines()
    rows = [line.split() for line in lines if len(line.split()) == 2 and line.split()[1].isdigit()]
    return {rule: int(count) for rule, count in rows if rule != "total"}


@pytest.mark.parametrize("screen", SCREENS)
def test_a_store_has_what_its_raw_files_had(screens, screen):
    store = opened(screens, screen)
    samples = store.samples
    assert len(store) == len(samples) > 50
    assert {"train", "val", "test"} >= set(samples["Metadata_Split"])
    assert {"negcon", "trt"} <= set(samples["Metadata_Control"])
    assert samples["Metadata_Batch"].nunique() > 1
    folds = store.folds
    assert len(folds) == len(samples)
    # The authors of the drug screen have no test part: they choose and report on one tenth.
    held_out = "val" if screen == "incucyte" else "test"
    for fold in folds:
        assert {"train", held_out} <= set(folds[fold]) <= {"train", "val", "test", "unused"}
    manifests = sorted((screens.path / f"results/tiny/{screen}/raw/units").glob("*.tsv"))
    assert [m.stem for m in manifests] == sorted(samples["Metadata_Unit"].unique())
    pixels = store.take(np.arange(0, len(store), 7))
    assert pixels.reshape(len(pixels), -1).std(axis=1).min() > 0
    for kind in KINDS:
        assert (screens.path / f"results/tiny/figures/{screen}_{kind}.png").stat().st_size > 10_000


def test_a_second_run_has_nothing_to_do(screens):
    result = screens.snakemake("-n", *TINY, "--", "rxrx1_huvec_montage", "incucyte_plates")
    assert "Nothing to be done" in result.stdout + result.stderr


def test_editing_a_reader_reads_again_and_fetches_nothing(screens, tmp_path):
    copy = screens.copy(tmp_path / "copy")
    source = copy.path / "src/morphobench/datasets/rxrx1.py"
    source.write_text(source.read_text() + "\n\nEDITED = True\n")
    rules = ran(copy.snakemake("-n", *TINY, "--", "rxrx1_huvec_montage", "cpg0004_montage"))
    assert rules["prepare_unit"] == len(opened(screens, "rxrx1_huvec").samples["Metadata_Unit"].unique())
    assert "simulate" not in rules


def test_one_unit_to_start_with(screens, checkout):
    unit = opened(screens, "rxrx1_huvec").samples["Metadata_Unit"].iloc[0]
    subset = json.dumps({"rxrx1_huvec": {"units": [unit], "sites": [1]}})
    store = f"{IMAGES.format('rxrx1_huvec')}/{unit}.npy"
    checkout.snakemake("--cores", "2", *TINY, f"subset={subset}", "--", store)
    table = pd.read_parquet(checkout.path / IMAGES.format("rxrx1_huvec") / f"{unit}.parquet")
    assert set(table["Metadata_Site"]) == {"1"}


@pytest.mark.parametrize(
    ("subset", "words"),
    [
        ({"rxrx1_huvec": {"units": ["HUVEC-1"]}}, ["subset.rxrx1_huvec.units", "HUVEC-1", "did you mean"]),
        ({"rxrx1_huvec": {"wels": ["B02"]}}, ["subset.rxrx1_huvec", "wels", "wells"]),
        ({"rxrx1": {}}, ["rxrx1", "rxrx1_huvec"]),
        ({"bbbc021": {"plates": ["x"]}}, ["subset.bbbc021", "no parts"]),
    ],
)
def test_a_wrong_subset_is_one_sentence(checkout, subset, words):
    result = checkout.snakemake("-n", *TINY, f"subset={json.dumps(subset)}", check=False)
    text = result.stdout + result.stderr
    (line,) = [line for line in text.splitlines() if "morphobench:" in line]
    assert all(word in line for word in words), line
    assert "Traceback" not in text


def test_a_users_own_copy_is_read_where_it_lies(screens, checkout, tmp_path):
    served = screens.path / "data/simulated/tiny/incucyte/incucyte.invalid/data"
    own = shutil.copytree(served, tmp_path / "own")
    unit = opened(screens, "incucyte").samples["Metadata_Unit"].iloc[0]
    local = json.dumps({"incucyte": str(own)})
    store = f"{IMAGES.format('incucyte')}/{unit}.npy"
    checkout.snakemake("--cores", "2", *TINY, f"local={local}", "keep_raw=false", "--notemp", "--", store)
    manifest = pd.read_csv(checkout.path / f"results/tiny/incucyte/raw/units/{unit}.tsv", sep="\t")
    assert set(manifest["status"]) == {"local"}
    assert manifest["path"].str.startswith(str(own)).all()
    assert not list((checkout.path / "data").rglob("*.jpg"))
    # They are the user's: what is not kept are copies only.
    assert all(Path(path).is_file() for path in manifest["path"])
    assert (checkout.path / store).read_bytes() == (screens.path / store).read_bytes()


def test_a_missing_image_is_a_row_and_no_failure(screens, tmp_path):
    copy = screens.copy(tmp_path / "copy")
    store = copy.path / IMAGES.format("cpg0004")
    simulated = copy.path / "data/simulated/tiny/cpg0004"
    lost = sorted(simulated.joinpath("raw").rglob("*.png"))[5]
    unit = next(u for u in opened(copy, "cpg0004").samples["Metadata_Unit"].unique() if u in str(lost))
    before = len(opened(copy, "cpg0004"))
    (simulated / lost.relative_to(simulated / "raw")).unlink()
    lost.unlink()
    (copy.path / f"results/tiny/cpg0004/raw/units/{unit}.tsv").unlink()
    shutil.rmtree(store)
    copy.snakemake("--cores", "2", *TINY, "--", f"{IMAGES.format('cpg0004')}/store.json")
    assert len(opened(copy, "cpg0004")) == before - 1
    left_out = pd.read_csv(store / "excluded.csv")
    (row,) = left_out[left_out["id"].str.endswith(lost.name)].itertuples()
    assert (row.unit, row.what) == (unit, "image")
    assert row.reason.startswith("is missing (")
    # Not being there is known of this file, and of those that the simulator leaves out.
    manifests = [pd.read_csv(m, sep="\t") for m in copy.path.glob("results/tiny/*/raw/units/*.tsv")]
    known = sum((m["status"] == "missing").sum() for m in manifests)
    verified = copy.snakemake("--cores", "1", *TINY, "--", "verify").stdout
    assert f"0 problems, {known} listed as never had" in verified


def test_a_unit_that_cannot_be_fetched_is_one_sentence(checkout, tmp_path):
    (tmp_path / "empty").mkdir()
    unit = "results/full/rxrx1_huvec/raw/units/HUVEC-01.tsv"
    full = ("--config", "scale=full", f"mirror={tmp_path / 'empty'}")
    result = checkout.snakemake("--cores", "1", *full, "--", unit, check=False)
    text = result.stdout + result.stderr
    (line,) = [
        line for line in text.splitlines() if "[failed; log: results/full/logs/fetch/rxrx1_huvec.log]" in line
    ]
    assert "not in the mirror" in line
    assert "Traceback" not in text
    # Nobody asked for tables.
    assert "partial:" not in text
    assert not (checkout.path / "results/full/tables").exists()


def test_a_unit_that_cannot_be_read_is_one_sentence(screens, tmp_path):
    copy = screens.copy(tmp_path / "copy")
    subset = json.dumps({"rxrx1_huvec": {"size": 512}})
    store = f"{IMAGES.format('rxrx1_huvec')}/HUVEC-01.npy"
    result = copy.snakemake("--cores", "1", *TINY, f"subset={subset}", "--", store, check=False)
    text = result.stdout + result.stderr
    log = "results/tiny/logs/prepare_unit/rxrx1_huvec/HUVEC-01.log"
    (line,) = [line for line in text.splitlines() if f"[failed; log: {log}]" in line]
    assert "48 x 48" in line
    assert "512" in line
    assert "Traceback" not in text
    assert not list((copy.path / store).parent.glob("*HUVEC-01*"))


def test_the_pooled_screen_has_measured_profiles_too(screens, tmp_path):
    copy = screens.copy(tmp_path / "copy")
    folder = "results/tiny/funk22/prepared"
    copy.snakemake("--cores", "1", *TINY, "--", f"{folder}/profiles.parquet")
    profiles = pd.read_parquet(copy.path / folder / "profiles.parquet")
    assert set(profiles["Metadata_Batch"]) == set(opened(copy, "funk22").samples["Metadata_Batch"])
    assert set(profiles["Metadata_Gene"]) <= set(opened(copy, "funk22").samples["Metadata_Gene"])
    assert set(pd.read_parquet(copy.path / folder / "annotations.parquet")["collection"]) == {"corum", "function"}


def test_verify_finds_a_damaged_file(screens, tmp_path):
    copy = screens.copy(tmp_path / "copy")
    assert "0 problems" in copy.snakemake("--cores", "1", *TINY, "--", "verify").stdout
    image = next((copy.path / "data/simulated/tiny/cpg0004/raw").rglob("*.png"))
    content = bytearray(image.read_bytes())
    content[-20] ^= 1
    image.write_bytes(content)
    result = copy.snakemake("--cores", "1", *TINY, "--", "verify", check=False)
    assert image.name in result.stdout + result.stderr


def test_raw_files_that_are_not_kept_are_fetched_again_when_needed(screens, tmp_path):
    copy = screens.copy(tmp_path / "copy")
    montages = [f"{screen}_montage" for screen in SCREENS]
    arguments = ("--cores", "2", *TINY, "keep_raw=false", "--", *montages)
    stores = [copy.path / IMAGES.format(screen) for screen in SCREENS]
    before = [(store / "samples.parquet").read_bytes() for store in stores]
    shutil.rmtree(copy.path / "results/tiny/figures")
    for store in stores:
        shutil.rmtree(store)
    copy.snakemake(*arguments)
    for screen in SCREENS:
        raw = copy.path / f"data/simulated/tiny/{screen}/raw"
        assert not [p for kind in ("png", "tif", "jpg") for p in raw.rglob(f"*.{kind}")]
        assert not list(raw.rglob("HUVEC-*.zip"))
        assert not list((copy.path / f"results/tiny/{screen}/raw/units").glob("*.tsv"))
    source = copy.path / "src/morphobench/datasets/fields.py"
    source.write_text(source.read_text() + "\n\nEDITED = True\n")
    copy.snakemake(*arguments)
    assert [(store / "samples.parquet").read_bytes() for store in stores] == before
