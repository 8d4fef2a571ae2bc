"""Beginnings of rows in 2 bytes each, beside the array of 8 bytes that a file holds."""

from __future__ import annotations

import numpy as np
import pytest

from sparcell.io import row_lengths
from sparcell.io.row_lengths import RowLengths


def indptr_of(n_rows, longest, seed=0):
    """Lengths of rows, many of them 0."""
    rng = np.random.default_rng(seed)
    return np.concatenate([[0], np.cumsum(rng.integers(0, longest, n_rows) * rng.integers(0, 2, n_rows))])


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(row_lengths, "PIECE", 4)
    monkeypatch.setattr(row_lengths, "ROWS_AT_ONCE", 8)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("longest", [5, 100_000])
@pytest.mark.parametrize("n_rows", [0, 1, 3, 4, 8, 9, 23, 64])
def test_every_range_of_rows_is_that_of_the_file(n_rows, longest):
    indptr = indptr_of(n_rows, longest)
    rows = RowLengths(indptr)
    assert len(rows) == n_rows
    assert rows.n_values == indptr[-1]
    for start in range(n_rows + 1):
        for stop in range(start, n_rows + 1):
            np.testing.assert_array_equal(rows.bounds(start, stop), indptr[start : stop + 1])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("n_rows", [1, 4, 23])
def test_the_first_row_from_a_position_is_found(n_rows):
    indptr = indptr_of(n_rows, 6)
    rows = RowLengths(indptr)
    for position in range(int(indptr[-1]) + 1):
        assert rows.first_row_from(position) == np.searchsorted(indptr, position, side="left")


def test_rows_take_two_bytes_each_unless_one_is_long():
    assert RowLengths(indptr_of(5000, 60_000)).length_n.nbytes == 2 * 5000
    long = np.array([0, 3, 3 + 2**40, 4 + 2**40])
    np.testing.assert_array_equal(RowLengths(long).bounds(0, 3), long)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("indptr", [[], [1, 2], [0, 3, 2], [0] * 8 + [5, 4]])
def test_beginnings_that_are_not_in_order_are_refused(indptr):
    with pytest.raises(ValueError, match="not in order"):
        RowLengths(np.array(indptr, dtype=np.int64))
