"""Rows as a file stores them become those of a dense matrix: chosen genes, rounded or scaled, repeated columns added up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcell.kernels.row_loops import LEFT_OUT, NO_GENE, OUTSIDE, map_rows


def mapped(column, value, bound_m, position_g, units):
    out_column, out_value = np.empty(len(column), np.int32), np.empty(len(column), np.float32)
    bound_out_m = np.empty_like(bound_m)
    n_kept = map_rows(column, value, bound_m, position_g, units, out_column, out_value, bound_out_m)
    return n_kept, out_column, out_value, bound_out_m


@settings(max_examples=80, deadline=None)
@given(data=st.data(), rounded=st.booleans(), index_type=st.sampled_from([np.int32, np.int64]))
def test_rows_are_those_of_the_dense_matrix(data, rounded, index_type):
    n_rows, n_stored = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 7))
    target = 0.0 if rounded else data.draw(st.sampled_from([0.0, 100.0]))
    columns = [
        data.draw(st.lists(st.integers(0, n_stored - 1), max_size=n_stored, unique=True))
        for _ in range(n_rows)
    ]
    kept = data.draw(st.permutations(range(n_stored)))[: data.draw(st.integers(1, n_stored))]
    no_gene = data.draw(st.sets(st.sampled_from(sorted(set(range(n_stored)) - set(kept)) or [-1])))
    position_g = np.full(n_stored, LEFT_OUT)
    position_g[[g for g in no_gene if g >= 0]] = NO_GENE
    position_g[list(kept)] = np.arange(len(kept))
    column = np.array([c for row in columns for c in row], index_type)
    value = np.round(np.random.default_rng(0).random(len(column)) * 5, 1).astype(np.float32)
    ends = np.cumsum([len(row) for row in columns])
    bound_m = np.stack([np.append(0, ends[:-1]), ends], axis=1)

    dense = np.zeros((n_rows, n_stored), np.float32)
    for row, (first, last) in enumerate(bound_m):
        dense[row, column[first:last]] = value[first:last]
    if target:
        total = dense[:, position_g != NO_GENE].sum(axis=1, dtype=np.float64, keepdims=True)
        dense = (dense * np.divide(target, total, out=np.zeros_like(total), where=total > 0)).astype(
            np.float32
        )
    expected = np.rint(dense) if rounded else dense

    n_kept, found_column, found_value, bound_out_m = mapped(
        column, value, bound_m, position_g, (rounded, target, len(kept))
    )
    assert n_kept == bound_out_m[-1, 1]
    for row, (first, last) in enumerate(bound_out_m):
        assert (np.diff(found_column[first:last]) > 0).all()
        assert (found_value[first:last] != 0).all()
        line = np.zeros(len(kept), np.float32)
        line[found_column[first:last]] = found_value[first:last]
        np.testing.assert_allclose(line, expected[row, list(kept)], rtol=1e-6)


def test_values_of_one_column_are_added_up():
    column, value = np.array([2, 0, 2], np.int32), np.array([1, 5, 3], np.float32)
    n_kept, found_column, found_value, _ = mapped(
        column, value, np.array([[0, 3]]), np.arange(3), (False, 0.0, 3)
    )
    assert n_kept == 2
    np.testing.assert_array_equal(found_column[:2], [0, 2])
    np.testing.assert_array_equal(found_value[:2], [5, 4])


@pytest.mark.parametrize("bad", [-1, 3])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_a_column_that_does_not_exist_is_told(bad, target):
    column, value = np.array([0, bad], np.int64), np.ones(2, np.float32)
    assert mapped(column, value, np.array([[0, 2]]), np.arange(3), (False, target, 3))[0] == OUTSIDE
