"""Minibatches of cells on disk are those of the same plan in memory, whatever the windows; errors of the reading thread arrive."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from sparcell.data import sampler
from sparcell.data.blocks import RowUnits
from sparcell.data.covariates import Covariates
from sparcell.data.loader import Loader
from sparcell.data.sources import CellsOnDisk, InMemoryCells, rows_of_matrix
from sparcell.data.streaming import StreamedTrainingData, cut, read_ahead, skip


class Stored:
    """A matrix that stands for one on disk, in blocks of given sizes, and counts what is read."""

    def __init__(self, x_ng, edges):
        self.x_ng, self.edges, self.reads = x_ng, np.asarray(edges), []

    def select(self, row_n, units):
        block_n = np.searchsorted(self.edges, row_n, side="right")
        self.reads += np.unique(block_n).tolist()
        return rows_of_matrix(self.x_ng[row_n])


def matrix(n_cells, n_genes=7, seed=0):
    x_ng = sparse.random_array((n_cells, n_genes), density=0.4, rng=np.random.default_rng(seed), format="csr")
    x_ng.data = np.ceil(5 * x_ng.data).astype(np.float32)
    return sparse.csr_matrix(x_ng)


def on_disk(x_ng, edges):
    return CellsOnDisk(Stored(x_ng, edges), RowUnits.unchanged(x_ng.shape[1]))


def streamed(x_ng, edges, *, batch_size=16, n_blocks=3, validation=0.1, place=(0, 1)):
    source = on_disk(x_ng, edges)
    loader = Loader(source, Covariates().average(len(source)), x_ng.shape[1], torch.device("cpu"))
    rows = sampler.train_validation_split(len(source), validation, 0)
    return StreamedTrainingData(loader, *rows, batch_size, 0, n_blocks, place)


def values(minibatches):
    return [minibatch.x_ng.numpy() for minibatch in minibatches]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_cells=st.integers(1, 60))
def test_rows_are_the_rows_asked_for_in_their_order(data, n_cells):
    x_ng = matrix(n_cells)
    edges = [0, *sorted(data.draw(st.sets(st.integers(1, n_cells), max_size=8)) - {n_cells}), n_cells]
    index = np.array(
        data.draw(st.lists(st.integers(0, n_cells - 1), max_size=30, unique=True)), dtype=np.int64
    )
    cells = on_disk(x_ng, edges).rows(index)
    np.testing.assert_array_equal(cells.matrix().toarray(), x_ng[index].toarray())


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6), batch_size=st.integers(1, 50))
def test_cut_keeps_the_order_and_fills_every_minibatch_but_the_last(sizes, batch_size):
    x_ng = matrix(max(1, sum(sizes)))
    source, bounds = InMemoryCells(x_ng), np.cumsum([0, *sizes])
    windows = ((np.arange(a, b), source.rows(np.arange(a, b))) for a, b in itertools.pairwise(bounds))
    pieces = [(rows, cells.matrix().toarray()) for rows, cells in cut(windows, batch_size)]
    assert [len(rows) for rows, _ in pieces[:-1]] == [batch_size] * (len(pieces) - 1)
    rows = np.concatenate([np.empty(0, int), *(rows for rows, _ in pieces)])
    np.testing.assert_array_equal(rows, np.arange(sum(sizes)))
    for rows, x in pieces:
        np.testing.assert_array_equal(x, x_ng[rows].toarray())


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 20), max_size=6), n_cells=st.integers(0, 70))
def test_skip_leaves_out_the_first_cells(sizes, n_cells):
    bounds = np.cumsum([0, *sizes])
    windows = [np.arange(a, b) for a, b in itertools.pairwise(bounds)]
    rest = list(skip(iter(windows), n_cells))
    np.testing.assert_array_equal(
        np.concatenate([np.empty(0, int), *rest]), np.arange(min(n_cells, sum(sizes)), sum(sizes))
    )


def test_an_epoch_from_disk_holds_the_planned_cells_in_minibatches_of_the_batch_size():
    x_ng, edges = matrix(203), [0, 10, 50, 51, 90, 150, 180, 203]
    data = streamed(x_ng, edges)
    order = np.concatenate(list(sampler.epoch_windows(data.train_rows, np.array(edges), 3, 0, 1)))
    expected = [x_ng[order[start : start + 16]].toarray() for start in range(0, len(order), 16)]
    found = values(data.batches(1, 0, data.n_steps))
    assert len(found) == len(expected) == data.n_steps
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_chunks_of_steps_go_on_where_the_last_one_ended_and_repeat_after_a_rollback():
    x_ng, edges = matrix(203), np.append(np.arange(0, 203, 20), 203)
    whole = values(streamed(x_ng, edges).batches(2, 0, 99))
    data = streamed(x_ng, edges)
    first, again, rest = (values(data.batches(2, *steps)) for steps in ((0, 5), (0, 5), (5, data.n_steps)))
    for one, other in zip([*first, *rest], whole, strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    n_reads = len(data.loader.source.stored.reads)
    values(data.batches(3, 0, 4))
    values(data.batches(3, 4, data.n_steps))
    assert len(data.loader.source.stored.reads) - n_reads == len(edges) - 1  # every block once


def test_a_run_can_begin_amid_an_epoch():
    x_ng, edges = matrix(203), np.append(np.arange(0, 203, 20), 203)
    whole = values(streamed(x_ng, edges).batches(1, 0, 99))
    data = streamed(x_ng, edges)
    for one, other in zip(values(data.batches(1, 7, data.n_steps)), whole[7:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_validation_cells_are_read_once_and_are_the_same_each_time():
    x_ng = matrix(203)
    data = streamed(x_ng, np.append(np.arange(0, 203, 20), 203), validation=0.3)
    n_reads = len(data.loader.source.stored.reads)
    first, second = values(data.validation_batches()), values(data.validation_batches())
    assert len(data.loader.source.stored.reads) == n_reads
    np.testing.assert_array_equal(np.concatenate(first), x_ng[data.validation_rows].toarray())
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))


def test_an_error_of_the_reading_thread_is_raised_by_the_training_loop():
    class Broken(Stored):
        def select(self, row_n, units):
            if row_n[-1] >= 120:
                raise OSError("the disk is gone")
            return super().select(row_n, units)

    x_ng = matrix(203)
    source = CellsOnDisk(Broken(x_ng, np.append(np.arange(0, 203, 20), 203)), RowUnits.unchanged(7))
    with pytest.raises(OSError, match="the disk is gone"):
        list(read_ahead(source.rows, [np.arange(100), np.arange(100, 203), np.arange(5)]))


def test_stopping_early_ends_the_thread():
    before = threading.active_count()
    stream = read_ahead(on_disk(matrix(100), [0, 50, 100]).rows, (np.arange(10) for _ in range(1000)))
    next(stream)
    stream.close()
    assert threading.active_count() == before


@settings(max_examples=40, deadline=None)
@given(
    n_cells=st.integers(20, 220),
    batch_size=st.integers(4, 40),
    places=st.sampled_from([(1, 2), (2, 2), (2, 1), (2, 4), (3, 1), (3, 3), (4, 2)]),
    first=st.integers(0, 3),
)
def test_several_processes_read_the_minibatches_of_one_with_the_same_lanes(
    n_cells, batch_size, places, first
):
    n_lanes, world = places
    x_ng, edges = matrix(n_cells), np.append(np.arange(0, n_cells, 9), n_cells)

    def steps(place):
        data = streamed(x_ng, edges, batch_size=batch_size, place=place)
        data.use_lanes(n_lanes)
        return list(data.batches(2, min(first, data.n_steps), data.n_steps)), list(data.validation_batches())

    alone, together = steps((0, 1)), [steps((rank, world)) for rank in range(world)]
    for kind, expected in enumerate(alone):
        assert all(len(of_rank[kind]) == len(expected) for of_rank in together)
        for number, whole in enumerate(expected):
            parts = [of_rank[kind][number] for of_rank in together]
            if world > 1:
                assert all(part.n_cells == len(whole) for part in parts)
            found = np.concatenate([part.x_ng.numpy()[: part.n_own] for part in parts])
            np.testing.assert_array_equal(found, whole.x_ng.numpy())


def test_a_process_reads_its_share_of_the_file():
    """Each of 4 processes reads a quarter of the 50 blocks, and at most 2 more that lie in two lanes."""
    x_ng, edges = matrix(1000), np.arange(0, 1001, 20)
    for rank in range(4):
        data = streamed(x_ng, edges, validation=0.0, place=(rank, 4))
        data.loader.source.stored.reads.clear()
        list(data.batches(1, 0, data.n_steps))
        assert len(data.loader.source.stored.reads) <= 50 / 4 + 2
