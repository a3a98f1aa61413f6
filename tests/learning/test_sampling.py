"""Partners of another batch, against a brute-force list of who may be drawn."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from morphobench.errors import DataError
from morphobench.learning.sampling import Partners, column_codes, training_subset

UNIFORM = ("images", "batches")


def allowed(hints, domains, i):
    """Who may be drawn for image i, one by one."""
    other = [j for j in range(len(hints)) if hints[j] == hints[i] and domains[j] != domains[i]]
    same = [j for j in range(len(hints)) if hints[j] == hints[i] and j != i]
    return set(other or same or [i])


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=30),
    st.sampled_from(UNIFORM),
    st.integers(0, 100),
)
@settings(deadline=None, max_examples=150)
def test_partners_are_those_that_brute_force_allows(images, uniform, seed):
    hints, domains = np.array(images).T
    possible = any(domains[j] != domains[i] and hints[j] == hints[i] for i in range(len(hints)) for j in range(i))
    if not possible:
        with pytest.raises(DataError, match="two batches"):
            Partners(hints, domains, uniform=uniform)
        return
    partners = Partners(hints, domains, uniform=uniform)
    every = np.tile(np.arange(len(hints)), 60)
    drawn = partners.partner(every, np.random.default_rng(seed))
    for i in range(len(hints)):
        found = set(drawn[every == i].tolist())
        assert found <= allowed(hints, domains, i)
    single = [h for h in set(hints.tolist()) if len(set(domains[hints == h])) == 1]
    assert sorted(single) == partners.alone.tolist()
    assert partners.images_alone == np.isin(hints, single).sum()


@pytest.mark.parametrize("uniform", UNIFORM)
def test_partners_are_uniform(uniform):
    # Treatment 0: domain 0 has 2 images, domain 1 has 1, domain 2 has 5; treatment 1 lies between them in storage.
    hints = np.array([0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1])
    domains = np.array([0, 0, 1, 2, 1, 2, 2, 0, 2, 2, 2])
    drawn = Partners(hints, domains, uniform=uniform).partner(np.zeros(30_000, int), np.random.default_rng(0))
    others = np.flatnonzero((hints == 0) & (domains != 0))
    share = 1 / len(others) if uniform == "images" else np.where(domains[others] == 1, 1 / 2, 1 / 2 / 5)
    counts = np.array([(drawn == j).sum() for j in others])
    assert counts.sum() == len(drawn)
    assert stats.chisquare(counts, share * np.full(len(others), len(drawn))).pvalue > 1e-3


@pytest.mark.parametrize("uniform", UNIFORM)
def test_fall_back_is_the_same_batch_and_never_the_image_itself_unless_alone(uniform):
    hints = np.array([0, 0, 1, 1, 1, 2])
    domains = np.array([0, 1, 1, 1, 1, 0])
    partners = Partners(hints, domains, uniform=uniform)
    drawn = partners.partner(np.full(9000, 3), np.random.default_rng(1))
    assert stats.chisquare([(drawn == 2).sum(), (drawn == 4).sum()]).pvalue > 1e-3
    assert set(drawn.tolist()) == {2, 4}
    assert partners.partner([5], np.random.default_rng(0)).tolist() == [5]
    assert partners.alone.tolist() == [1, 2]
    assert partners.images_alone == 4


def test_the_same_generator_draws_the_same_partners():
    hints, domains = np.arange(40) % 5, np.arange(40) % 4
    partners = Partners(hints, domains)
    first, second = (partners.partner(np.arange(40), np.random.default_rng([3, 1])) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first != partners.partner(np.arange(40), np.random.default_rng([3, 2]))).any()


def test_one_batch_is_an_error_that_names_it():
    with pytest.raises(DataError, match="at least two batches; all 3 training images are of batch week 7"):
        Partners([0, 0, 1], [1, 1, 1], domain_names=["week 1", "week 7"])


def test_no_treatment_in_two_batches_is_an_error():
    with pytest.raises(DataError, match=r"none of the 2 treatments \(such as drug a\) occurs in two batches"):
        Partners([0, 0, 1], [0, 0, 1], hint_names=["drug a", "drug b"])


def test_unknown_uniformity():
    with pytest.raises(DataError, match="expected images or batches"):
        Partners([0, 0], [0, 1], uniform="wells")


def frame():
    return pd.DataFrame(
        {
            "Metadata_Batch": ["week 10", "week 9", "week 9", "week 10"],
            "Metadata_MoA": [None, "kinase", "", "kinase"],
            "Metadata_Perturbation": ["DMSO", "a@1", "DMSO", "b@1"],
        }
    )


def test_codes_follow_natural_order():
    codes, names = column_codes(frame(), "Metadata_Batch")
    assert names == ["week 9", "week 10"]
    assert codes.tolist() == [1, 0, 0, 1]


def test_a_second_column_stands_in_where_the_first_is_empty():
    codes, names = column_codes(frame(), ["Metadata_MoA", "Metadata_Perturbation"])
    assert [names[c] for c in codes] == ["DMSO", "kinase", "DMSO", "kinase"]


def test_an_empty_hint_is_an_error_that_names_column_and_row():
    with pytest.raises(DataError, match="column Metadata_MoA is empty in sample 0"):
        column_codes(frame(), "Metadata_MoA")
    with pytest.raises(DataError, match="no column Metadata_Gene"):
        column_codes(frame(), "Metadata_Gene")


def screen():
    rows = [
        (name, plate, "trt" if name.startswith("s") else "negcon")
        for plate in ("P1", "P2")
        for name in ("s2", "s10", "s1", "EMPTY")
        for _ in range(2)
    ]
    return pd.DataFrame(rows, columns=["Metadata_Perturbation", "Metadata_Plate", "Metadata_Control"])


def test_exploratory_subsets():
    samples, rows = screen(), np.arange(1, 16)
    assert training_subset(samples, rows, "all").tolist() == rows.tolist()
    names = samples["Metadata_Perturbation"].to_numpy()
    assert set(names[training_subset(samples, rows, "controls")]) == {"EMPTY"}
    assert set(names[training_subset(samples, rows, "treatments")]) == {"s1", "s2", "s10"}
    half = training_subset(samples, rows, "half_treatments")
    assert half.tolist() == [r for r in rows if names[r] in ("EMPTY", "s2")]
    # Row 0 is no training image, so row 1 is the first of its treatment and plate.
    assert training_subset(samples, rows, "half_images").tolist() == [3, 5, 6, 7, 9, 11, 13, 14, 15]


def test_empty_or_unknown_subset():
    samples = screen()
    with pytest.raises(DataError, match="subset 'controls' of the 2 training images is empty"):
        training_subset(samples, np.array([0, 1]), "controls")
    with pytest.raises(DataError, match="expected one of all, controls"):
        training_subset(samples, np.array([0, 1]), "most")
