"""The zero-inflated negative binomial, compiled: one cell after another, its genes by pieces.

With s = log P(0) = -r log(1 + m/r) of the negative binomial and u the logit of a drop, a zero has probability sigmoid(u) + sigmoid(-u) e^s,
and came from the negative binomial with probability sigmoid(s - u). Suffixes: n cells, g genes, b batches; p genes of a piece.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcell.kernels.count_loops import above_zero, at_counts, shares, through_softmax
from sparcell.kernels.float_bits import closed, exp, log1p, opened
from sparcell.kernels.jit import FAST, compiled, inlined
from sparcell.kernels.sparse_loops import first_from, take_off
from sparcell.kernels.tasks import each, part

PIECE = 512
"""Genes of a piece: what is noted of them stays in a core's first cache."""


@inlined(fastmath=FAST)
def _log_rises(share_p: Any, inverse_p: Any, scale: Any, rise_p: Any, rest_p: Any) -> None:
    """log(1 + m/r), -r times which is log P(0) of the negative binomial; and r / (r + m)."""
    one = share_p.dtype.type(1)
    for p in range(share_p.shape[0]):
        t = share_p[p] * scale * inverse_p[p]
        rise_p[p] = log1p(t)
        rest_p[p] = one / (one + t)


@inlined(fastmath=FAST)
def _either_way(gene: Any, rise_p: Any, r_p: Any, drop_p: Any, apart: Any) -> Any:
    """Σ log(e^u + e^s) - s over the genes of counts above 0: what they would cost more if they were zeros."""
    zero = drop_p.dtype.type(0)
    for i in range(gene.shape[0]):
        apart[i] = -r_p[gene[i]] * rise_p[gene[i]] - drop_p[gene[i]]
    loss = zero
    for i in range(gene.shape[0]):
        d = apart[i]
        loss += (zero if d > zero else -d) + log1p(exp(-abs(d)))
    return loss


@inlined(fastmath=FAST)
def _zeros(rise_p: Any, r_p: Any, drop_p: Any, kept_p: Any, e_p: Any, e_d_p: Any) -> Any:
    """-log P(0); the logits of a drop are overwritten by the slopes in them, `kept_p` by sigmoid(s - u).

    In three loops: the processor looks only so many operations ahead, and of one loop would see but two vectors at a time, each of which
    waits for one result after the other.
    """
    one, zero = drop_p.dtype.type(1), drop_p.dtype.type(0)
    loss = zero
    for p in range(drop_p.shape[0]):
        d = -r_p[p] * rise_p[p] - drop_p[p]
        e_p[p] = exp(-abs(drop_p[p]))
        e_d_p[p] = exp(-abs(d))
        kept_p[p] = d
    for p in range(drop_p.shape[0]):
        u, d, e, e_d = drop_p[p], kept_p[p], e_p[p], e_d_p[p]
        both = one / ((one + e) * (one + e_d))  # one division for two
        kept = (one if d >= zero else e_d) * (one + e) * both
        loss += (zero if u > zero else -u) - (d if d > zero else zero)
        drop_p[p] = (one if u >= zero else e) * (one + e_d) * both - (one - kept)
        kept_p[p] = kept
        e_p[p] = (e - e_d) * (one + e) * both
    for p in range(drop_p.shape[0]):
        loss += log1p(e_p[p])
    return loss


@inlined(fastmath=FAST)
def _slopes(genes: Any, noted: Any, scale: Any, weight: Any, slope_p: Any, sum_log_r_p: Any) -> Any:
    """Give the slopes of a counted zero in the logarithm of its mean, add those in that of r, and return the sum of the former."""
    (share_p, r_p), (rise_p, rest_p, kept_p) = genes, noted
    sloped = share_p.dtype.type(0)
    for p in range(share_p.shape[0]):
        v = kept_p[p] * rest_p[p] * (share_p[p] * scale)
        slope_p[p] = v
        sloped += v
        sum_log_r_p[p] += weight * (kept_p[p] * r_p[p] * rise_p[p] - v)
    return sloped


@inlined(fastmath=FAST)
def _mixture(heads: Any, dispersion: Any, column: Any, scales: Any, sums: Any) -> Any:
    """-log P of a cell's zeros with what its counts would cost more if they were zeros, and the sum of the slopes in the means.

    The logits of a drop are overwritten by the slopes in them; those in the logarithms of the means and of r are added to `sums`.
    """
    (share_g, drop_g), (r_g, inverse_g) = heads, dispersion
    (scale, weight), (slope_g, sum_log_r_g, sum_drop_g) = scales, sums
    one, loss, sloped, begin = share_g.dtype.type(1), 0.0, 0.0, 0
    # one array, so that the compiler knows that its parts do not overlap
    noted, gene = np.empty(6 * PIECE, share_g.dtype), np.empty(PIECE, np.uint64)
    for first in range(0, share_g.shape[0], PIECE):
        last = min(first + PIECE, share_g.shape[0])
        end, size = first_from(column, begin, column.shape[0], last), last - first
        share_p, drop_p, r_p = share_g[first:last], drop_g[first:last], r_g[first:last]
        rise_p, rest_p = noted[:size], noted[PIECE : PIECE + size]
        kept_p, gene_i = noted[2 * PIECE : 2 * PIECE + size], gene[: end - begin]
        for i in range(end - begin):
            gene_i[i] = column[begin + i] - first
        _log_rises(share_p, inverse_g[first:last], scale, rise_p, rest_p)
        loss += float(_either_way(gene_i, rise_p, r_p, drop_p, noted[5 * PIECE :]))
        e_p, e_d_p = noted[3 * PIECE : 3 * PIECE + size], noted[4 * PIECE : 4 * PIECE + size]
        loss += float(_zeros(rise_p, r_p, drop_p, kept_p, e_p, e_d_p))
        for p in gene_i:  # a count above 0 was not dropped
            drop_p[p] += one - kept_p[p]
            kept_p[p] = one
        noted_p, slope_p, log_r_p = (rise_p, rest_p, kept_p), slope_g[first:last], sum_log_r_g[first:last]
        sloped += float(_slopes((share_p, r_p), noted_p, scale, weight, slope_p, log_r_p))
        sum_drop_p = sum_drop_g[first:last]
        for p in range(size):
            v = weight * drop_p[p]
            drop_p[p] = v
            sum_drop_p[p] += v
        begin = end
    return loss, sloped


@inlined(fastmath=FAST)
def zero_inflated(number: Any, given: Any) -> None:
    """-log p of each cell; the logits of both heads are overwritten by the slopes in them, as `count_loops.poisson` has it."""
    block, heads, dispersion, cells, nll_n, sums = given
    first, last = part(number, block, nll_n.shape[0])
    (logit_ng, bias_g), (drop_ng, drop_bias_g) = heads
    r_bg, inverse_bg, ways_bkg, slope_bkg = dispersion
    start, stop, column, value, size_n, group_n, weight_n = cells
    sum_bias_g, sum_drop_g, sum_log_r_bg = sums[0][number], sums[1][number], sums[2][number]
    kind, n_genes = r_bg.dtype, logit_ng.shape[1]
    scratch = np.empty((4, n_genes), kind)
    slope_g, of_x = scratch[0], scratch[1]
    for n in range(first, last):
        b, weight = group_n[n], weight_n[n]
        share_g = opened(logit_ng[n], bias_g, scratch[2])
        drop_g = opened(drop_ng[n], drop_bias_g, scratch[3])
        r_g, sum_log_r_g = r_bg[b], sum_log_r_bg[b]
        total = shares(share_g)
        scale = size_n[n] / total
        counts = column[start[n] : stop[n]], value[start[n] : stop[n]]
        counted = float(above_zero(counts[0], counts[1], share_g, r_g, scale, of_x))
        tables = r_g, ways_bkg[b], slope_bkg[b]
        log_ways, slopes = at_counts(counts, of_x, tables, weight, sum_log_r_g)
        loss, sloped = _mixture(
            (share_g, drop_g),
            (r_g, inverse_bg[b]),
            counts[0],
            (scale, weight),
            (slope_g, sum_log_r_g, sum_drop_g),
        )
        nll_n[n] = loss + (counted - log_ways)
        take_off(slope_g, counts[0], of_x)
        through_softmax(share_g, slope_g, kind.type((sloped + slopes) / total), weight, sum_bias_g)
        closed(share_g, logit_ng[n])
        closed(drop_g, drop_ng[n])


@compiled()
def share_zero_inflated(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, zero_inflated, given)
