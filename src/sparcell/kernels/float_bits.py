"""Single precision by its bits, in a form that compiles to vector instructions: exp, log1p, an order, and bfloat16.

exp and log1p are polynomials on a reduced range (coefficients: Cephes, S. Moshier, single precision), within 3 units in the last place,
whose terms are taken in pairs (Estrin): a loop over genes waits for one result after the other, not for the number of operations;
for float64 they are the C library's. NaN stays NaN. Suffix: g genes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from sparcell.kernels.jit import INLINED, inlined

f, int32 = np.float32, np.int32

LOG2E = f(1.4426950408889634)
ROUND, ROUND_BITS = f(12582912.0), int32(0x4B400000)
"""1.5 · 2²³: adding it rounds to a whole number, which then stands in the lowest bits."""
LOWEST = f(-87.0)
"""Below it exp is taken as exp(-87) = 1.6e-38: smaller numbers have no full precision."""
ONE_BITS, ROOT_HALF_BITS, MANTISSA = int32(0x3F800000), int32(0x3F3504F3), int32(0x007FFFFF)
ABOVE_BITS = int32(ONE_BITS - ROOT_HALF_BITS)
BELOW_SIGN, HALF_BITS = int32(0x7FFFFFFF), int32(0x7FFF)
LN2_HIGH, LN2_LOW = f(0.693359375), f(-2.12194440e-4)


def _bits_of(context: Any, x: Any) -> Any:
    """Give the bits of a float32 as an int32."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.bitcast(given[0], context.get_value_type(types.int32))

    return types.int32(types.float32), generate


def _float_of(context: Any, x: Any) -> Any:
    """Give the float32 that has these bits."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.bitcast(given[0], context.get_value_type(types.float32))

    return types.float32(types.int32), generate


_bits: Any = intrinsic(_bits_of)
_float: Any = intrinsic(_float_of)


@inlined(fastmath={"contract"})
def _exp32(x: Any) -> Any:
    x = LOWEST if x < LOWEST else x
    rounded = x * LOG2E + ROUND
    power = int32(_bits(rounded) - ROUND_BITS)  # not rounded - ROUND, which a compiler may simplify
    whole = f(power)
    y = x - whole * LN2_HIGH - whole * LN2_LOW
    square = y * y
    high = f(1.9875691500e-4) * y + f(1.3981999507e-3)
    middle = f(8.3334519073e-3) * y + f(4.1665795894e-2)
    low = f(1.6666665459e-1) * y + f(5.0000001201e-1)
    p = (high * square + middle) * square + low
    return (p * square + (y + f(1))) * _float(int32(int32(power << int32(23)) + ONE_BITS))


@inlined(fastmath={"contract"})
def _log1p32(x: Any) -> Any:
    above = int32(_bits(f(1) + x) + ABOVE_BITS)
    exponent = int32(int32(above >> int32(23)) - int32(127))
    reduced = _float(int32(int32(above & MANTISSA) + ROOT_HALF_BITS)) - f(1)
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


def exp(x: Any) -> Any:
    """e to the x, for x up to 0."""
    raise NotImplementedError  # pragma: no cover


def log1p(x: Any) -> Any:
    """log(1 + x) for x above -1."""
    raise NotImplementedError  # pragma: no cover


@overload(exp, jit_options=INLINED)
def _exp(x: Any) -> Any:
    chosen = _exp32 if x == types.float32 else math.exp

    def exp(x: Any) -> Any:
        return chosen(x)

    return exp


@overload(log1p, jit_options=INLINED)
def _log1p(x: Any) -> Any:
    chosen = _log1p32 if x == types.float32 else math.log1p

    def log1p(x: Any) -> Any:
        return chosen(x)

    return log1p


@inlined()
def _ordered32(x: Any) -> Any:
    bits = _bits(x)
    return int32(bits ^ int32(int32(bits >> int32(31)) & BELOW_SIGN))


@inlined()
def _of_ordered32(order: Any) -> Any:
    return _float(int32(order ^ int32(int32(order >> int32(31)) & BELOW_SIGN)))


def ordered(x: Any) -> Any:
    """Give a number that is larger where x is: of a float32 a whole one, whose maximum is a vector instruction."""
    raise NotImplementedError  # pragma: no cover


def of_ordered(order: Any) -> Any:
    """Undo `ordered`."""
    raise NotImplementedError  # pragma: no cover


@inlined()
def _itself(x: Any) -> Any:
    return x


@overload(ordered, jit_options=INLINED)
def _ordered(x: Any) -> Any:
    chosen = _ordered32 if x == types.float32 else _itself

    def ordered(x: Any) -> Any:
        return chosen(x)

    return ordered


@overload(of_ordered, jit_options=INLINED)
def _of_ordered(order: Any) -> Any:
    chosen = _of_ordered32 if order == types.int32 else _itself

    def of_ordered(order: Any) -> Any:
        return chosen(order)

    return of_ordered


def opened(row_g: Any, bias_g: Any, scratch_g: Any) -> Any:
    """Give a row of logits: the row itself; of one in bfloat16, whose products are without the bias, float32 of it in the scratch."""
    raise NotImplementedError  # pragma: no cover


def closed(slope_g: Any, row_g: Any) -> None:
    """Write slopes that stand in what `opened` gave to the row: rounded, where it is one in bfloat16."""
    raise NotImplementedError  # pragma: no cover


@overload(opened, jit_options=INLINED)
def _opened(row_g: Any, bias_g: Any, scratch_g: Any) -> Any:
    def as_it_is(row_g: Any, bias_g: Any, scratch_g: Any) -> Any:
        return row_g

    def widened(row_g: Any, bias_g: Any, scratch_g: Any) -> Any:
        for g in range(row_g.shape[0]):
            scratch_g[g] = _float(int32(int32(row_g[g]) << int32(16))) + bias_g[g]
        return scratch_g

    return widened if row_g.dtype == types.int16 else as_it_is


@overload(closed, jit_options=INLINED)
def _closed(slope_g: Any, row_g: Any) -> Any:
    def as_it_is(slope_g: Any, row_g: Any) -> None:
        pass

    def rounded(slope_g: Any, row_g: Any) -> None:
        for g in range(row_g.shape[0]):  # to the nearest, of two as near to the even one
            bits = _bits(slope_g[g])
            odd = int32(int32(bits >> int32(16)) & int32(1))
            row_g[g] = np.int16(int32(int32(bits + HALF_BITS) + odd) >> int32(16))

    return rounded if row_g.dtype == types.int16 else as_it_is
