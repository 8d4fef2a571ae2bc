"""Poisson and negative binomial with their gradients, compiled: one cell after another, all of its genes.

Each loop without conditions over the genes becomes vector instructions; what is needed at the counts above 0 only is gathered first. All
numbers of a loop have one width, or half of each vector stays empty: sums of float32 are float32, and what numba widens of int32 is made
int32 again. Indices are read as uint64, since numba checks a signed one for a count from the end. An epoch with this head and the sparse
layer is 4.8 times faster than with torch's operations (nb, 13,714 genes; AMD EPYC, 2 cores, AVX-512, 2026-11-28).

Suffixes: n cells, g genes, b batches, k counts; `sum_` is summed over the cells of a block.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange

from sparcell.kernels.float_bits import exp, from_ordered, log1p, ordered
from sparcell.kernels.jit import FAST, inline_jit
from sparcell.kernels.sparse_loops import subtract_at
from sparcell.kernels.threads import block_range, parallel_jit

MIN_STIRLING = 8.0
"""From here on Stirling's series is used; its error is below 1e-11."""
MAX_FACTORS = 16.0
LOG_FACTORIALS = np.array([math.lgamma(x + 1) for x in range(256)])


@inline_jit(fastmath=False)
def _stirling(z):
    """Return log Gamma and its derivative, for z of at least MIN_STIRLING (Abramowitz & Stegun 6.1.41, 6.3.18)."""
    log_z, i, square = math.log(z), 1 / z, 1 / (z * z)
    series = i * (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square / 1680)))
    grad = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return (z - 0.5) * log_z - z + 0.918938533204672742 + series, log_z - 0.5 * i - grad


@inline_jit(fastmath=False)
def gamma_ratio(x, r):
    """Return log Gamma(x + r) - log Gamma(r) and its derivative by r, for x and r above 0 in float64.

    For a small integer x it is the log of r (r+1) … (r+x-1), exactly.
    """
    product, grad = 1.0, 0.0
    if x <= MAX_FACTORS and x == math.floor(x):
        for i in range(int(x)):
            product *= r + i
            grad += 1 / (r + i)
        return math.log(product), grad
    y, z, high_product = r, x + r, 1.0
    while y < MIN_STIRLING:  # Gamma(y + 1) = y Gamma(y)
        product *= y
        grad += 1 / y
        y += 1
    while z < MIN_STIRLING:
        high_product *= z
        grad -= 1 / z
        z += 1
    high, high_grad = _stirling(z)
    low, low_grad = _stirling(y)
    return high - low + math.log(product / high_product), high_grad - low_grad + grad


@inline_jit(fastmath=False)
def log_factorial(x):
    """Return log x!, for x of at least 0."""
    if x < 256.0 and x == math.floor(x):
        return LOG_FACTORIALS[int(x)]
    return math.lgamma(x + 1)


@inline_jit(fastmath=False)
def nb_log_coefficient(x, r):
    """Return log Gamma(x + r) - log Gamma(r) - log x! and its derivative by r."""
    log_ratio, grad = gamma_ratio(x, r)
    return log_ratio - log_factorial(x), grad


@inline_jit(fastmath=FAST)
def _table_row(k, log_r_g, r_g, fewer_g, less_g, value_g, grad_g):
    """Fill in `nb_log_coefficient` of a count k of at least 1 from the row of k - 1."""
    one = r_g.dtype.type(1)
    above, constant = r_g.dtype.type(k - 1), r_g.dtype.type(math.log(k))
    for g in range(r_g.shape[0]):
        grad_g[g] = less_g[g] + one / (r_g[g] + above)
    for g in range(r_g.shape[0]):
        value_g[g] = fewer_g[g] + log1p(r_g[g] + above - one) - constant
    if k == 1:  # 1 + (r - 1) has lost the digits of a small r
        for g in range(r_g.shape[0]):
            value_g[g] = log_r_g[g]


@parallel_jit()
def nb_log_coefficient_table(n_blocks, block, log_r_bg, r_bg, value_bkg, grad_bkg):
    """Fill in `nb_log_coefficient` of the counts 0, 1, 2, …; the row of 0 holds zeros already.

    Most counts are small, and a gene has one r for all of its cells. A block is some of the genes of one batch.
    """
    for number in prange(n_blocks):
        of_batch = -(-r_bg.shape[1] // block)
        b = number // of_batch
        first, last = block_range(number % of_batch, block, r_bg.shape[1])
        log_r_g, r_g = log_r_bg[b], r_bg[b]
        for k in range(1, value_bkg.shape[1]):
            # whole rows first: numba knows that their parts lie in one piece, and makes vectors
            fewer_g, less_g, value_g, grad_g = (
                value_bkg[b, k - 1],
                grad_bkg[b, k - 1],
                value_bkg[b, k],
                grad_bkg[b, k],
            )
            _table_row(
                k,
                log_r_g[first:last],
                r_g[first:last],
                fewer_g[first:last],
                less_g[first:last],
                value_g[first:last],
                grad_g[first:last],
            )


@inline_jit()
def _largest(logit_g):
    """Return the largest logit; if one is NaN, any value, and the sum of the exponentials is NaN too."""
    largest = ordered(logit_g[0])
    for g in range(logit_g.shape[0]):
        largest = max(largest, ordered(logit_g[g]))
    return from_ordered(largest)


@inline_jit(fastmath=FAST)
def softmax_unnormalized(logit_g):
    """Replace logits by their exponentials over that of the largest, and return their sum."""
    largest, total = _largest(logit_g), logit_g.dtype.type(0)
    for g in range(logit_g.shape[0]):
        e = exp(logit_g[g] - largest)
        logit_g[g] = e
        total += e
    return total


@inline_jit(fastmath=FAST)
def softmax_backward(exp_g, grad_g, fraction, weight, sum_bias_g):
    """Overwrite exponentials by the gradient of the loss in the logits, from its gradient in the log means."""
    for g in range(exp_g.shape[0]):
        v = weight * (grad_g[g] - exp_g[g] * fraction)
        exp_g[g] = v
        sum_bias_g[g] += v


@inline_jit(fastmath=FAST)
def _poisson_cell(logit_g, gene, count, library_size, weight, sum_bias_g):
    kind = logit_g.dtype.type
    largest, loss, n_counts = float(_largest(logit_g)), float(library_size), 0.0
    for i in range(gene.shape[0]):
        x = float(count[i])
        loss += log_factorial(x) - x * (float(logit_g[np.uint64(gene[i])]) - largest)
        n_counts += x
    total = float(softmax_unnormalized(logit_g))
    scale = kind(float(weight) * n_counts / total)
    for g in range(logit_g.shape[0]):
        v = scale * logit_g[g]
        logit_g[g] = v
        sum_bias_g[g] += v
    for i in range(gene.shape[0]):
        at, weighted_x = np.uint64(gene[i]), weight * kind(count[i])
        logit_g[at] -= weighted_x
        sum_bias_g[at] -= weighted_x
    return loss + n_counts * (math.log(total) - math.log(float(library_size)))


@parallel_jit()
def poisson(
    n_blocks, block, start_n, stop_n, column, value, library_size_n, weight_n, logit_ng, nll_n, sum_bias_pg
):
    """Write -log p of each cell; its logits are overwritten by the gradient, softmax · Σ x - x, times the cell's weight."""
    for number in prange(n_blocks):
        first, last = block_range(number, block, nll_n.shape[0])
        for n in range(first, last):
            gene, count = column[start_n[n] : stop_n[n]], value[start_n[n] : stop_n[n]]
            size, weight = library_size_n[n], weight_n[n]
            nll_n[n] = _poisson_cell(logit_ng[n], gene, count, size, weight, sum_bias_pg[number])


@inline_jit(fastmath=FAST)
def count_terms(gene, count, exp_g, r_g, scale, ratio, grad):
    """Return Σ x log(1 + r/m) over a cell's counts above 0; `grad` becomes x r / (r + m), each count's part of the gradient in log m."""
    one, n_counts = exp_g.dtype.type(1), gene.shape[0]
    for i in range(n_counts):  # gathered first: what follows is then a vector loop
        g = np.uint64(gene[i])
        ratio[i] = r_g[g] / (exp_g[g] * scale)
    loss = exp_g.dtype.type(0)
    for i in range(n_counts):
        x = one * count[i]
        loss += x * log1p(ratio[i])
        grad[i] = x * ratio[i] / (one + ratio[i])
    return loss


@inline_jit(fastmath=FAST)
def coefficient_terms(gene, count, grad, r_g, table_kg, table_grad_kg, weight, sum_log_r_g):
    """Return Σ `nb_log_coefficient` and the sum of the counts' gradients in log m; add those in log r."""
    log_coefficients, grad_sum = 0.0, 0.0
    for i in range(gene.shape[0]):
        g, x = np.uint64(gene[i]), count[i]
        k = int(x)
        if k < table_kg.shape[0] and k == x:
            log_coefficient, grad_r = table_kg[np.uint64(k), g], table_grad_kg[np.uint64(k), g]
        else:
            log_coefficient, grad_r = nb_log_coefficient(float(x), float(r_g[g]))
        log_coefficients += log_coefficient
        grad_sum -= grad[i]
        sum_log_r_g[g] += weight * (grad[i] - r_g[g] * grad_r)
    return log_coefficients, grad_sum


@inline_jit(fastmath=FAST)
def _nb_zero_terms(exp_g, r_g, inverse_g, scale, weight, grad_g, sum_log_r_g):
    """Return Σ r log(1 + m/r) over all genes and Σ of its gradients in log m, which `grad_g` becomes; add those in log r."""
    one = r_g.dtype.type(1)
    loss, grad_sum = r_g.dtype.type(0), r_g.dtype.type(0)
    for g in range(exp_g.shape[0]):
        r = r_g[g]
        m = exp_g[g] * scale
        t = m * inverse_g[g]
        q = one / (one + t)
        lp = log1p(t)
        loss += r * lp
        grad_g[g] = m * q
        grad_sum += m * q
        sum_log_r_g[g] += weight * r * (lp - t * q)
    return loss, grad_sum


@parallel_jit()
def negative_binomial(
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
    logit_ng,
    nll_n,
    sum_bias_pg,
    sum_log_r_pbg,
):
    """The same for the negative binomial: r (m - x) / (r + m) is the gradient in the log of the mean m."""
    for number in prange(n_blocks):
        first, last = block_range(number, block, nll_n.shape[0])
        grad_g, count_grad, ratio = scratch_png[number, 0], scratch_png[number, 1], scratch_png[number, 2]
        for n in range(first, last):
            b, weight, exp_g = batch_n[n], weight_n[n], logit_ng[n]
            r_g, sum_log_r_g = r_bg[b], sum_log_r_pbg[number, b]
            gene, count = column[start_n[n] : stop_n[n]], value[start_n[n] : stop_n[n]]
            total = softmax_unnormalized(exp_g)
            scale = library_size_n[n] / total
            loss = float(count_terms(gene, count, exp_g, r_g, scale, ratio, count_grad))
            log_coefficients, count_sum = coefficient_terms(
                gene, count, count_grad, r_g, table_bkg[b], table_grad_bkg[b], weight, sum_log_r_g
            )
            zero_loss, zero_sum = _nb_zero_terms(
                exp_g, r_g, inverse_bg[b], scale, weight, grad_g, sum_log_r_g
            )
            nll_n[n] = zero_loss + (loss - log_coefficients)
            subtract_at(grad_g, gene, count_grad)
            fraction = logit_ng.dtype.type((zero_sum + count_sum) / total)
            softmax_backward(exp_g, grad_g, fraction, weight, sum_bias_pg[number])
