"""Neighbors, shared neighbors and communities against slow plain code."""

from __future__ import annotations

import random

import igraph
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sparcell.pp.graph import louvain, nearest_neighbors, number_by_size, shared_neighbors


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n_cells=st.integers(2, 25), k=st.integers(1, 30), prune=st.floats(0, 0.5))
def test_graph_against_sets(seed, n_cells, k, prune):
    rng = np.random.default_rng(seed)
    x_nd = rng.normal(size=(n_cells, 3))
    x_nd[rng.integers(n_cells)] = x_nd[0]  # two cells on one spot
    near = nearest_neighbors(x_nd, k)
    k = min(k, n_cells)
    assert near.shape == (n_cells, k)
    np.testing.assert_array_equal(near[:, 0], np.arange(n_cells))
    distance = np.linalg.norm(x_nd[:, None] - x_nd[None], axis=2)
    near_distance = np.take_along_axis(distance, near, axis=1)
    np.testing.assert_allclose(np.sort(near_distance, axis=1), np.sort(distance, axis=1)[:, :k], atol=1e-7)
    sets = [set(row) for row in near.tolist()]
    assert all(len(members) == k for members in sets)
    graph = shared_neighbors(near, prune).toarray()
    for i in range(n_cells):
        for j in range(n_cells):
            jaccard = len(sets[i] & sets[j]) / len(sets[i] | sets[j])
            expected = jaccard if i != j and jaccard > 0 and jaccard >= prune else 0
            if abs(jaccard - prune) > 1e-6:
                assert graph[i, j] == pytest.approx(expected, abs=1e-6)


def test_louvain_is_the_best_partition_of_small_graphs():
    rng = np.random.default_rng(3)
    for _ in range(5):
        weights = np.triu(rng.random((7, 7)) * (rng.random((7, 7)) < 0.5), 1)
        weights += weights.T
        score = modularity(weights, louvain(sparse.csr_matrix(weights), 0.8, 10, 0), 0.8)
        best = max(modularity(weights, np.array(labels), 0.8) for labels in partitions(7))
        assert score == pytest.approx(best, abs=1e-9)


def partitions(n):
    """All set partitions as restricted growth strings."""

    def grow(labels):
        if len(labels) == n:
            yield labels
            return
        for label in range(max(labels) + 2):
            yield from grow([*labels, label])

    return grow([0])


def modularity(weights, labels, resolution):
    degree, total = weights.sum(axis=1), weights.sum()
    same = labels[:, None] == labels[None]
    return ((weights / total - resolution * np.outer(degree, degree) / total**2) * same).sum()


def test_seeds_are_local():
    graph = shared_neighbors(nearest_neighbors(np.random.default_rng(0).normal(size=(80, 3)), 10))
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generator is what is tested
    state, numpy_state = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = louvain(graph, 1.5, 3, seed=1)
    assert random.getstate() == state
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    igraph.Graph.Erdos_Renyi(n=5, p=0.5)
    assert random.getstate() != state  # igraph draws from Python's generator again, its default
    np.testing.assert_array_equal(louvain(graph, 1.5, 3, seed=1), first)


def test_a_graph_without_edges_has_a_cluster_each():
    assert louvain(sparse.csr_matrix((3, 3), dtype=np.float32)).tolist() == [0, 1, 2]


def test_groups_are_numbered_by_size_then_first_cell():
    assert number_by_size(np.array([7, 3, 3, 9, 7, 3, 1])).tolist() == [1, 0, 0, 2, 1, 0, 3]
