"""Formulas inside the compiled loops: exp and log1p in single precision, the largest logit, ratios of gamma functions."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from scipy import special

from sparcell.kernels import count_loops as loops
from sparcell.kernels import float_bits
from sparcell.kernels.jit import FAST


@njit(fastmath=FAST, error_model="numpy")
def each(function, x):
    y = np.empty_like(x)
    for i in range(len(x)):
        y[i] = function(x[i])
    return y


@njit
def exp(x):
    return float_bits.exp(x)


@njit
def log1p(x):
    return float_bits.log1p(x)


@njit
def largest(x_ng, out_n):
    for n in range(len(x_ng)):
        out_n[n] = loops._largest(x_ng[n])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_logit_is_returned(dtype):
    x_ng = (np.random.default_rng(0).normal(size=(50, 37)) - np.arange(50)[:, None] / 10).astype(dtype)
    x_ng[0, 5], x_ng[1, :], x_ng[2, 1:] = np.inf, -0.0, -np.inf
    out_n = np.empty(50, dtype)
    largest(x_ng, out_n)
    np.testing.assert_array_equal(out_n, x_ng.max(axis=1))


def test_exp_and_log1p_are_right_to_three_units_in_the_last_place():
    rng = np.random.default_rng(0)
    x = -np.abs(rng.normal(0, 25, 200_000)).clip(0, 86.9).astype(np.float32)
    np.testing.assert_allclose(each(exp, x), np.exp(x.astype(np.float64)), rtol=3 * 2**-24)
    t = np.exp(rng.uniform(-60, 60, 200_000)).astype(np.float32)
    t = np.concatenate([t, -rng.uniform(0, 0.9, 1000).astype(np.float32)])
    np.testing.assert_allclose(each(log1p, t), np.log1p(t.astype(np.float64)), rtol=6 * 2**-24)
    assert each(exp, np.float32([-200, -np.inf, 0]))[:2].max() < 2e-38
    for function in (exp, log1p):
        assert np.isnan(each(function, np.float32([np.nan, 0.5, -0.5] * 20))[::3]).all()


@pytest.mark.parametrize("x", [1.0, 2.0, 16.0, 17.0, 0.5, 2.5, 300.0, 1e5])
@pytest.mark.parametrize("r", [1e-4, 0.3, 7.9, 8.0, 250.0, 2e4])
def test_ratios_of_gamma_functions_are_those_of_scipy(x, r):
    ratio, grad = loops.gamma_ratio(x, r)
    np.testing.assert_allclose(ratio, special.gammaln(x + r) - special.gammaln(r), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(grad, special.digamma(x + r) - special.digamma(r), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(loops.log_factorial(x), special.gammaln(x + 1), rtol=1e-13, atol=1e-13)
