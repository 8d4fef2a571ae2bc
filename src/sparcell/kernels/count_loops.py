"""Negative binomials, plain and zero-inflated, compiled: one cell after another, all of its genes.

Each loop without conditions over the genes becomes vector instructions; what is needed at the counts above 0 only is gathered first.
All in such a loop has to be of one width, or half of each vector stays empty: sums of float32 are float32, and what numba widens of
int32 is made int32 again. For float32 exp and log1p are polynomials on a reduced range (coefficients: Cephes, S. Moshier, single
precision), within 3 units in the last place; for float64 they are the C library's. NaN stays NaN. They stand here and not in a file of
their own, because what is kept on disk is renewed when the file of a loop changes, not when that of a function it calls does.
Suffixes: n cells, g genes, b batches, k counts; `sum_` is summed over the cells first … last - 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

from sparcell.kernels.jit import FAST, compiled

f, int32 = np.float32, np.int32

LOG2E = f(1.4426950408889634)
ROUND, ROUND_BITS = f(12582912.0), int32(0x4B400000)
"""1.5 · 2²³: adding it rounds to a whole number, which then stands in the lowest bits."""
LOWEST = f(-87.0)
"""Below it exp is taken as exp(-87) = 1.6e-38: smaller numbers have no full precision."""
ONE_BITS, ROOT_HALF_BITS, MANTISSA = int32(0x3F800000), int32(0x3F3504F3), int32(0x007FFFFF)
ABOVE_BITS = int32(ONE_BITS - ROOT_HALF_BITS)
LN2_HIGH, LN2_LOW = f(0.693359375), f(-2.12194440e-4)
ENOUGH = 8.0
"""From here on Stirling's series is used; its error is below 1e-11."""
MOST_FACTORS = 16.0
LOG_FACTORIALS = np.array([math.lgamma(x + 1) for x in range(256)])


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


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _exp32(x: Any) -> Any:
    x = LOWEST if x < LOWEST else x
    rounded = x * LOG2E + ROUND
    power = int32(_bits(rounded) - ROUND_BITS)  # not rounded - ROUND, which a compiler may simplify
    whole = f(power)
    y = x - whole * LN2_HIGH - whole * LN2_LOW
    p = f(1.9875691500e-4)
    p = p * y + f(1.3981999507e-3)
    p = p * y + f(8.3334519073e-3)
    p = p * y + f(4.1665795894e-2)
    p = p * y + f(1.6666665459e-1)
    p = p * y + f(5.0000001201e-1)
    p = p * y * y + y + f(1)
    return p * _float(int32(int32(power << int32(23)) + ONE_BITS))


@njit(nogil=True, error_model="numpy", fastmath={"contract"})
def _log1p32(x: Any) -> Any:
    above = int32(_bits(f(1) + x) + ABOVE_BITS)
    exponent = int32(int32(above >> int32(23)) - int32(127))
    reduced = _float(int32(int32(above & MANTISSA) + ROOT_HALF_BITS)) - f(1)
    # near 0 the sum 1 + x would have lost the digits of x; NaN has bits like any other
    y = x if exponent == 0 or x != x else reduced
    p = f(7.0376836292e-2)
    p = p * y - f(1.1514610310e-1)
    p = p * y + f(1.1676998740e-1)
    p = p * y - f(1.2420140846e-1)
    p = p * y + f(1.4249322787e-1)
    p = p * y - f(1.6668057665e-1)
    p = p * y + f(2.0000714765e-1)
    p = p * y - f(2.4999993993e-1)
    p = p * y + f(3.3333331174e-1)
    square, k = y * y, f(exponent)
    return (y + (y * square * p - f(0.5) * square + k * LN2_LOW)) + k * LN2_HIGH


def exp(x: Any) -> Any:
    """e to the x, for x up to 0."""
    raise NotImplementedError  # pragma: no cover


def log1p(x: Any) -> Any:
    """log(1 + x) for x above -1."""
    raise NotImplementedError  # pragma: no cover


@overload(exp)
def _exp(x: Any) -> Any:
    chosen = _exp32 if x == types.float32 else math.exp

    def exp(x: Any) -> Any:
        return chosen(x)

    return exp


@overload(log1p)
def _log1p(x: Any) -> Any:
    chosen = _log1p32 if x == types.float32 else math.log1p

    def log1p(x: Any) -> Any:
        return chosen(x)

    return log1p


@njit(nogil=True, error_model="numpy", fastmath=False)
def _stirling(z: Any) -> Any:
    """log Gamma and its derivative, for z of at least ENOUGH (Abramowitz & Stegun 6.1.41, 6.3.18)."""
    log_z, i, square = math.log(z), 1 / z, 1 / (z * z)
    series = i * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    slope = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return (z - 0.5) * log_z - z + 0.918938533204672742 + series, log_z - 0.5 * i - slope


@njit(nogil=True, error_model="numpy", fastmath=False)
def gamma_ratio(x: Any, r: Any) -> Any:
    """log Gamma(x + r) - log Gamma(r) and its derivative by r, for x and r above 0 in float64.

    For a small whole x it is log of r (r+1) … (r+x-1), exactly.
    """
    product, slope = 1.0, 0.0
    if x <= MOST_FACTORS and x == math.floor(x):
        for i in range(int(x)):
            product *= r + i
            slope += 1 / (r + i)
        return math.log(product), slope
    y, z, high_product = r, x + r, 1.0
    while y < ENOUGH:  # Gamma(y + 1) = y Gamma(y)
        product *= y
        slope += 1 / y
        y += 1
    while z < ENOUGH:
        high_product *= z
        slope -= 1 / z
        z += 1
    high, high_slope = _stirling(z)
    low, low_slope = _stirling(y)
    return high - low + math.log(product / high_product), high_slope - low_slope + slope


@njit(nogil=True, error_model="numpy", fastmath=False)
def log_factorial(x: Any) -> Any:
    """log x!, for x of at least 0."""
    if x < 256.0 and x == math.floor(x):
        return LOG_FACTORIALS[int(x)]
    return math.lgamma(x + 1)


@njit(nogil=True, error_model="numpy", fastmath=False)
def ways(x: Any, r: Any) -> Any:
    """log Gamma(x + r) - log Gamma(r) - log x!, and its derivative by r."""
    log_ratio, slope = gamma_ratio(x, r)
    return log_ratio - log_factorial(x), slope


@compiled(fastmath=FAST)
def table_ways(log_r_g: Any, r_g: Any, ways_kg: Any, slope_kg: Any) -> None:
    """Fill in `ways` of the counts 0, 1, 2, …: most counts are small, and a gene has one r for all of its cells."""
    ways_kg[0, :] = 0
    slope_kg[0, :] = 0
    one = r_g.dtype.type(1)
    for k in range(1, ways_kg.shape[0]):
        above, constant = r_g.dtype.type(k - 1), r_g.dtype.type(math.log(k))
        ways_g, fewer_g, slope_g, less_g = ways_kg[k], ways_kg[k - 1], slope_kg[k], slope_kg[k - 1]
        for g in range(r_g.shape[0]):
            slope_g[g] = less_g[g] + one / (r_g[g] + above)
        if k == 1:  # 1 + (r - 1) would lose the digits of a small r
            ways_g[:] = log_r_g
        else:
            for g in range(r_g.shape[0]):
                ways_g[g] = fewer_g[g] + log1p(r_g[g] + above - one) - constant


@compiled(fastmath=FAST)
def _shares(logit_g: Any, largest: Any) -> Any:
    """Replace logits by their exponentials over that of the largest, and return their sum."""
    total = logit_g.dtype.type(0)
    for g in range(logit_g.shape[0]):
        e = exp(logit_g[g] - largest)
        logit_g[g] = e
        total += e
    return total


@compiled(fastmath=FAST)
def _through_softmax(share_g: Any, slope_g: Any, share_of_sum: Any, weight: Any, sum_bias_g: Any) -> None:
    """Overwrite exponentials by the slope of the loss in the logits, from its slope in the logarithms of the means."""
    for g in range(share_g.shape[0]):
        v = weight * (slope_g[g] - share_g[g] * share_of_sum)
        share_g[g] = v
        sum_bias_g[g] += v


@compiled(fastmath=FAST)
def _above_zero(column: Any, value: Any, share_g: Any, r_g: Any, scale: Any, of_x: Any) -> Any:
    """Σ x log(1 + r/m) over a cell's counts above 0; `of_x` becomes x r / (r + m), the count's part of the slope in log m."""
    one, n_counts = share_g.dtype.type(1), column.shape[0]
    ratio = np.empty(n_counts, share_g.dtype)
    for i in range(n_counts):  # gathered first: what follows is then a vector loop
        ratio[i] = r_g[column[i]] / (share_g[column[i]] * scale)
    loss = share_g.dtype.type(0)
    for i in range(n_counts):
        x = one * value[i]
        loss += x * log1p(ratio[i])
        of_x[i] = x * ratio[i] / (one + ratio[i])
    return loss


@compiled(fastmath=FAST)
def negative_binomial(
    span: Any, logit_ng: Any, largest_n: Any, dispersion: Any, cells: Any, nll_n: Any, sums: Any
) -> None:
    """-log p of each cell; the logits are overwritten by its slope in them, times the cell's weight."""
    first, last = span
    r_bg, ways_bkg, slope_bkg = dispersion
    start, column, value, size_n, group_n, weight_n = cells
    sum_bias_g, sum_log_r_bg = sums
    zero, one, n_genes = logit_ng.dtype.type(0), logit_ng.dtype.type(1), logit_ng.shape[1]
    slope_g, of_x = np.empty(n_genes, logit_ng.dtype), np.empty(n_genes, logit_ng.dtype)
    for n in range(first, last):
        b, share_g, weight = group_n[n], logit_ng[n], weight_n[n]
        r_g, ways_kg, slope_kg, sum_log_r_g = r_bg[b], ways_bkg[b], slope_bkg[b], sum_log_r_bg[b]
        n_tabled = ways_kg.shape[0]
        total = _shares(share_g, largest_n[n])
        scale = size_n[n] / total
        slope_g[:] = 0
        slopes = 0.0
        counts = column[start[n] : start[n + 1]], value[start[n] : start[n + 1]]
        counted = float(_above_zero(counts[0], counts[1], share_g, r_g, scale, of_x))
        for i in range(counts[0].shape[0]):
            g, x = counts[0][i], counts[1][i]
            k = int(x)
            if k < n_tabled and k == x:
                log_ways, slope = ways_kg[k, g], slope_kg[k, g]
            else:
                log_ways, slope = ways(float(x), float(r_g[g]))
            counted -= log_ways
            slope_g[g] -= of_x[i]
            slopes -= of_x[i]
            sum_log_r_g[g] += weight * (of_x[i] - r_g[g] * slope)
        loss, sloped = zero, zero
        for g in range(n_genes):
            r = r_g[g]
            m = share_g[g] * scale
            t = m / r
            q = one / (one + t)
            lp = log1p(t)
            loss += r * lp
            slope_g[g] += m * q
            sloped += m * q
            sum_log_r_g[g] += weight * r * (lp - t * q)
        nll_n[n] = loss + counted
        _through_softmax(share_g, slope_g, logit_ng.dtype.type((sloped + slopes) / total), weight, sum_bias_g)


@compiled(fastmath=FAST)
def _log_rises(share_g: Any, r_g: Any, scale: Any, rise_g: Any) -> None:
    """log(1 + m/r) of a cell's genes: log P(0) of the negative binomial is -r times it."""
    for g in range(share_g.shape[0]):
        rise_g[g] = log1p(share_g[g] * scale / r_g[g])


@compiled(fastmath=FAST)
def _either_way(column: Any, rise_g: Any, r_g: Any, drop_g: Any) -> Any:
    """Σ log(e^u + e^s) - s over the genes of a cell's counts above 0: what they would cost more if they were zeros."""
    zero, n_counts = drop_g.dtype.type(0), column.shape[0]
    apart = np.empty(n_counts, drop_g.dtype)
    for i in range(n_counts):
        apart[i] = -r_g[column[i]] * rise_g[column[i]] - drop_g[column[i]]
    loss = zero
    for i in range(n_counts):
        d = apart[i]
        loss += (zero if d > zero else -d) + log1p(exp(-abs(d)))
    return loss


@compiled(fastmath=FAST)
def _zeros(rise_g: Any, r_g: Any, drop_g: Any, kept_g: Any) -> Any:
    """-log P(0) of a cell; the logits of a drop are overwritten by the slopes in them, `kept_g` by sigmoid(s - u)."""
    one, zero = drop_g.dtype.type(1), drop_g.dtype.type(0)
    loss = zero
    for g in range(drop_g.shape[0]):
        u = drop_g[g]
        d = -r_g[g] * rise_g[g] - u
        e, e_d = exp(-abs(u)), exp(-abs(d))
        both = one / ((one + e) * (one + e_d))  # one division for two
        kept = (one if d >= zero else e_d) * (one + e) * both
        loss += log1p((e - e_d) * (one + e) * both) - (d if d > zero else zero) + (zero if u > zero else -u)
        drop_g[g] = (one if u >= zero else e) * (one + e_d) * both - (one - kept)
        kept_g[g] = kept
    return loss


@compiled(fastmath=FAST)
def _slopes(share_g: Any, r_g: Any, kept_g: Any, scale: Any, slope_g: Any) -> Any:
    """Add the slope of a counted zero in the logarithm of its mean."""
    one = share_g.dtype.type(1)
    sloped = share_g.dtype.type(0)
    for g in range(share_g.shape[0]):
        m = share_g[g] * scale
        v = kept_g[g] * m / (one + m / r_g[g])
        slope_g[g] += v
        sloped += v
    return sloped


@compiled(fastmath=FAST)
def _dispersion(
    rise_g: Any, share_g: Any, r_g: Any, kept_g: Any, scale: Any, weight: Any, sum_log_r_g: Any
) -> None:
    """Add the slope of a counted zero in the logarithm of r."""
    one = share_g.dtype.type(1)
    for g in range(share_g.shape[0]):
        t = share_g[g] * scale / r_g[g]
        sum_log_r_g[g] += weight * kept_g[g] * r_g[g] * (rise_g[g] - t / (one + t))


@compiled(fastmath=FAST)
def zero_inflated(
    span: Any, logits: Any, largest_n: Any, dispersion: Any, cells: Any, nll_n: Any, sums: Any
) -> None:
    """The same with zeros dropped in: logits of both heads are overwritten by the slopes in them.

    With s = log P(0) = -r log(1 + m/r) of the negative binomial and u the logit of a drop, a zero has probability
    sigmoid(u) + sigmoid(-u) e^s, and came from the negative binomial with probability sigmoid(s - u).
    """
    first, last = span
    logit_ng, drop_ng = logits
    r_bg, ways_bkg, slope_bkg = dispersion
    start, column, value, size_n, group_n, weight_n = cells
    sum_bias_g, sum_drop_g, sum_log_r_bg = sums
    one, n_genes = logit_ng.dtype.type(1), logit_ng.shape[1]
    scratch = np.empty((4, n_genes), logit_ng.dtype)
    slope_g, of_x, kept_g, rise_g = scratch[0], scratch[1], scratch[2], scratch[3]
    for n in range(first, last):
        b, share_g, drop_g, weight = group_n[n], logit_ng[n], drop_ng[n], weight_n[n]
        r_g, ways_kg, slope_kg, sum_log_r_g = r_bg[b], ways_bkg[b], slope_bkg[b], sum_log_r_bg[b]
        n_tabled = ways_kg.shape[0]
        total = _shares(share_g, largest_n[n])
        scale = size_n[n] / total
        slope_g[:] = 0
        counts = column[start[n] : start[n + 1]], value[start[n] : start[n + 1]]
        counted = float(_above_zero(counts[0], counts[1], share_g, r_g, scale, of_x))
        _log_rises(share_g, r_g, scale, rise_g)
        counted += _either_way(counts[0], rise_g, r_g, drop_g)
        loss = _zeros(rise_g, r_g, drop_g, kept_g)
        slopes = 0.0
        for i in range(counts[0].shape[0]):  # a count above 0 was not dropped
            g, x = counts[0][i], counts[1][i]
            k = int(x)
            if k < n_tabled and k == x:
                log_ways, slope = ways_kg[k, g], slope_kg[k, g]
            else:
                log_ways, slope = ways(float(x), float(r_g[g]))
            counted -= log_ways
            slope_g[g] -= of_x[i]
            slopes -= of_x[i]
            sum_log_r_g[g] += weight * (of_x[i] - r_g[g] * slope)
            drop_g[g] += one - kept_g[g]
            kept_g[g] = one
        sloped = _slopes(share_g, r_g, kept_g, scale, slope_g)
        _dispersion(rise_g, share_g, r_g, kept_g, scale, weight, sum_log_r_g)
        for g in range(n_genes):
            v = weight * drop_g[g]
            drop_g[g] = v
            sum_drop_g[g] += v
        nll_n[n] = loss + counted
        _through_softmax(share_g, slope_g, logit_ng.dtype.type((sloped + slopes) / total), weight, sum_bias_g)
