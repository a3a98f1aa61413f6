"""Mini-batches of a fold, against the store's own tables."""

import pickle

import numpy as np
import pytest
import torch

from morphobench.errors import DataError
from morphobench.learning.augment import MultiCrop, View
from morphobench.learning.data import ScreenData
from tests.learning.conftest import make_store


def screen(store, **options):
    return ScreenData(store, 0, **{"batch_size": 8, "seed": 0, **options})


def epoch_of(data, epoch=0, **part):
    return [data.batch(epoch, step, **part) for step in range(data.steps_per_epoch)]


def test_an_epoch_shows_every_training_image_once(store):
    data = screen(store)
    assert data.steps_per_epoch == 6
    rows = torch.cat([b["row"] for b in epoch_of(data)])
    assert sorted(rows.tolist()) == store.rows(0, "train").tolist()
    assert torch.cat([b["row"] for b in epoch_of(data, 1)]).tolist() != rows.tolist()
    assert torch.cat([b["row"] for b in epoch_of(screen(store, seed=1))]).tolist() != rows.tolist()


def test_images_and_codes_are_those_of_the_store(store):
    data = screen(store, cross_batch=True)
    samples = store.samples
    for batch in epoch_of(data):
        rows = batch["row"].numpy()
        np.testing.assert_array_equal(batch["images"].numpy(), store.take(rows))
        assert batch["images"].dtype == torch.uint8
        names = samples.iloc[rows]
        assert [data.classes[c] for c in batch["label"]] == names["Metadata_Perturbation"].tolist()
        assert [data.domain_names[c] for c in batch["domain"]] == names["Metadata_Batch"].tolist()
        assert [data.normalisation.plates[c] for c in batch["plate"]] == names["Metadata_Plate"].tolist()


def test_partners_share_the_treatment_but_not_the_batch(store):
    data = screen(store, cross_batch=True)
    every = store.take(np.arange(len(store)))
    for batch in epoch_of(data):
        for i, pixels in enumerate(batch["partners"].numpy()):
            (row,) = np.flatnonzero((every == pixels).all(axis=(1, 2, 3)))
            other = store.samples.iloc[row]
            assert row in data.rows
            assert other["Metadata_Perturbation"] == data.classes[batch["label"][i]]
            assert other["Metadata_Batch"] == data.domain_names[batch["partner_domain"][i]]
            assert other["Metadata_Plate"] == data.normalisation.plates[batch["partner_plate"][i]]
    different = torch.cat([b["domain"] != b["partner_domain"] for b in epoch_of(data)])
    assert different.all()


def test_domain_and_hint_may_be_other_columns(store):
    data = screen(store, cross_batch=True, domain="Metadata_Plate", hint="Metadata_Control")
    assert data.domain_names == sorted(store.samples["Metadata_Plate"].iloc[data.rows].unique())
    same_batch = same_treatment = 0
    every = store.take(np.arange(len(store)))
    for batch in epoch_of(data):
        assert (batch["domain"] != batch["partner_domain"]).all()
        for i, pixels in enumerate(batch["partners"].numpy()):
            (row,) = np.flatnonzero((every == pixels).all(axis=(1, 2, 3)))
            own, other = store.samples.iloc[int(batch["row"][i])], store.samples.iloc[row]
            assert own["Metadata_Control"] == other["Metadata_Control"]
            same_batch += own["Metadata_Batch"] == other["Metadata_Batch"]
            same_treatment += own["Metadata_Perturbation"] == other["Metadata_Perturbation"]
    assert 0 < same_batch < 48
    assert same_treatment < 48


def test_a_batch_does_not_depend_on_what_was_drawn_before(store):
    first, second = screen(store, cross_batch=True), screen(store, cross_batch=True)
    epoch_of(first)
    a, b = first.batch(3, 2), second.batch(3, 2)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


@pytest.mark.parametrize("cross_batch", [False, True])
def test_two_processes_see_together_what_one_sees(store, cross_batch):
    data = screen(store, cross_batch=cross_batch)
    crops = MultiCrop(View(16, (0.9, 1.1)), View(8, (0.3, 0.5)), data.normalisation, locals_=2)
    joint = data.batch(1, 4)
    halves = [data.batch(1, 4, rank, 2) for rank in range(2)]
    for name, value in joint.items():
        if value is not None:
            torch.testing.assert_close(torch.cat([h[name] for h in halves]), value, rtol=0, atol=0)
    for whole, *parts in zip(crops(joint), *(crops(h) for h in halves), strict=True):
        torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=0)


def test_loader_follows_its_epoch_and_workers_change_nothing(store):
    data = screen(store, cross_batch=True)
    here, away = data.loader(), data.loader(workers=1)
    for epoch in (0, 2):
        for loader in (here, away):
            loader.sampler.set_epoch(epoch)
        expected = epoch_of(data, epoch)
        for found in (list(here), list(away)):
            assert len(found) == len(expected)
            for a, b in zip(found, expected, strict=True):
                for name in b:
                    torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)


def test_uneven_shares_are_refused(store):
    with pytest.raises(DataError, match="mini-batches of 8 of 48 images cannot be shared by 3 processes"):
        screen(store).loader(0, 3)
    with pytest.raises(DataError, match="cannot be shared"):
        screen(store, batch_size=46, drop_last=False).loader(0, 4)


def test_last_batch(store):
    assert screen(store, batch_size=20).steps_per_epoch == 2
    data = screen(store, batch_size=20, drop_last=False)
    assert [len(b["row"]) for b in epoch_of(data)] == [20, 20, 8]
    with pytest.raises(IndexError, match="mini-batch 3 of 3"):
        data.batch(0, 3)


def test_facts_say_what_was_used(store):
    facts = screen(store, cross_batch=True).facts
    assert facts["images"] == {"train": 48, "val": 24, "test": 24}
    assert facts["batches"] == {"train": ["week-1", "week-2"], "val": ["week-3"], "test": ["week-4"]}
    assert facts["trained_on"] == 48
    assert facts["partners_of_the_same_batch"] == {"of": [], "images": 0}
    assert screen(store, subset="controls").facts["trained_on"] == 12
    assert screen(store).domain_sizes.tolist() == [24, 24]


def test_data_can_be_sent_to_workers(store):
    data = pickle.loads(pickle.dumps(screen(store, cross_batch=True)))
    torch.testing.assert_close(data.batch(0, 0)["images"], screen(store).batch(0, 0)["images"])


def test_a_treatment_that_only_the_test_batches_have(tmp_path):
    store = make_store(tmp_path, plates=1, copies=1, without=[(1, "s2"), (2, "s2"), (2, "s3")])
    with pytest.raises(DataError) as error:
        screen(store, batch_size=2)
    assert "training batches of fold 0 lack 1 of the 4 values of Metadata_Perturbation" in str(error.value)
    assert "test images have: s2; expected each" in str(error.value)
    data = screen(store, batch_size=2, unseen=True, cross_batch=True)
    assert data.facts["tested_but_not_trained"] == ["s2"]
    assert data.facts["partners_of_the_same_batch"] == {"of": ["s3"], "images": 1}
    # A subset of the training images is a choice, not a fault of the fold.
    assert screen(store, batch_size=2, unseen=True, subset="controls").facts["trained_on"] == 2


def test_one_training_batch_makes_partners_impossible(tmp_path):
    folds = {"kind": "rotate_groups", "by": "Metadata_Batch", "train": 1, "val": 1, "test": 1, "step": 1}
    store = make_store(tmp_path, batches=3, plates=1, copies=2, folds=folds)
    screen(store)
    with pytest.raises(DataError, match="at least two batches; all 8 training images are of batch week-1"):
        screen(store, cross_batch=True)


def test_too_few_images_and_missing_columns(store):
    with pytest.raises(DataError, match="fold 0 trains on 48 images, expected at least a mini-batch of 64"):
        screen(store, batch_size=64)
    with pytest.raises(DataError, match="no column Metadata_MoA"):
        screen(store, label="Metadata_MoA")
    with pytest.raises(DataError, match="no split 'train' of fold9"):
        ScreenData(store, 9, batch_size=8, seed=0)


def test_images_without_a_label_are_an_error_or_counted(store, monkeypatch):
    samples = store.samples.copy()
    control = samples["Metadata_Control"] == "negcon"
    samples["Metadata_MoA"] = samples["Metadata_Perturbation"].where(~control, None)
    monkeypatch.setitem(store.__dict__, "samples", samples)
    with pytest.raises(DataError, match="column Metadata_MoA is empty in sample 0"):
        screen(store, label="Metadata_MoA")
    data = screen(store, label="Metadata_MoA", unlabelled=True)
    assert data.classes == ["s1", "s2", "s3"]
    assert data.facts["without_label"] == 12
    assert all((b["label"] >= 0).all() for b in epoch_of(data))
