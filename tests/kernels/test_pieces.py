"""Dense products by pieces are those of numpy, whatever is left over at the edges."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from sparcell.kernels import pieces
from sparcell.kernels.pieces import TALL, WIDE


@njit
def add_product(out_ac, left_ka, right_kc, rows, span, lower):
    pieces.add_product(out_ac, left_ka, right_kc, rows, span, lower)


def drawn(*shape, dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("n_columns", [1, 5, WIDE - 1, WIDE, WIDE + 1, 3 * WIDE + 4])
@pytest.mark.parametrize("n_rows", [1, TALL - 1, TALL, TALL + 3, 4 * TALL])
@pytest.mark.parametrize("turned", [False, True])
def test_what_is_added_is_the_product_of_those_rows(n_columns, n_rows, to_memory_layout):
    """Over some of the sum, to some of the rows; nothing else is written."""
    left_ka, right_kc = drawn(9, n_rows), drawn(9, n_columns)
    if to_memory_layout:
        left_ka = np.asfortranarray(left_ka)
    before = drawn(n_rows + 2, n_columns)
    for first in {0, n_rows // 2}:
        out_ac, wanted = before.copy(), before.copy()
        add_product(out_ac, left_ka, right_kc, (first, n_rows), (2, 8), False)
        wanted[first:n_rows] += left_ka[2:8, first:n_rows].T @ right_kc[2:8]
        np.testing.assert_allclose(out_ac, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "n_units", [1, 5, TALL, WIDE - 1, WIDE, WIDE + 1, WIDE + TALL, 3 * WIDE + 5, 4 * WIDE]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_lower_half_of_a_square_is_whole(n_units, dtype):
    w_gh, out_hh = drawn(70, n_units, dtype=dtype), np.zeros((n_units, n_units), dtype)
    for span in ((0, 64), (64, 70)):
        add_product(out_hh, w_gh, w_gh, (0, n_units), span, True)
    np.testing.assert_allclose(np.tril(out_hh), np.tril(w_gh.T @ w_gh), rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_stays_so():
    left_ka, right_kc, out_ac = drawn(3, 2 * TALL), drawn(3, WIDE), np.zeros((2 * TALL, WIDE))
    left_ka[1, 3], right_kc[2, 7] = np.nan, np.inf
    add_product(out_ac, left_ka, right_kc, (0, 2 * TALL), (0, 3), False)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(np.isfinite(out_ac), np.isfinite(left_ka.T @ right_kc))
