"""The zero-inflated negative binomial with its gradients, compiled: one cell after another, its genes by pieces.

With s = log P(0) = -r log(1 + m/r) of the negative binomial and u the logit of a drop, a zero has probability sigmoid(u) + sigmoid(-u) e^s,
and came from the negative binomial with probability sigmoid(s - u). An epoch with this head and the sparse layer is 3.5 times faster than
with torch's operations (13,714 genes; AMD EPYC, 2 cores, AVX-512, 2026-11-28).

Suffixes: n cells, g genes, b batches; q genes of a piece.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from sparcell.kernels.count_loops import (
    coefficient_terms,
    count_terms,
    softmax_backward,
    softmax_unnormalized,
)
from sparcell.kernels.float_bits import exp, log1p
from sparcell.kernels.jit import FAST, inline_jit
from sparcell.kernels.sparse_loops import first_at_least, subtract_at
from sparcell.kernels.threads import block_range, parallel_jit

PIECE = 512
"""Genes of a piece: its intermediate results stay in a core's first cache."""


@inline_jit(fastmath=FAST)
def _nb_terms(exp_q, inverse_q, scale, log_rise_q, rest_q):
    """Write log(1 + m/r), which is log P(0) of the negative binomial over -r; and r / (r + m)."""
    one = exp_q.dtype.type(1)
    for q in range(exp_q.shape[0]):
        t = exp_q[q] * scale * inverse_q[q]
        log_rise_q[q] = log1p(t)
        rest_q[q] = one / (one + t)


@inline_jit(fastmath=FAST)
def _excess_at_counts(gene, first, log_rise_q, r_q, drop_q, difference):
    """Return Σ log(e^u + e^s) - s over the genes of counts above 0: what they would cost more if they were zeros."""
    zero = drop_q.dtype.type(0)
    for i in range(gene.shape[0]):
        q = np.uint64(gene[i] - first)
        difference[i] = -r_q[q] * log_rise_q[q] - drop_q[q]
    loss = zero
    for i in range(gene.shape[0]):
        d = difference[i]
        loss += (zero if d > zero else -d) + log1p(exp(-abs(d)))
    return loss


@inline_jit(fastmath=FAST)
def _zero_terms(log_rise_q, r_q, drop_q, counted_q, e_q, e_d_q):
    """Return -log P(0); the logits of a drop are overwritten by their gradients, `counted_q` by sigmoid(s - u).

    In three loops: the processor looks a few hundred operations ahead. In a single loop that would be two vectors, and each vector
    waits for one result after the other.
    """
    one, zero = drop_q.dtype.type(1), drop_q.dtype.type(0)
    loss = zero
    for q in range(drop_q.shape[0]):
        d = -r_q[q] * log_rise_q[q] - drop_q[q]
        e_q[q] = exp(-abs(drop_q[q]))
        e_d_q[q] = exp(-abs(d))
        counted_q[q] = d
    for q in range(drop_q.shape[0]):
        u, d, e, e_d = drop_q[q], counted_q[q], e_q[q], e_d_q[q]
        both = one / ((one + e) * (one + e_d))  # one division for two
        counted = (one if d >= zero else e_d) * (one + e) * both
        loss += (zero if u > zero else -u) - (d if d > zero else zero)
        drop_q[q] = (one if u >= zero else e) * (one + e_d) * both - (one - counted)
        counted_q[q] = counted
        e_q[q] = (e - e_d) * (one + e) * both
    for q in range(drop_q.shape[0]):
        loss += log1p(e_q[q])
    return loss


@inline_jit(fastmath=FAST)
def _set_counted(gene, first, drop_q, counted_q):
    """Correct the gradients at counts above 0, which were not dropped."""
    one = drop_q.dtype.type(1)
    for i in range(gene.shape[0]):
        q = np.uint64(gene[i] - first)
        drop_q[q] += one - counted_q[q]
        counted_q[q] = one


@inline_jit(fastmath=FAST)
def _nb_grads(exp_q, r_q, log_rise_q, rest_q, counted_q, scale, weight, grad_q, sum_log_r_q):
    """Write the gradients of a counted zero in log m, add those in log r, and return the sum of the former."""
    grad_sum = exp_q.dtype.type(0)
    for q in range(exp_q.shape[0]):
        v = counted_q[q] * rest_q[q] * (exp_q[q] * scale)
        grad_q[q] = v
        grad_sum += v
        sum_log_r_q[q] += weight * (counted_q[q] * r_q[q] * log_rise_q[q] - v)
    return grad_sum


@inline_jit(fastmath=FAST)
def _weigh(drop_q, weight, sum_drop_q):
    for q in range(drop_q.shape[0]):
        v = weight * drop_q[q]
        drop_q[q] = v
        sum_drop_q[q] += v


@inline_jit(fastmath=FAST)
def _mixture_terms(
    exp_g, drop_g, gene, r_g, inverse_g, scale, weight, piece_scratch, grad_g, sum_log_r_g, sum_drop_g
):
    """Return -log P of a cell's zeros plus what its counts would cost more if they were zeros, and the sum of the gradients in log m.

    The logits of a drop are overwritten by their gradients; those in log m are written, those in log r and the bias are added.
    """
    loss, grad_sum, begin = 0.0, 0.0, 0
    for first in range(0, exp_g.shape[0], PIECE):
        last = min(first + PIECE, exp_g.shape[0])
        end, size = first_at_least(gene, begin, gene.shape[0], last), last - first
        exp_q, drop_q, r_q = exp_g[first:last], drop_g[first:last], r_g[first:last]
        # parts of one array, so that the compiler knows that they do not overlap
        log_rise_q, rest_q = piece_scratch[:size], piece_scratch[PIECE : PIECE + size]
        counted_q = piece_scratch[2 * PIECE : 2 * PIECE + size]
        e_q, e_d_q = piece_scratch[3 * PIECE : 3 * PIECE + size], piece_scratch[4 * PIECE : 4 * PIECE + size]
        _nb_terms(exp_q, inverse_g[first:last], scale, log_rise_q, rest_q)
        at_counts = piece_scratch[5 * PIECE :]
        loss += float(_excess_at_counts(gene[begin:end], first, log_rise_q, r_q, drop_q, at_counts))
        loss += float(_zero_terms(log_rise_q, r_q, drop_q, counted_q, e_q, e_d_q))
        _set_counted(gene[begin:end], first, drop_q, counted_q)
        grad_q, sum_log_r_q = grad_g[first:last], sum_log_r_g[first:last]
        grad_sum += float(
            _nb_grads(exp_q, r_q, log_rise_q, rest_q, counted_q, scale, weight, grad_q, sum_log_r_q)
        )
        _weigh(drop_q, weight, sum_drop_g[first:last])
        begin = end
    return loss, grad_sum


@parallel_jit()
def zero_inflated(
    n_blocks,
    block,
    start_n,
    stop_n,
    column,
    value,
    library_size_n,
    weight_n,
    batch_n,
    r_bg,
    inverse_bg,
    table_bkg,
    table_grad_bkg,
    scratch_png,
    piece_scratch_pq,
    logit_ng,
    drop_ng,
    nll_n,
    sum_bias_pg,
    sum_drop_pg,
    sum_log_r_pbg,
):
    """Write -log p of each cell; the logits of both heads are overwritten by their gradients, as in `count_loops.poisson`."""
    for number in prange(n_blocks):
        first, last = block_range(number, block, nll_n.shape[0])
        grad_g, count_grad, ratio = scratch_png[number, 0], scratch_png[number, 1], scratch_png[number, 2]
        for n in range(first, last):
            b, weight, exp_g = batch_n[n], weight_n[n], logit_ng[n]
            r_g, sum_log_r_g = r_bg[b], sum_log_r_pbg[number, b]
            gene, count = column[start_n[n] : stop_n[n]], value[start_n[n] : stop_n[n]]
            total = softmax_unnormalized(exp_g)
            scale = library_size_n[n] / total
            count_loss = float(count_terms(gene, count, exp_g, r_g, scale, ratio, count_grad))
            log_coefficients, count_sum = coefficient_terms(
                gene, count, count_grad, r_g, table_bkg[b], table_grad_bkg[b], weight, sum_log_r_g
            )
            loss, zero_sum = _mixture_terms(
                exp_g,
                drop_ng[n],
                gene,
                r_g,
                inverse_bg[b],
                scale,
                weight,
                piece_scratch_pq[number],
                grad_g,
                sum_log_r_g,
                sum_drop_pg[number],
            )
            nll_n[n] = loss + (count_loss - log_coefficients)
            subtract_at(grad_g, gene, count_grad)
            fraction = logit_ng.dtype.type((zero_sum + count_sum) / total)
            softmax_backward(exp_g, grad_g, fraction, weight, sum_bias_pg[number])
