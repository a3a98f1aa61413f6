import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from morphobench.errors import DataError, SpecError
from morphobench.learning.randomness import sample_keys
from morphobench.profilenets.data import COMPOSITIONS, ProfileData
from morphobench.profilenets.features import FeatureSpace
from morphobench.profilenets.sources import Sources
from morphobench.profiles import read_profiles, write_profiles

from .plates import LabPlate, names, write

EVERYTHING = {"strategy": "none"}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    """18 plates of 24 wells of three laboratories, two plates a row group."""
    return write([LabPlate(i) for i in range(18)], tmp_path_factory.mktemp("plates"))


@pytest.fixture(scope="module")
def profiles(path):
    return read_profiles(path)


def data(path, composition="mixed", **changes) -> ProfileData:
    keywords = {"batch_size": 10, "seed": 1, "plates_at_once": 6, "split": EVERYTHING, **changes}
    return ProfileData(path, composition=composition, **keywords)


def rows_of(batches) -> list[list[int]]:
    return [batch["row"].tolist() for batch in batches]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_every_row_once_per_epoch_with_its_own_values(path, profiles, composition):
    made = data(path, composition)
    for epoch in range(2):
        batches = list(made.batches(epoch))
        assert len(batches) == made.steps(epoch)
        assert sorted(sum(rows_of(batches), [])) == list(range(len(profiles)))
        for batch in batches:
            row = batch["row"].numpy()
            np.testing.assert_array_equal(batch["values"], profiles.features[row])
            assert batch["values"].dtype == torch.float32
            assert batch["present"].all()
            assert batch["present"].shape == batch["values"].shape
            source = [made.sources.names[code] for code in batch["source"]]
            assert source == profiles.metadata["Metadata_Source"].iloc[row].tolist()
            label = [made.classes[code] for code in batch["label"]]
            assert label == profiles.metadata["Metadata_Perturbation"].iloc[row].tolist()
            assert torch.equal(batch["key"], sample_keys(1, epoch, row))
    assert made.sources.names == ("source_9", "source_10", "source_11")


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_sizes_of_mini_batches_differ_by_one_at_most_within_a_hand(path, composition):
    sizes = [len(batch["row"]) for batch in data(path, composition).batches(0)]
    assert set(sizes) == ({8} if composition == "plate" else {9, 10})


def test_one_plate_per_mini_batch(path, profiles):
    plates = profiles.column("Metadata_Plate")
    assert all(len(set(plates[rows])) == 1 for rows in rows_of(data(path, "plate").batches(0)))


def test_one_source_per_mini_batch_of_several_plates(path, profiles):
    plates, sources = profiles.column("Metadata_Plate"), profiles.column("Metadata_Source")
    rows = rows_of(data(path, "source").batches(0))
    assert all(len(set(sources[r])) == 1 for r in rows)
    assert np.mean([len(set(plates[r])) for r in rows]) > 3


@pytest.mark.parametrize("plates_at_once", [3, 6, 25])
def test_mixed_is_mixed(path, profiles, plates_at_once):
    """With wells drawn at random from equal sources a mini-batch of 10 has 3.33 of each, by chance 0 in 2 %."""
    sources = profiles.column("Metadata_Source")
    made = data(path, plates_at_once=plates_at_once)
    seen = [np.unique(sources[r], return_counts=True) for e in range(3) for r in rows_of(made.batches(e))]
    assert np.mean([len(found) == 3 for found, _ in seen]) > 0.8
    assert max(counts.max() / counts.sum() for _, counts in seen) < 0.95
    share = [sum(dict(zip(*s, strict=True)).get(name, 0) for s in seen) for name in made.sources.names]
    assert share == [432] * 3


def test_mixed_hands_have_each_source_in_proportion(tmp_path):
    """Twelve plates of one source and four of another: any hand of four plates has three and one."""
    made = data(write([_Uneven(i, wells=12) for i in range(16)], tmp_path), plates_at_once=4, batch_size=48)
    for epoch in range(4):
        counts = [np.bincount(batch["source"]).tolist() for batch in made.batches(epoch)]
        assert counts == [[36, 12]] * 4


class _Uneven(LabPlate):
    @property
    def source(self) -> str:
        return "source_1" if self.index % 4 else "source_2"


def test_plates_meet_others_in_other_epochs(path, profiles):
    plates = profiles.column("Metadata_Plate")
    made, met = data(path), set()
    for epoch in range(12):
        for rows in rows_of(made.batches(epoch)):
            here = sorted(set(plates[rows]))
            met |= {(a, b) for a in here for b in here if a < b}
    assert len(met) > 0.95 * 18 * 17 / 2


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_seed_and_epoch_alone_decide(path, composition):
    first = rows_of(data(path, composition).batches(3))
    made = data(path, composition)
    list(made.batches(0))
    assert rows_of(made.batches(3)) == first
    assert rows_of(made.batches(4)) != first
    assert rows_of(data(path, composition, seed=2).batches(3)) != first


@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_an_epoch_is_taken_up_anywhere(path, composition):
    whole = list(data(path, composition).batches(5))
    for first in (0, 1, 7, len(whole) - 1, len(whole)):
        rest = list(data(path, composition).batches(5, first))
        assert len(rest) == len(whole) - first
        assert all(map(same, rest, whole[first:]))
    made = data(path, composition)
    assert all(same(made.batch(5, step), whole[step]) for step in reversed(range(len(whole))))
    assert same(made.batch(4, 0), next(data(path, composition).batches(4)))
    with pytest.raises(IndexError):
        made.batch(5, len(whole))


def test_taking_up_reads_only_what_is_still_needed(path, monkeypatch):
    made, read = data(path, "plate"), []
    original = made._file.read
    monkeypatch.setattr(made._file, "read", lambda rows: read.append(len(rows)) or original(rows))
    assert len(list(made.batches(0, made.steps(0) - 4))) == 4
    assert read == [24, 24]


def test_an_epoch_left_early_can_be_begun_again(path):
    made = data(path)
    begun = list(islice(made.batches(0), 2))
    assert all(map(same, begun, made.batches(0)))


def test_in_memory_and_file_give_the_same(path, profiles, tmp_path):
    write_profiles(profiles, tmp_path / "one_group.parquet")
    expected = list(data(path).batches(0))
    for given in (profiles, tmp_path / "one_group.parquet"):
        assert all(map(same, data(given).batches(0), expected))


def test_in_order(path, profiles):
    made = data(path, "plate")
    batches = list(made.in_order(50))
    assert sum(rows_of(batches), []) == list(range(len(profiles)))
    np.testing.assert_array_equal(np.concatenate([b["values"] for b in batches]), profiles.features)


@pytest.mark.parametrize(
    ("wells", "kept"),
    [
        ("all", lambda m: m["Metadata_Control"] != ""),
        ("controls", lambda m: m["Metadata_Control"] != "trt"),
        ("curated", lambda m: (m["Metadata_Control"] != "trt") | m["Metadata_MoA"].notna()),
    ],
)
def test_wells_and_split(path, profiles, wells, kept):
    made = data(path, wells=wells, split=None)
    expected = kept(profiles.metadata) & (profiles.metadata["Metadata_Split"] == "train")
    np.testing.assert_array_equal(made.rows, np.flatnonzero(expected))
    assert sorted(sum(rows_of(made.batches(0)), [])) == made.rows.tolist()
    assert made.facts["trained_on"] == expected.sum()
    assert made.facts["rows"] == {"train": 13 * 24, "val": 0, "test": 5 * 24}


def test_a_hidden_source_is_not_trained_on_and_has_no_token(path, profiles):
    made = data(path, split={"strategy": "sources", "hidden": ["source_10"]})
    assert made.sources.names == ("source_9", "source_11")
    assert "source_10" not in set(profiles.column("Metadata_Source")[made.rows])
    with pytest.raises(DataError, match=r"source source_10 has no token; the model knows source_9, source_11"):
        data(path, sources=made.sources)
    extended = made.sources.extended(profiles.column("Metadata_Source"))
    assert extended == Sources(("source_9", "source_11", "source_10"))
    codes = np.concatenate([b["source"] for b in data(path, "plate", sources=extended).in_order()])
    np.testing.assert_array_equal(np.array(extended.names)[codes], profiles.column("Metadata_Source"))


def test_features_of_a_network_that_knows_others(path, profiles):
    space = FeatureSpace.from_names(("Cells_New_DNA", *reversed(names(30)[:20])))
    with pytest.raises(DataError, match="10 of 30 features are unknown to the model"):
        data(path, space=space)
    made = data(path, space=space, unknown="leave_out")
    batch = made.batch(0, 0)
    np.testing.assert_array_equal(batch["present"], np.tile([False] + [True] * 20, (len(batch["row"]), 1)))
    assert (batch["values"][:, 0] == 0).all()
    expected = profiles.features[batch["row"]][:, [profiles.names.index(n) for n in space.names[1:]]]
    np.testing.assert_array_equal(batch["values"][:, 1:], expected)
    assert made.facts["absent_features"] == ["Cells_New_DNA"]
    assert made.facts["features_left_out"] == sorted(set(profiles.names) - set(space.names))


def test_batches_as_tokens_and_mechanisms_as_labels(path, profiles):
    made = data(path, source="Metadata_Batch", label=["Metadata_MoA", "Metadata_Perturbation"])
    assert len(made.sources.names) == 9
    assert {"moa 0", "moa 1", "DMSO"} <= set(made.classes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"composition": "plates"}, SpecError, "composition is 'plates', expected one of plate, source, mixed"),
        ({"batch_size": 0}, SpecError, "batch_size is 0"),
        ({"wells": "some"}, SpecError, "reader_options.wells is 'some'"),
        ({"label": "Metadata_Gene"}, DataError, "samples have no column Metadata_Gene"),
        ({"source": "Metadata_Lab"}, DataError, ".*: column Metadata_Lab, whose values have tokens, is missing"),
    ],
)
def test_wrong_settings(path, changes, error, message):
    with pytest.raises(error, match=f"^{message}"):
        data(path, **changes)


def changed(profiles, tmp_path, **columns) -> Path:
    metadata = profiles.metadata.assign(**columns)
    write_profiles(profiles.__class__(metadata, profiles.features, profiles.names), tmp_path / "changed.parquet")
    return tmp_path / "changed.parquet"


def test_one_label_only(profiles, tmp_path):
    path = changed(profiles, tmp_path, Metadata_Perturbation="DMSO")
    data(path)
    with pytest.raises(
        DataError,
        match=r"changed.parquet: contrastive training needs two labels; all 432 training wells have "
        r"Metadata_Perturbation DMSO$",
    ):
        data(path, contrastive=True)
    path = changed(profiles, tmp_path, Metadata_Perturbation=[f"c{i}" for i in range(len(profiles))])
    with pytest.raises(DataError, match="needs a label with two wells; each of the 432 training wells has a"):
        data(path, contrastive=True)


def test_one_source_only(profiles, tmp_path):
    path = changed(profiles, tmp_path, Metadata_Source="source_1")
    with pytest.raises(
        DataError, match="mixed sources need wells of two; all 432 training wells are of source_1$"
    ):
        data(path)
    data(path, "source")


def test_a_plate_of_two_sources(profiles, tmp_path):
    source = profiles.metadata["Metadata_Source"].to_numpy(copy=True)
    source[5] = "source_11"
    path = changed(profiles, tmp_path, Metadata_Source=source)
    with pytest.raises(DataError, match="plate plate000 has wells of two sources; expected one$"):
        data(path, "source")


def test_nothing_to_train_on_and_no_mechanisms(profiles, tmp_path):
    path = changed(profiles, tmp_path, Metadata_Split="test")
    with pytest.raises(DataError, match=r"none of 432 wells is left to train on \(wells all, 0 of the training"):
        data(path, split=None)
    bare = profiles.metadata.drop(columns="Metadata_MoA")
    held = profiles.__class__(bare, profiles.features, profiles.names)
    with pytest.raises(DataError, match="^profiles: column Metadata_MoA is missing, and the curated wells are"):
        data(held, wells="curated")


def test_files_that_are_none(tmp_path):
    with pytest.raises(DataError, match="no.parquet: no such file; expected a profiles file"):
        data(tmp_path / "no.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(DataError, match="text.parquet: not a readable parquet file"):
        data(tmp_path / "text.parquet")


def test_a_value_that_is_not_finite(profiles, tmp_path):
    profiles.metadata.to_parquet(tmp_path / "bad.parquet")
    frame = profiles.metadata.assign(**dict(zip(profiles.names, profiles.features.T, strict=True)))
    frame.loc[33, profiles.names[2]] = np.nan
    frame.to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(
        DataError, match=f"bad.parquet: feature {profiles.names[2]} is nan in row 33; profiles must"
    ):
        list(data(tmp_path / "bad.parquet").batches(0))


def peaks(path: Path, composition: str) -> tuple[int, int]:
    """Peak bytes of numpy and of arrow while two epochs of a file are read."""
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    default = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        made = data(path, composition, batch_size=64, plates_at_once=5)
        seen = sum(len(batch["row"]) for epoch in range(2) for batch in made.batches(epoch))
        assert seen == 2 * len(made.rows)
        return tracemalloc.get_traced_memory()[1], pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(default)


@pytest.mark.slow
@pytest.mark.parametrize("composition", COMPOSITIONS)
def test_memory_does_not_grow_with_plates(tmp_path, composition):
    """30 plates more are 4.6 MB of features; a reader that kept one copy of them would grow by that."""
    found = []
    for count in (15, 45):
        plates = [LabPlate(i, columns=200, wells=192) for i in range(count)]
        found.append(peaks(write(plates, tmp_path, row_group_bytes=600_000), composition))
    (few, few_arrow), (many, many_arrow) = found
    assert few > 192 * 200 * 4
    assert many - few < 2_000_000
    assert many_arrow - few_arrow < 2_000_000
