"""Poisson and negative binomial, compiled: one cell after another, all of its genes.

Each loop without conditions over the genes becomes vector instructions; what is needed at the counts above 0 only is gathered first.
All in such a loop has to be of one width, or half of each vector stays empty: sums of float32 are float32, and what numba widens of
int32 is made int32 again. Places are uint64 where they come from memory: of one with a sign numba asks whether it counts from the end.
Suffixes: n cells, g genes, b batches, k counts; `sum_` is summed over the cells first … last - 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparcell.kernels.float_bits import closed, exp, log1p, of_ordered, opened, ordered
from sparcell.kernels.jit import FAST, compiled, inlined
from sparcell.kernels.sparse_loops import take_off
from sparcell.kernels.tasks import each, part

ENOUGH = 8.0
"""From here on Stirling's series is used; its error is below 1e-11."""
MOST_FACTORS = 16.0
LOG_FACTORIALS = np.array([math.lgamma(x + 1) for x in range(256)])


@inlined(fastmath=False)
def _stirling(z: Any) -> Any:
    """log Gamma and its derivative, for z of at least ENOUGH (Abramowitz & Stegun 6.1.41, 6.3.18)."""
    log_z, i, square = math.log(z), 1 / z, 1 / (z * z)
    series = i * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    slope = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return (z - 0.5) * log_z - z + 0.918938533204672742 + series, log_z - 0.5 * i - slope


@inlined(fastmath=False)
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


@inlined(fastmath=False)
def log_factorial(x: Any) -> Any:
    """log x!, for x of at least 0."""
    if x < 256.0 and x == math.floor(x):
        return LOG_FACTORIALS[int(x)]
    return math.lgamma(x + 1)


@inlined(fastmath=False)
def ways(x: Any, r: Any) -> Any:
    """log Gamma(x + r) - log Gamma(r) - log x!, and its derivative by r."""
    log_ratio, slope = gamma_ratio(x, r)
    return log_ratio - log_factorial(x), slope


@inlined(fastmath=FAST)
def table_ways(number: Any, given: Any) -> None:
    """Fill in `ways` of the counts 0, 1, 2, … of a block of genes: most counts are small, and a gene has one r for all of its cells."""
    block, log_r_bg, r_bg, ways_bkg, slope_bkg = given
    n_blocks = -(-r_bg.shape[1] // block)
    b, (first, last) = number // n_blocks, part(number % n_blocks, block, r_bg.shape[1])
    log_r_g, r_g = log_r_bg[b][first:last], r_bg[b][first:last]
    one = r_g.dtype.type(1)
    # whole rows first: numba knows that their parts lie in one piece, and makes vectors
    for k in range(ways_bkg.shape[1]):
        ways_g, slope_g = ways_bkg[b, k][first:last], slope_bkg[b, k][first:last]
        if k == 0:
            ways_g[:] = 0
            slope_g[:] = 0
            continue
        fewer_g, less_g = ways_bkg[b, k - 1][first:last], slope_bkg[b, k - 1][first:last]
        above, constant = r_g.dtype.type(k - 1), r_g.dtype.type(math.log(k))
        for g in range(r_g.shape[0]):
            slope_g[g] = less_g[g] + one / (r_g[g] + above)
        for g in range(r_g.shape[0]):
            ways_g[g] = fewer_g[g] + log1p(r_g[g] + above - one) - constant
        if k == 1:  # 1 + (r - 1) has lost the digits of a small r
            for g in range(r_g.shape[0]):
                ways_g[g] = log_r_g[g]


@inlined()
def _largest(logit_g: Any) -> Any:
    """Give the largest logit; where one is no number, any value, and the sum of the exponentials is none either."""
    most = ordered(logit_g[0])
    for g in range(logit_g.shape[0]):
        most = max(most, ordered(logit_g[g]))
    return of_ordered(most)


@inlined(fastmath=FAST)
def shares(logit_g: Any) -> Any:
    """Replace logits by their exponentials over that of the largest, and return their sum."""
    largest, total = _largest(logit_g), logit_g.dtype.type(0)
    for g in range(logit_g.shape[0]):
        e = exp(logit_g[g] - largest)
        logit_g[g] = e
        total += e
    return total


@inlined(fastmath=FAST)
def through_softmax(share_g: Any, slope_g: Any, share_of_sum: Any, weight: Any, sum_bias_g: Any) -> None:
    """Overwrite exponentials by the slope of the loss in the logits, from its slope in the logarithms of the means."""
    for g in range(share_g.shape[0]):
        v = weight * (slope_g[g] - share_g[g] * share_of_sum)
        share_g[g] = v
        sum_bias_g[g] += v


@inlined(fastmath=FAST)
def poisson(number: Any, given: Any) -> None:
    """-log p of each cell; the logits are overwritten by its slope in them, share · Σ x - x, times the cell's weight.

    The head is its logits and its bias: of logits in bfloat16, given as their bits, the latter is to be added yet. There is no dispersion.
    """
    block, heads, _, cells, nll_n, sums = given
    first, last = part(number, block, nll_n.shape[0])
    logit_ng, bias_g = heads[0]
    start, stop, column, value, size_n, _, weight_n = cells
    sum_bias_g = sums[0][number]
    kind = bias_g.dtype
    scratch = np.empty(logit_ng.shape[1], kind)
    for n in range(first, last):
        share_g, weight = opened(logit_ng[n], bias_g, scratch), weight_n[n]
        largest, loss, counted = float(_largest(share_g)), float(size_n[n]), 0.0
        for i in range(start[n], stop[n]):
            x = float(value[i])
            loss += log_factorial(x) - x * (float(share_g[np.uint64(column[i])]) - largest)
            counted += x
        total = float(shares(share_g))
        nll_n[n] = loss + counted * (math.log(total) - math.log(float(size_n[n])))
        scale = kind.type(float(weight) * counted / total)
        for g in range(share_g.shape[0]):
            v = scale * share_g[g]
            share_g[g] = v
            sum_bias_g[g] += v
        for i in range(start[n], stop[n]):
            place, of_x = np.uint64(column[i]), weight * value[i]
            share_g[place] -= of_x
            sum_bias_g[place] -= of_x
        closed(share_g, logit_ng[n])


@inlined(fastmath=FAST)
def above_zero(column: Any, value: Any, share_g: Any, r_g: Any, scale: Any, of_x: Any) -> Any:
    """Σ x log(1 + r/m) over a cell's counts above 0; `of_x` becomes x r / (r + m), the count's part of the slope in log m."""
    one, n_counts = share_g.dtype.type(1), column.shape[0]
    ratio = np.empty(n_counts, share_g.dtype)
    for i in range(n_counts):  # gathered first: what follows is then a vector loop
        g = np.uint64(column[i])
        ratio[i] = r_g[g] / (share_g[g] * scale)
    loss = share_g.dtype.type(0)
    for i in range(n_counts):
        x = one * value[i]
        loss += x * log1p(ratio[i])
        of_x[i] = x * ratio[i] / (one + ratio[i])
    return loss


@inlined(fastmath=FAST)
def at_counts(counts: Any, of_x: Any, dispersion: Any, weight: Any, sum_log_r_g: Any) -> Any:
    """Add the counts' part of the slopes in log r, and return Σ log `ways` and the sum of their part of the slopes in log m."""
    column, value = counts
    r_g, ways_kg, slope_kg = dispersion
    n_tabled, log_ways, slopes = ways_kg.shape[0], 0.0, 0.0
    for i in range(column.shape[0]):
        g, x = np.uint64(column[i]), value[i]
        k = int(x)
        if k < n_tabled and k == x:
            one_log_ways, slope = ways_kg[np.uint64(k), g], slope_kg[np.uint64(k), g]
        else:
            one_log_ways, slope = ways(float(x), float(r_g[g]))
        log_ways += one_log_ways
        slopes -= of_x[i]
        sum_log_r_g[g] += weight * (of_x[i] - r_g[g] * slope)
    return log_ways, slopes


@inlined(fastmath=FAST)
def negative_binomial(number: Any, given: Any) -> None:
    """The same: r (m - x) / (r + m) is the slope in the logarithm of the mean m."""
    block, heads, dispersion, cells, nll_n, sums = given
    first, last = part(number, block, nll_n.shape[0])
    logit_ng, bias_g = heads[0]
    r_bg, inverse_bg, ways_bkg, slope_bkg = dispersion
    start, stop, column, value, size_n, group_n, weight_n = cells
    sum_bias_g, sum_log_r_bg = sums[0][number], sums[1][number]
    kind, n_genes = r_bg.dtype, logit_ng.shape[1]
    zero, one = kind.type(0), kind.type(1)
    scratch = np.empty((3, n_genes), kind)
    slope_g, of_x = scratch[0], scratch[1]
    for n in range(first, last):
        b, weight = group_n[n], weight_n[n]
        share_g = opened(logit_ng[n], bias_g, scratch[2])
        r_g, inverse_g, sum_log_r_g = r_bg[b], inverse_bg[b], sum_log_r_bg[b]
        total = shares(share_g)
        scale = size_n[n] / total
        counts = column[start[n] : stop[n]], value[start[n] : stop[n]]
        counted = float(above_zero(counts[0], counts[1], share_g, r_g, scale, of_x))
        tables = r_g, ways_bkg[b], slope_bkg[b]
        log_ways, slopes = at_counts(counts, of_x, tables, weight, sum_log_r_g)
        loss, sloped = zero, zero
        for g in range(n_genes):
            r = r_g[g]
            m = share_g[g] * scale
            t = m * inverse_g[g]
            q = one / (one + t)
            lp = log1p(t)
            loss += r * lp
            slope_g[g] = m * q
            sloped += m * q
            sum_log_r_g[g] += weight * r * (lp - t * q)
        nll_n[n] = loss + (counted - log_ways)
        take_off(slope_g, counts[0], of_x)
        through_softmax(share_g, slope_g, kind.type((sloped + slopes) / total), weight, sum_bias_g)
        closed(share_g, logit_ng[n])


@compiled()
def share_table_ways(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, table_ways, given)


@compiled()
def share_poisson(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, poisson, given)


@compiled()
def share_negative_binomial(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, negative_binomial, given)
