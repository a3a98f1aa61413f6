"""Image data sets through the workflow at scale tiny: simulated files in, stores and pictures out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from morphobench.images.store import ImageStore

from .conftest import TINY, fresh

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("screens")]

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
    arguments = ("--cores", "2", *TINY, "keep_raw=false", "--", "cpg0004_montage")
    raw = copy.path / "data/simulated/tiny/cpg0004/raw"
    before = (copy.path / IMAGES.format("cpg0004") / "samples.parquet").read_bytes()
    shutil.rmtree(copy.path / IMAGES.format("cpg0004"))
    copy.snakemake(*arguments)
    assert not list(raw.rglob("*.png"))
    assert not list((copy.path / "results/tiny/cpg0004/raw/units").glob("*.tsv"))
    source = copy.path / "src/morphobench/datasets/cpg0004.py"
    source.write_text(source.read_text() + "\n\nEDITED = True\n")
    copy.snakemake(*arguments)
    assert (copy.path / IMAGES.format("cpg0004") / "samples.parquet").read_bytes() == before
