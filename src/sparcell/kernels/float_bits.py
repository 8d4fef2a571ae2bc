"""exp, log1p and an order of floats in plain operations that the compiler turns into vector instructions.

For float32 exp and log1p are polynomials on a reduced range (coefficients: Cephes, S. Moshier, single precision), within 3 units in the
last place, whose terms are summed in pairs (Estrin). For float64 they are the C library's. NaN stays NaN. exp of 10,000 numbers takes
2.4 µs, log1p 3.4 µs (AMD EPYC, one core, AVX-512, 2026-11-28); the gain in an epoch is part of that of `count_loops`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from sparcell.kernels.jit import INLINE, inline_jit

f, int32 = np.float32, np.int32

LOG2E = f(1.4426950408889634)
ROUND, ROUND_BITS = f(12582912.0), int32(0x4B400000)
"""1.5 · 2²³: adding it rounds to a whole number, which then stands in the lowest bits."""
LOWEST = f(-87.0)
"""Below it exp is taken as exp(-87) = 1.6e-38: smaller numbers have no full precision."""
ONE_BITS, ROOT_HALF_BITS, MANTISSA = int32(0x3F800000), int32(0x3F3504F3), int32(0x007FFFFF)
ABOVE_BITS = int32(ONE_BITS - ROOT_HALF_BITS)
BELOW_SIGN = int32(0x7FFFFFFF)
LN2_HIGH, LN2_LOW = f(0.693359375), f(-2.12194440e-4)


@inline_jit(fastmath={"contract"})
def _exp32(x):
    x = LOWEST if x < LOWEST else x
    rounded = x * LOG2E + ROUND
    power = int32(
        np.float32(rounded).view(np.int32) - ROUND_BITS
    )  # not rounded - ROUND, which a compiler may simplify
    whole = f(power)
    y = x - whole * LN2_HIGH - whole * LN2_LOW
    square = y * y
    high = f(1.9875691500e-4) * y + f(1.3981999507e-3)
    middle = f(8.3334519073e-3) * y + f(4.1665795894e-2)
    low = f(1.6666665459e-1) * y + f(5.0000001201e-1)
    p = (high * square + middle) * square + low
    return (p * square + (y + f(1))) * np.int32(int32(power << int32(23)) + ONE_BITS).view(np.float32)


@inline_jit(fastmath={"contract"})
def _log1p32(x):
    above = int32(np.float32(f(1) + x).view(np.int32) + ABOVE_BITS)
    exponent = int32(int32(above >> int32(23)) - int32(127))
    reduced = np.int32(int32(above & MANTISSA) + ROOT_HALF_BITS).view(np.float32) - f(1)
    # near 0 the sum 1 + x would have lost the digits of x; NaN has bits like any other
    y = x if exponent == 0 or x != x else reduced
    square, k = y * y, f(exponent)
    fourth = square * square
    high = f(7.0376836292e-2) * square + (f(1.1676998740e-1) - f(1.1514610310e-1) * y)
    middle = (f(1.4249322787e-1) - f(1.2420140846e-1) * y) * square + (
        f(2.0000714765e-1) - f(1.6668057665e-1) * y
    )
    p = (high * fourth + middle) * square + (f(3.3333331174e-1) - f(2.4999993993e-1) * y)
    return (y + (y * square * p - f(0.5) * square + k * LN2_LOW)) + k * LN2_HIGH


@inline_jit()
def _ordered32(x):
    bits = np.float32(x).view(np.int32)
    return int32(bits ^ int32(int32(bits >> int32(31)) & BELOW_SIGN))


@inline_jit()
def _from_ordered32(order):
    return np.int32(order ^ int32(int32(order >> int32(31)) & BELOW_SIGN)).view(np.float32)


@inline_jit()
def _identity(x):
    return x


def exp(x: Any) -> Any:
    """Return e to the x, for x up to 0."""
    raise NotImplementedError  # pragma: no cover


def log1p(x: Any) -> Any:
    """Return log(1 + x), for x above -1."""
    raise NotImplementedError  # pragma: no cover


def ordered(x: Any) -> Any:
    """Return a number that is larger where x is: an integer for float32, since a maximum of integers is a vector instruction."""
    raise NotImplementedError  # pragma: no cover


def from_ordered(order: Any) -> Any:
    """Return the x that `ordered` was given."""
    raise NotImplementedError  # pragma: no cover


@overload(exp, jit_options=INLINE)
def _exp(x: Any) -> Any:
    chosen = _exp32 if x == types.float32 else math.exp

    def implementation(x: Any) -> Any:
        return chosen(x)

    return implementation


@overload(log1p, jit_options=INLINE)
def _log1p(x: Any) -> Any:
    chosen = _log1p32 if x == types.float32 else math.log1p

    def implementation(x: Any) -> Any:
        return chosen(x)

    return implementation


@overload(ordered, jit_options=INLINE)
def _ordered(x: Any) -> Any:
    chosen = _ordered32 if x == types.float32 else _identity

    def implementation(x: Any) -> Any:
        return chosen(x)

    return implementation


@overload(from_ordered, jit_options=INLINE)
def _from_ordered(order: Any) -> Any:
    chosen = _from_ordered32 if order == types.int32 else _identity

    def implementation(order: Any) -> Any:
        return chosen(order)

    return implementation
