"""Which cells are in which minibatch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcell.data import sampler
from sparcell.errors import InputError


@settings(max_examples=60, deadline=None)
@given(
    n_cells=st.integers(1, 300),
    batch_size=st.integers(1, 310),
    seed=st.integers(0, 2**40),
    epoch=st.integers(1, 500),
)
def test_an_epoch_holds_every_cell_once_in_minibatches_of_the_batch_size(n_cells, batch_size, seed, epoch):
    plan = sampler.epoch_batches(n_cells, batch_size, seed, epoch)
    assert sorted(np.concatenate(plan)) == list(range(n_cells))
    assert all(len(index) == batch_size for index in plan[:-1])
    assert 1 <= len(plan[-1]) <= batch_size


def test_minibatches_are_a_pure_function_of_the_arguments():
    np.random.seed(0)  # noqa: NPY002 - the global generator must not matter
    first = np.concatenate(sampler.epoch_batches(100, 30, 1, 1))
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(first, np.concatenate(sampler.epoch_batches(100, 30, 1, 1)))
    for other in (sampler.epoch_batches(100, 30, 2, 1), sampler.epoch_batches(100, 30, 1, 2)):
        assert not np.array_equal(first, np.concatenate(other))


def test_each_cell_comes_first_equally_often_over_many_epochs():
    """Chi-squared of 10 cells over 2,000 epochs is below its 99.99 % point."""
    first = np.array([sampler.epoch_batches(10, 4, 0, epoch)[0][0] for epoch in range(1, 2001)])
    counts = np.bincount(first, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 33.7


def test_sequential_batches_are_in_the_order_of_the_data():
    batches = sampler.sequential_batches(10, 4)
    assert [list(index) for index in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@settings(max_examples=60, deadline=None)
@given(n_cells=st.integers(1, 300), fraction=st.floats(0, 0.99), seed=st.integers(0, 2**40))
def test_each_cell_is_for_training_or_validation(n_cells, fraction, seed):
    train, validation = sampler.train_validation_split(n_cells, fraction, seed)
    assert sorted([*train, *validation]) == list(range(n_cells))
    assert list(train) == sorted(train)
    assert list(validation) == sorted(validation)
    assert len(train) >= 1
    assert len(validation) == int(fraction * n_cells)


@pytest.mark.parametrize("n_max", [1, 7, 30, 31, 100])
def test_a_subsample_is_some_of_the_cells_in_the_order_of_the_data(n_max):
    rows = sampler.subsample(30, n_max, 0)
    assert len(rows) == min(30, n_max)
    assert list(rows) == sorted(set(rows))
    assert set(rows) <= set(range(30))
    np.testing.assert_array_equal(rows, sampler.subsample(30, n_max, 0))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_cells=st.integers(1, 300), n_blocks=st.integers(1, 9), epoch=st.integers(1, 500))
def test_windows_hold_every_training_cell_once_and_only_cells_of_their_blocks(data, n_cells, n_blocks, epoch):
    inner = data.draw(st.sets(st.integers(1, max(1, n_cells - 1)), max_size=40)) - {n_cells}
    edges = np.array([0, *sorted(inner), n_cells])
    train_rows = np.flatnonzero(np.random.default_rng(epoch).random(n_cells) < 0.8)
    windows = list(sampler.epoch_windows(train_rows, edges, n_blocks, 3, epoch))
    assert sorted(np.concatenate([*windows, np.empty(0, int)])) == list(train_rows)
    for rows in windows:
        assert len(np.unique(np.searchsorted(edges, rows, side="right"))) <= n_blocks
    again = list(sampler.epoch_windows(train_rows, edges, n_blocks, 3, epoch))
    assert all(np.array_equal(*pair) for pair in zip(windows, again, strict=True))


def test_a_window_mixes_places_from_all_over_the_file():
    """With 16 of 200 blocks in a window, the blocks of a window spread over the file: their mean place is near the middle."""
    edges = np.arange(0, 2001, 10)
    windows = list(sampler.epoch_windows(np.arange(2000), edges, 16, 0, 1))
    assert all(400 < rows.mean() < 1600 for rows in windows[:-1])
    assert all(abs(np.diff(rows)).mean() > 100 for rows in windows[:-1])


@settings(max_examples=100, deadline=None)
@given(
    n_cells=st.integers(1, 500),
    batch_size=st.integers(1, 90),
    n_lanes=st.integers(1, 7),
    factor=st.sampled_from([(1, 1), (2, 1), (3, 1), (1, 2), (1, 3)]),
)
def test_every_cell_of_a_step_is_of_one_process_and_lanes_follow_one_another(
    n_cells, batch_size, n_lanes, factor
):
    n_lanes, world = n_lanes * factor[0], n_lanes * factor[1]
    bounds = [sampler.lane_cells(n_cells, batch_size, lane, n_lanes) for lane in range(n_lanes)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n_cells
    assert all(one[1] == other[0] for one, other in itertools.pairwise(bounds))
    for size in {batch_size, n_cells % batch_size or batch_size}:
        shares = [sampler.share(size, rank, world, n_lanes) for rank in range(world)]
        covered = [number for share in shares for number in range(share.start, share.start + share.n_own)]
        assert covered == list(range(size))
        assert all(share.n_cells == size for share in shares)
        for share in shares:
            assert len(sampler.own_index(share)) == max(1, share.n_own)
            assert sampler.own_index(share).max() < size


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_cells=st.integers(1, 300), n_lanes=st.integers(2, 5), epoch=st.integers(1, 500))
def test_the_windows_of_all_lanes_hold_every_training_cell_once(data, n_cells, n_lanes, epoch):
    inner = data.draw(st.sets(st.integers(1, max(1, n_cells - 1)), max_size=40)) - {n_cells}
    edges = np.array([0, *sorted(inner), n_cells])
    train_rows = np.flatnonzero(np.random.default_rng(epoch).random(n_cells) < 0.8)
    lanes = [sampler.lane_cells(len(train_rows), 16, lane, n_lanes) for lane in range(n_lanes)]
    found = [list(sampler.epoch_windows(train_rows, edges, 3, 3, epoch, lane)) for lane in lanes]
    assert [sum(map(len, windows)) for windows in found] == [last - first for first, last in lanes]
    assert sorted(np.concatenate([np.empty(0, int), *itertools.chain(*found)])) == list(train_rows)


def test_lanes_that_cannot_be_dealt_are_an_error():
    with pytest.raises(
        InputError,
        match=r"started by 4 processes.*dealt to 3 processes; expected a divisor or a multiple of 4",
    ):
        sampler.lanes_of(0, 3, 4)
