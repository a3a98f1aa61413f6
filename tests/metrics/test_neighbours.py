"""The shared neighbour graph against scikit-learn, with ties, blocks, files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from morphobench.errors import DataError
from morphobench.metrics.neighbours import (
    SPACES,
    compute_neighbours,
    load_neighbours,
    nearest,
    required_neighbours,
    save_neighbours,
)

from .conftest import changed


def brute(features, k, space):
    distance = pairwise_distances(features.astype(np.float64), metric=space)
    np.fill_diagonal(distance, np.inf)
    order = np.array([np.lexsort((np.arange(len(d)), np.round(d, 12))) for d in distance])[:, :k]
    return order, np.take_along_axis(distance, order, axis=1)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("block_mb", [128, 0.01])
def test_equals_all_pairs(space, block_mb):
    rng = np.random.default_rng(0)
    features = (100 + rng.normal(size=(300, 7))).astype(np.float32)
    graph = nearest(features, 9, space, block_mb)
    indices, distances = brute(features, 9, space)
    np.testing.assert_array_equal(graph.indices, indices)
    # Stored as float32; near 1 the cosine distance of close rows keeps 1e-16 of absolute precision.
    np.testing.assert_allclose(graph.distances, distances, rtol=1e-5, atol=1e-12)
    assert graph.indices.dtype == np.int32
    assert graph.distances.dtype == np.float32


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 25), st.integers(1, 3), st.sampled_from(SPACES))
def test_ties_come_in_order_of_the_index(seed, n, dims, space):
    features = np.random.default_rng(seed).integers(0, 3, (n, dims)).astype(np.float32) + (space == "cosine")
    k = max(1, n // 2)
    np.testing.assert_array_equal(nearest(features, k, space).indices, brute(features, k, space)[0])


def test_all_rows_equal():
    graph = nearest(np.ones((50, 4), np.float32), 3, "euclidean", block_mb=0.01)
    assert graph.indices[0].tolist() == [1, 2, 3]
    assert graph.indices[2].tolist() == [0, 1, 3]
    assert not graph.distances.any()


def test_required_is_the_largest_of_each_space():
    specs = [
        {"neighbours": {"space": "euclidean", "k": 14}},
        {"neighbours": {"space": "euclidean", "fraction": 0.05}},
        {"neighbours": {"space": "cosine", "k": 3}},
        {},
    ]
    assert required_neighbours(specs, 1000) == {"euclidean": 50, "cosine": 3}
    assert required_neighbours(specs, 10) == {"euclidean": 9, "cosine": 3}
    assert required_neighbours([{}], 10) == {}


def test_round_trip_and_what_does_not_belong(tmp_path, small):
    path = tmp_path / "neighbours.npz"
    graph = compute_neighbours(small.features, {"euclidean": 5})
    save_neighbours(graph, path)
    loaded = load_neighbours(path, small)
    np.testing.assert_array_equal(loaded.euclidean.indices, graph.euclidean.indices)
    assert loaded.cosine is None
    with pytest.raises(DataError, match="computed from other features"):
        load_neighbours(path, changed(small, small.features + 1))
    with pytest.raises(DataError, match="holds 5 euclidean neighbours of each row, expected.* 6"):
        loaded.first("euclidean", 6)
    with pytest.raises(DataError, match="holds 0 cosine"):
        loaded.first("cosine", 1)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="not a readable neighbour graph"):
        load_neighbours(path, small)
    with pytest.raises(DataError, match="no such file"):
        load_neighbours(tmp_path / "absent.npz", small)


def test_a_split_asks_for_itself():
    split = np.array(["train"] * 600 + ["test"] * 100 + ["val"])
    specs = [
        {"neighbours": {"space": "euclidean", "fraction": 0.05}},
        {"neighbours": {"space": "euclidean", "fraction": 0.05, "split": "train"}},
        {"neighbours": {"space": "euclidean", "fraction": 0.05, "split": "test", "at_least": 15}},
        {"neighbours": {"space": "euclidean", "fraction": 0.05, "split": "val", "at_least": 15}},
    ]
    expected = {"euclidean": 35, ("train", "euclidean"): 30, ("test", "euclidean"): 15}
    assert required_neighbours(specs, 701, split) == expected
    assert required_neighbours(specs[2:3], 10, split[595:605])["test", "euclidean"] == 4
    with pytest.raises(ValueError, match="expected the rows' splits"):
        required_neighbours(specs, 701)


def test_graph_of_a_split_is_that_of_its_rows_alone_and_belongs_to_it(tmp_path, small):
    path = tmp_path / "neighbours.npz"
    split = small.column("Metadata_Split")
    graph = compute_neighbours(small.features, {"euclidean": 3, ("test", "euclidean"): 5}, split=split)
    alone = nearest(small.features[split == "test"], 5)
    save_neighbours(graph, path)
    loaded = load_neighbours(path, small)
    np.testing.assert_array_equal(loaded.first("euclidean", 5, "test").indices, alone.indices)
    np.testing.assert_array_equal(loaded.euclidean.indices, nearest(small.features, 3).indices)
    with pytest.raises(DataError, match="holds 0 euclidean neighbours of each row of the train split"):
        loaded.first("euclidean", 1, "train")
    # As many rows of each split, but not the same ones.
    other = changed(small, Metadata_Split=split[::-1])
    assert (other.column("Metadata_Split") == "test").sum() == (split == "test").sum()
    with pytest.raises(DataError, match="computed from other features or splits"):
        load_neighbours(path, other)
    # Without graphs of splits the file is what it always was, and the splits are none of its business.
    save_neighbours(compute_neighbours(small.features, {"euclidean": 3}, split=split), path)
    with np.load(path) as arrays:
        assert set(arrays) == {"digest", "euclidean_indices", "euclidean_distances"}
    assert load_neighbours(path, other).parts == {}
