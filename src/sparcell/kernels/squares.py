"""Squared distance between sparse cells and a linear head, without the n × g matrix between them.

Σ_g (W h + b - x)² = hᵀ(WᵀW)h + 2 h·(Wᵀb - Wᵀx) + |b|² - 2 b·x + |x|²: products with the cells are sparse, and WᵀW is small. It takes
4 g h² operations a step where the plain formula takes 6 n g h, so it pays where a step has more cells than the layer has units. The whole
fast path with it makes an epoch of the 2019 study's models 3.2 to 3.6 times faster (AMD EPYC, 2 cores, AVX-512, 2026-11-28).
Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.autograd import Function

from sparcell.kernels import square_loops
from sparcell.kernels.linear import BLOCK_CELLS, csr_matmul, genes_of_block, rows_of
from sparcell.kernels.products import product
from sparcell.kernels.threads import parallel_for

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import SparseRows


MAX_SUMS = 2**23
"""Most numbers of the partial sums of all blocks; blocks are larger for many hidden units."""


class _SquaredDistance(Function):
    """The square expanded, always in float32: small differences of large numbers bear no rounding.

    By blocks of genes that fit the cache: the gradient of the weights is written once.
    """

    @staticmethod
    def forward(ctx: Any, cells: SparseRows, h_nh: Tensor, weight_gh: Tensor, bias_g: Tensor) -> Tensor:
        ctx.cells = cells
        gram_hh, pull_h = _gram(weight_gh.detach().contiguous(), bias_g.detach())
        pulled_nh = csr_matmul(cells, weight_gh)
        half_nh = product(h_nh, gram_hh) + pull_h - pulled_nh  # half the gradient of h
        ctx.save_for_backward(h_nh, weight_gh, bias_g, half_nh)
        constant_n = _constant_terms(cells, bias_g.detach()) + bias_g.square().sum()
        distance_n: Tensor = (h_nh * (half_nh + pull_h - pulled_nh)).sum(dim=1) + constant_n
        return distance_n

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        twice_n1 = 2 * upstream[0][:, None]
        h_nh, weight_gh, bias_g, half_nh = ctx.saved_tensors
        grads = _head_grads(ctx.cells, h_nh, twice_n1, weight_gh.detach().contiguous(), bias_g.detach())
        return None, twice_n1 * half_nh, *grads


def _genes_of_block(n_genes: int, n_hidden: int) -> int:
    return max(genes_of_block(n_hidden), -(-n_genes * n_hidden**2 // MAX_SUMS))


def _gram(weight_gh: Tensor, bias_g: Tensor) -> tuple[Tensor, Tensor]:
    """Return WᵀW and Wᵀb."""
    n_genes, n_hidden = weight_gh.shape
    block = _genes_of_block(n_genes, n_hidden)
    n_blocks = -(-n_genes // block)
    gram_phh = weight_gh.new_zeros((n_blocks, n_hidden, n_hidden))
    pull_ph = weight_gh.new_zeros((n_blocks, n_hidden))
    arrays = (x.numpy() for x in (weight_gh, bias_g, gram_phh, pull_ph))
    parallel_for(square_loops.gram, n_blocks, block, *arrays)
    lower_hh = gram_phh.sum(dim=0).tril_()
    return lower_hh + lower_hh.tril(-1).t(), pull_ph.sum(dim=0)


def _constant_terms(cells: SparseRows, bias_g: Tensor) -> Tensor:
    """Return |x|² - 2 x·b of each cell, (n,)."""
    terms_n = bias_g.new_empty(cells.shape[0])
    n_blocks = -(-len(terms_n) // BLOCK_CELLS)
    arrays = (*rows_of(cells), bias_g.numpy(), terms_n.numpy())
    parallel_for(square_loops.square_minus_twice, n_blocks, BLOCK_CELLS, *arrays)
    return terms_n


def _head_grads(
    cells: SparseRows, h_nh: Tensor, twice_n1: Tensor, weight_gh: Tensor, bias_g: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the weighted squares in W and b, W Σ w hhᵀ + b Σ w hᵀ - xᵀ w h and W Σ w h + b Σ w - xᵀ w, with 2 w for w."""
    weighted_nh = twice_n1 * h_nh
    sums = -weighted_nh, weighted_nh.sum(dim=0), twice_n1.squeeze(1).contiguous()
    grads = product(weight_gh, product(h_nh.t(), weighted_nh.t())), torch.empty_like(bias_g)
    block = genes_of_block(weight_gh.shape[1])
    parallel_for(
        square_loops.head_grads,
        -(-len(weight_gh) // block),
        block,
        *rows_of(cells),
        *(x.numpy() for x in (weight_gh, bias_g, *sums)),
        twice_n1.sum().numpy()[()],
        *(x.numpy() for x in grads),
    )
    return grads


def squared_distance(h_nh: Tensor, head: torch.nn.Linear, cells: SparseRows) -> Tensor | None:
    """Return Σ_g (W h + b - x)² of each cell, (n,); None where the plain formula takes fewer operations."""
    if 2 * head.in_features >= 3 * len(h_nh):
        return None
    return cast("Tensor", _SquaredDistance.apply(cells, h_nh, head.weight, head.bias))  # type: ignore[no-untyped-call]
