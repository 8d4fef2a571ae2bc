"""Poisson and negative binomials, plain and zero-inflated, compiled: one cell after another, all of its genes.

Each loop without conditions over the genes becomes vector instructions; what is needed at the counts above 0 only is gathered first.
All in such a loop has to be of one width, or half of each vector stays empty: sums of float32 are float32, and what numba widens of
int32 is made int32 again.
Suffixes: n cells, g genes, b batches, k counts; `sum_` is summed over the cells first … last - 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparcell.kernels.float_bits import closed, exp, log1p, of_ordered, opened, ordered
from sparcell.kernels.jit import FAST, compiled, inlined
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
    for k in range(
        ways_bkg.shape[1]
    ):  # rows first: numba knows that their parts lie in one piece, and makes vectors
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
def _shares(logit_g: Any) -> Any:
    """Replace logits by their exponentials over that of the largest, and return their sum."""
    largest, total = _largest(logit_g), logit_g.dtype.type(0)
    for g in range(logit_g.shape[0]):
        e = exp(logit_g[g] - largest)
        logit_g[g] = e
        total += e
    return total


@inlined(fastmath=FAST)
def _through_softmax(share_g: Any, slope_g: Any, share_of_sum: Any, weight: Any, sum_bias_g: Any) -> None:
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
            loss += log_factorial(x) - x * (float(share_g[column[i]]) - largest)
            counted += x
        total = float(_shares(share_g))
        nll_n[n] = loss + counted * (math.log(total) - math.log(float(size_n[n])))
        scale = kind.type(float(weight) * counted / total)
        for g in range(share_g.shape[0]):
            v = scale * share_g[g]
            share_g[g] = v
            sum_bias_g[g] += v
        for i in range(start[n], stop[n]):
            of_x = weight * value[i]
            share_g[column[i]] -= of_x
            sum_bias_g[column[i]] -= of_x
        closed(share_g, logit_ng[n])


@inlined(fastmath=FAST)
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


@inlined(fastmath=FAST)
def _at_counts(counts: Any, of_x: Any, dispersion: Any, weight: Any, slope_g: Any, sum_log_r_g: Any) -> Any:
    """Take the counts' part of the slopes in, and return Σ log `ways` and the sum of that part."""
    column, value = counts
    r_g, ways_kg, slope_kg = dispersion
    n_tabled, log_ways, slopes = ways_kg.shape[0], 0.0, 0.0
    for i in range(column.shape[0]):
        g, x = column[i], value[i]
        k = int(x)
        if k < n_tabled and k == x:
            one_log_ways, slope = ways_kg[k, g], slope_kg[k, g]
        else:
            one_log_ways, slope = ways(float(x), float(r_g[g]))
        log_ways += one_log_ways
        slope_g[g] -= of_x[i]
        slopes -= of_x[i]
        sum_log_r_g[g] += weight * (of_x[i] - r_g[g] * slope)
    return log_ways, slopes


@inlined(fastmath=FAST)
def negative_binomial(number: Any, given: Any) -> None:
    """The same: r (m - x) / (r + m) is the slope in the logarithm of the mean m."""
    block, heads, dispersion, cells, nll_n, sums = given
    first, last = part(number, block, nll_n.shape[0])
    logit_ng, bias_g = heads[0]
    r_bg, ways_bkg, slope_bkg = dispersion
    start, stop, column, value, size_n, group_n, weight_n = cells
    sum_bias_g, sum_log_r_bg = sums[0][number], sums[1][number]
    kind, n_genes = r_bg.dtype, logit_ng.shape[1]
    zero, one = kind.type(0), kind.type(1)
    scratch = np.empty((3, n_genes), kind)
    slope_g, of_x = scratch[0], scratch[1]
    for n in range(first, last):
        b, weight = group_n[n], weight_n[n]
        share_g = opened(logit_ng[n], bias_g, scratch[2])
        r_g, sum_log_r_g = r_bg[b], sum_log_r_bg[b]
        total = _shares(share_g)
        scale = size_n[n] / total
        slope_g[:] = 0
        counts = column[start[n] : stop[n]], value[start[n] : stop[n]]
        counted = float(_above_zero(counts[0], counts[1], share_g, r_g, scale, of_x))
        tables = r_g, ways_bkg[b], slope_bkg[b]
        log_ways, slopes = _at_counts(counts, of_x, tables, weight, slope_g, sum_log_r_g)
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
        nll_n[n] = loss + (counted - log_ways)
        _through_softmax(share_g, slope_g, kind.type((sloped + slopes) / total), weight, sum_bias_g)
        closed(share_g, logit_ng[n])


@inlined(fastmath=FAST)
def _log_rises(share_g: Any, r_g: Any, scale: Any, rise_g: Any) -> None:
    """log(1 + m/r) of a cell's genes: log P(0) of the negative binomial is -r times it."""
    for g in range(share_g.shape[0]):
        rise_g[g] = log1p(share_g[g] * scale / r_g[g])


@inlined(fastmath=FAST)
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


@inlined(fastmath=FAST)
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


@inlined(fastmath=FAST)
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


@inlined(fastmath=FAST)
def _dispersion(
    rise_g: Any, share_g: Any, r_g: Any, kept_g: Any, scale: Any, weight: Any, sum_log_r_g: Any
) -> None:
    """Add the slope of a counted zero in the logarithm of r."""
    one = share_g.dtype.type(1)
    for g in range(share_g.shape[0]):
        t = share_g[g] * scale / r_g[g]
        sum_log_r_g[g] += weight * kept_g[g] * r_g[g] * (rise_g[g] - t / (one + t))


@inlined(fastmath=FAST)
def zero_inflated(number: Any, given: Any) -> None:
    """The same with zeros dropped in: logits of both heads are overwritten by the slopes in them.

    With s = log P(0) = -r log(1 + m/r) of the negative binomial and u the logit of a drop, a zero has probability
    sigmoid(u) + sigmoid(-u) e^s, and came from the negative binomial with probability sigmoid(s - u).
    """
    block, heads, dispersion, cells, nll_n, sums = given
    first, last = part(number, block, nll_n.shape[0])
    (logit_ng, bias_g), (drop_ng, drop_bias_g) = heads
    r_bg, ways_bkg, slope_bkg = dispersion
    start, stop, column, value, size_n, group_n, weight_n = cells
    sum_bias_g, sum_drop_g, sum_log_r_bg = sums[0][number], sums[1][number], sums[2][number]
    kind, n_genes = r_bg.dtype, logit_ng.shape[1]
    one = kind.type(1)
    scratch = np.empty((6, n_genes), kind)
    slope_g, of_x, kept_g, rise_g = scratch[0], scratch[1], scratch[2], scratch[3]
    for n in range(first, last):
        b, weight = group_n[n], weight_n[n]
        share_g = opened(logit_ng[n], bias_g, scratch[4])
        drop_g = opened(drop_ng[n], drop_bias_g, scratch[5])
        r_g, sum_log_r_g = r_bg[b], sum_log_r_bg[b]
        total = _shares(share_g)
        scale = size_n[n] / total
        slope_g[:] = 0
        counts = column[start[n] : stop[n]], value[start[n] : stop[n]]
        counted = float(_above_zero(counts[0], counts[1], share_g, r_g, scale, of_x))
        _log_rises(share_g, r_g, scale, rise_g)
        counted += _either_way(counts[0], rise_g, r_g, drop_g)
        loss = _zeros(rise_g, r_g, drop_g, kept_g)
        tables = r_g, ways_bkg[b], slope_bkg[b]
        log_ways, slopes = _at_counts(counts, of_x, tables, weight, slope_g, sum_log_r_g)
        for g in counts[0]:  # a count above 0 was not dropped
            drop_g[g] += one - kept_g[g]
            kept_g[g] = one
        sloped = _slopes(share_g, r_g, kept_g, scale, slope_g)
        _dispersion(rise_g, share_g, r_g, kept_g, scale, weight, sum_log_r_g)
        for g in range(n_genes):
            v = weight * drop_g[g]
            drop_g[g] = v
            sum_drop_g[g] += v
        nll_n[n] = loss + (counted - log_ways)
        _through_softmax(share_g, slope_g, kind.type((sloped + slopes) / total), weight, sum_bias_g)
        closed(share_g, logit_ng[n])
        closed(drop_g, drop_ng[n])


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


@compiled()
def share_zero_inflated(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, zero_inflated, given)
