"""Squared distance between sparse cells and a linear head, without the n × g matrix between them.

Σ_g (W h + b - x)² = hᵀ(WᵀW)h + 2 h·(Wᵀb - Wᵀx) + |b|² - 2 b·x + |x|²: products with the cells are sparse, and WᵀW is small. It takes
4 g h² operations a step where the plain formula takes 6 n g h, so it pays where a step has more cells than the layer has units.
Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.autograd import Function

from sparcell.kernels import sparse_loops, square_loops, team
from sparcell.kernels.awake import together
from sparcell.kernels.linear import CELLS, genes_of_block, rows_of, rows_times
from sparcell.kernels.products import product, rounded

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import SparseRows


MOST_SUMS = 2**23
"""Numbers that all blocks together may add up; with very many cells blocks are larger."""
GAP = 16
"""Numbers between the rows of a matrix that is read by columns: of rows a power of two apart a cache holds a few only."""


def pays(n_cells: int, n_hidden: int) -> bool:
    """Whether the expanded square takes fewer operations than the plain one."""
    return 2 * n_hidden < 3 * n_cells


class _SquaredDistance(Function):
    """The square expanded, always in float32: small differences of large numbers bear no rounding.

    By blocks of genes or of cells that fit the cache: the slope of the weights is written once.
    """

    @staticmethod
    def forward(ctx: Any, cells: SparseRows, h_nh: Tensor, weight_gh: Tensor, bias_g: Tensor) -> Tensor:
        ctx.cells = cells
        gram_hh, pull_h, pulled_nh, of_x_n = _without_code(
            cells, weight_gh.detach().contiguous(), bias_g.detach()
        )
        half_nh = product(h_nh, gram_hh) + pull_h - pulled_nh  # half the slope in h
        ctx.save_for_backward(h_nh, weight_gh, bias_g, half_nh)
        distance_n: Tensor = (
            (h_nh * (half_nh + pull_h - pulled_nh)).sum(dim=1) + of_x_n + bias_g.square().sum()
        )
        return distance_n

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        twice_n1 = 2 * upstream[0][:, None]
        h_nh, weight_gh, bias_g, half_nh = ctx.saved_tensors
        slopes = _head_slopes(ctx.cells, h_nh, twice_n1, weight_gh.detach(), bias_g.detach())
        return None, twice_n1 * half_nh, *slopes


@together
def _without_code(
    cells: SparseRows, weight_gh: Tensor, bias_g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """WᵀW, Wᵀb, x W (n, h) and |x|² - 2 x·b (n,): all that can be had before h."""
    (n_genes, n_hidden), n_cells = weight_gh.shape, cells.shape[0]
    genes = max(genes_of_block(n_hidden), -(-n_genes * n_hidden**2 // MOST_SUMS))
    n_blocks = -(-n_genes // genes)
    gram_bhh = weight_gh.new_empty((n_blocks, n_hidden, n_hidden))
    pull_bh, of_x_n = weight_gh.new_empty((n_blocks, n_hidden)), weight_gh.new_empty(n_cells)
    head, sums = (weight_gh.numpy(), bias_g.numpy()), (gram_bhh.numpy(), pull_bh.numpy())
    share = square_loops.share_without_code
    team.share(share, n_blocks + 1, genes, rows_of(cells), head, of_x_n.numpy(), sums)
    lower_hh = gram_bhh.sum(dim=0).tril_()
    gram_hh = lower_hh + lower_hh.tril(-1).t()
    return gram_hh, pull_bh.sum(dim=0), rows_times(cells, weight_gh), of_x_n


def _head_slopes(
    cells: SparseRows, h_nh: Tensor, twice_n1: Tensor, weight_gh: Tensor, bias_g: Tensor
) -> tuple[Tensor, Tensor]:
    """Slopes of the weighed squares in W and b: W Σ w hhᵀ + b Σ w hᵀ - xᵀ w h, and W Σ w h + b Σ w - xᵀ w, each w doubled."""
    weighed_nh = twice_n1 * h_nh
    n_genes, n_hidden = weight_gh.shape
    weighed_hh = torch.nn.functional.pad(product(weighed_nh.t(), h_nh.t()), (0, GAP))
    twice_n = twice_n1.squeeze(1).contiguous()
    given = weighed_hh, -weighed_nh, weighed_nh.sum(dim=0), twice_n, twice_n.sum()
    slopes = torch.empty_like(weight_gh), torch.empty_like(bias_g)
    head, weighed, into = (tuple(x.numpy() for x in part) for part in ((weight_gh, bias_g), given, slopes))
    block = genes_of_block(n_hidden)
    share = square_loops.share_head_slopes
    team.share(share, -(-n_genes // block), block, rows_of(cells), head, weighed, into)
    return slopes


class _PlainSquaredDistance(Function):
    """The plain formula, with one n × g matrix for all of it."""

    @staticmethod
    @together
    def forward(ctx: Any, cells: SparseRows, h_nh: Tensor, weight_gh: Tensor, bias_g: Tensor) -> Tensor:
        ctx.bfloat16 = rounded()
        residual_ng = product(h_nh, weight_gh, bias_g, bfloat16=ctx.bfloat16)
        n_blocks = -(-len(h_nh) // CELLS)
        team.share(sparse_loops.share_subtract, n_blocks, CELLS, rows_of(cells), residual_ng.numpy())
        ctx.save_for_backward(h_nh, weight_gh, residual_ng)
        square_n: Tensor = torch.linalg.vector_norm(residual_ng, dim=1).square()
        return square_n

    @staticmethod
    @together
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        twice_n1 = 2 * upstream[0][:, None]
        h_nh, weight_gh, residual_ng = ctx.saved_tensors
        h_slope_nh = twice_n1 * product(residual_ng, weight_gh.t(), bfloat16=ctx.bfloat16)
        weight_slope_gh = product(residual_ng.t(), (twice_n1 * h_nh).t(), bfloat16=ctx.bfloat16)
        return None, h_slope_nh, weight_slope_gh, residual_ng.t() @ twice_n1[:, 0]


def squared_distance(h_nh: Tensor, head: torch.nn.Linear, cells: SparseRows) -> Tensor:
    """Σ_g (W h + b - x)² of each cell, (n,)."""
    chosen: type[Function] = _SquaredDistance if pays(*h_nh.shape) else _PlainSquaredDistance
    return cast("Tensor", chosen.apply(cells, h_nh, head.weight, head.bias))  # type: ignore[no-untyped-call]
