"""Negative binomials, plain and zero-inflated, on a GPU: Triton kernels that work on tiles of cells × genes.

This file needs Triton, which comes with torch's builds for CUDA. Everything is float32. Logarithms of 1 + t and of gamma functions are
written out here so that their error is known: the GPU's own approximations lose the digits of small results. Suffixes: n cells, g genes.
"""

from __future__ import annotations

import triton
import triton.language as tl

ROWS, COLUMNS = tl.constexpr(16), tl.constexpr(64)
"""Cells and genes of a tile."""
WIDTH = tl.constexpr(1024)
"""Genes that a program reads at once where it has a cell of its own."""


@triton.jit
def _log1p(t: tl.tensor) -> tl.tensor:
    """log(1 + t) for t from 0 to 1: 2 artanh(t / (2 + t)), as a series (Abramowitz & Stegun 4.1.27)."""
    s = t / (2.0 + t)
    q = s * s
    series = 1 / 11 + q * (1 / 13 + q * (1 / 15))
    series = 1 / 5 + q * (1 / 7 + q * (1 / 9 + q * series))
    return 2.0 * s * (1.0 + q * (1 / 3 + q * series))


@triton.jit
def log1p(t: tl.tensor) -> tl.tensor:
    """log(1 + t) for t of at least 0: above 1 it is log t + log(1 + 1/t)."""
    return _log1p(tl.minimum(t, 1.0 / t)) + tl.log(tl.maximum(t, 1.0))


@triton.jit
def gamma_terms(z: tl.tensor) -> tl.tuple:
    """What log Gamma(z) and its derivative have beyond Stirling's formula: log Gamma(z) - (z - ½) log z + z - ½ log 2π, and ψ(z) - log z.

    The series at z + 4 (Abramowitz & Stegun 6.1.41, 6.3.18), taken back by Gamma(z + 1) = z Gamma(z). That a ratio of gamma functions is
    best put together from such terms is Loader's (2000, Fast and accurate computation of binomial probabilities).
    """
    y = z + 4.0
    i = 1.0 / y
    q = i * i
    beyond = i * (1 / 12 - q * (1 / 360 - q * (1 / 1260 - q * (1 / 1680))))
    grad = -0.5 * i - q * (1 / 12 - q * (1 / 120 - q * (1 / 252 - q * (1 / 240))))
    far = log1p(4.0 / z)
    between = tl.log((1.0 + 1.0 / z) * (1.0 + 2.0 / z)) + tl.log(1.0 + 3.0 / z)
    steps = 1.0 / z + 1.0 / (z + 1.0) + 1.0 / (z + 2.0) + 1.0 / (z + 3.0)
    return beyond + ((y - 0.5) * far - 4.0) - between, grad + (far - steps)


@triton.jit
def _counted(x: tl.tensor, r: tl.tensor) -> tl.tuple:
    """-log of Gamma(x + r) / (Gamma(r) x!), and ψ(x + r) - ψ(r), for x above 0; neither is a difference of large numbers."""
    beyond_z, grad_z = gamma_terms(x + r)
    beyond_r, grad_r = gamma_terms(r)
    beyond_x, _ = gamma_terms(x)
    grown = log1p(x / r)
    cost = beyond_x + beyond_r - beyond_z - (r - 0.5) * grown - x * log1p(r / x)
    return cost + 0.5 * tl.log(6.283185307179586 * x), grown + (grad_z - grad_r)


@triton.jit
def _terms(
    log_m: tl.tensor, log_r: tl.tensor, x: tl.tensor, drop: tl.tensor, DROPS: tl.constexpr
) -> tl.tuple:
    """-log p of counts, and its gradients in log m, log r and the logit of a drop.

    d = log m - log r, s = -r log(1 + m/r) is log P(0) of the negative binomial; a zero came from it with probability sigmoid(s - drop).
    """
    r = tl.exp(log_r)
    d = log_m - log_r
    t = tl.exp(-tl.abs(d))
    soft = _log1p(t)
    fraction = tl.where(d > 0, 1.0, t) / (1.0 + t)  # m / (r + m)
    rest = tl.where(d > 0, t, 1.0) / (1.0 + t)
    above = tl.maximum(d, 0.0) + soft
    positive = x > 0
    k = tl.where(positive, x, 1.0)
    cost, grown = _counted(k, r)
    cost = tl.where(positive, cost + k * (tl.maximum(-d, 0.0) + soft), 0.0)
    of_x = tl.where(positive, k * rest, 0.0)
    of_r = tl.where(positive, k * rest - r * grown, 0.0)
    loss = r * above
    counted = 1.0
    grad_drop = 0.0
    if DROPS:
        a = -loss - drop
        e = tl.exp(-tl.abs(a))
        e_drop = tl.exp(-tl.abs(drop))
        soft_drop = tl.maximum(drop, 0.0) + _log1p(e_drop)
        dropped = tl.where(positive, 0.0, tl.where(a > 0, e, 1.0) / (1.0 + e))
        counted = 1.0 - dropped
        grad_drop = tl.where(drop > 0, 1.0, e_drop) / (1.0 + e_drop) - dropped
        loss = soft_drop + tl.where(positive, loss, -tl.maximum(drop, -loss) - _log1p(e))
    return loss + cost, counted * r * fraction - of_x, counted * r * (above - fraction) + of_r, grad_drop


@triton.jit
def _tile(shape: tl.tuple) -> tl.tuple:
    """Cells and genes of this program's tile, where they lie in a matrix, and which of them there are."""
    n_cells, n_genes = shape
    n = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    g = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    return n, g, n[:, None] * n_genes + g[None, :], (n[:, None] < n_cells) & (g[None, :] < n_genes)


@triton.jit
def _of_tile(inputs: tl.tuple, tile: tl.tuple, step: tl.tensor, DROPS: tl.constexpr) -> tl.tuple:
    """Load a tile and evaluate it; `step` is what rows of log r lie apart, 0 where all cells share one."""
    logit_ng, drop_ng, x_ng, shift_n, log_r = inputs
    n, g, at, there = tile
    inside = tl.sum(there.to(tl.int32), axis=1) > 0
    log_m = (
        tl.load(logit_ng + at, mask=there, other=0.0) + tl.load(shift_n + n, mask=inside, other=0.0)[:, None]
    )
    of_gene = tl.load(log_r + n[:, None] * step + g[None, :], mask=there, other=0.0)
    x = tl.load(x_ng + at, mask=there, other=0.0)
    drop = tl.load(drop_ng + at, mask=there, other=0.0) if DROPS else 0.0
    return log_m, inside, _terms(log_m, of_gene, x, drop, DROPS)


@triton.jit
def log_sum_exp(logit_ng: tl.tensor, log_sum_n: tl.tensor, n_genes: tl.tensor) -> None:
    """log Σ exp of each row; a program a cell."""
    row = logit_ng + tl.program_id(0).to(tl.int64) * n_genes
    g = tl.arange(0, WIDTH)
    largest = tl.full((WIDTH,), float("-inf"), tl.float32)
    for first in range(0, n_genes, WIDTH):
        there = first + g < n_genes
        largest = tl.maximum(largest, tl.load(row + first + g, mask=there, other=float("-inf")))
    most = tl.max(largest, axis=0)
    total = tl.zeros((WIDTH,), tl.float32)
    for first in range(0, n_genes, WIDTH):
        there = first + g < n_genes
        total += tl.exp(tl.load(row + first + g, mask=there, other=float("-inf")) - most)
    tl.store(log_sum_n + tl.program_id(0), most + tl.log(tl.sum(total, axis=0)))


@triton.jit
def losses(
    inputs: tl.tuple, outputs: tl.tuple, shape: tl.tuple, step: tl.tensor, DROPS: tl.constexpr
) -> None:
    """-log p of each cell and its gradient in the logarithm of the size, summed over the genes of a tile: (n, tiles) each."""
    loss, grad = outputs
    tile = _tile(shape)
    n, _, _, there = tile
    _, inside, terms = _of_tile(inputs, tile, step, DROPS)
    at = n * tl.num_programs(1) + tl.program_id(1)
    tl.store(loss + at, tl.sum(tl.where(there, terms[0], 0.0), axis=1), mask=inside)
    tl.store(grad + at, tl.sum(tl.where(there, terms[1], 0.0), axis=1), mask=inside)


@triton.jit
def grads(
    inputs: tl.tuple,
    weighing: tl.tuple,
    grad_r: tl.tensor,
    shape: tl.tuple,
    step: tl.tensor,
    DROPS: tl.constexpr,
) -> None:
    """Overwrite the logits by the gradients of the weighed loss in them; those in log r go to `grad_r`.

    There they are summed over the cells of a tile, (tiles, g), where all cells share one log r, else they are (n, g). `weighing` has for
    each cell the weight of its loss, and its gradient in the logarithm of the size over the size.
    """
    logit_ng, drop_ng, _, _, _ = inputs
    weight_n, pull_n = weighing
    tile = _tile(shape)
    n, g, at, there = tile
    log_m, inside, terms = _of_tile(inputs, tile, step, DROPS)
    weight = tl.load(weight_n + n, mask=inside, other=0.0)[:, None]
    pull = tl.load(pull_n + n, mask=inside, other=0.0)[:, None]
    tl.store(logit_ng + at, weight * (terms[1] - tl.exp(log_m) * pull), mask=there)
    if DROPS:
        tl.store(drop_ng + at, weight * terms[3], mask=there)
    of_r = tl.where(there, weight * terms[2], 0.0)
    if step > 0:
        tl.store(grad_r + at, of_r, mask=there)
    else:
        tl.store(grad_r + tl.program_id(0) * shape[1] + g, tl.sum(of_r, axis=0), mask=g < shape[1])
