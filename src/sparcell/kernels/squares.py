"""Squared distance between sparse cells and a linear head, without the n × g matrix between them.

Σ_g (W h + b - x)² = hᵀ(WᵀW)h + 2 h·(Wᵀb - Wᵀx) + |b|² - 2 b·x + |x|²: products with the cells are sparse, and WᵀW is small. It takes
4 g h² operations a step where the plain formula takes 6 n g h, so it pays where a step has more cells than the layer has units.
Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.autograd import Function

from sparcell.kernels import sparse_loops, team
from sparcell.kernels.linear import CELLS, arrays
from sparcell.kernels.products import product, rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.contracts import SparseRows


GENES = 1024
"""Genes of a block: their weights fit the cache of a core."""
MOST_SUMS = 2**23
"""Numbers that all blocks together may add up; with very many cells blocks are larger."""


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
        gram_hh, pull_h, pulled_nh, of_x_n = _without_code(cells, weight_gh.detach(), bias_g.detach())
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


def _without_code(
    cells: SparseRows, weight_gh: Tensor, bias_g: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """WᵀW, Wᵀb, x W (n, h) and |x|² - 2 x·b (n,): all that can be had before h, in one pass over W."""
    (n_genes, n_hidden), n_cells = weight_gh.shape, cells.shape[0]
    genes = max(GENES, -(-n_genes * n_cells * n_hidden // MOST_SUMS))
    n_blocks = -(-n_genes // genes)
    gram_bhh = weight_gh.new_empty((n_blocks, n_hidden, n_hidden))
    sums = [
        weight_gh.new_zeros((n_blocks, *shape)) for shape in ((n_cells, n_hidden), (n_hidden,), (n_cells,))
    ]
    by_gene, weight, bias = arrays(cells.by_gene), weight_gh.numpy(), bias_g.numpy()
    start_bn = _starts_of_blocks(cells, genes, n_blocks)

    def work(first: int, last: int) -> None:
        part_hg, b = weight_gh[first:last].t(), first // genes
        gram_bhh[b] = product(part_hg, part_hg)
        pulled_nh, *own = (part[b].numpy() for part in sums)
        of_block = start_bn[b], start_bn[b + 1], cells.matrix.indices, cells.matrix.data
        sparse_loops.add_rows_times(0, n_cells, of_block, weight, pulled_nh)
        sparse_loops.add_pulls(first, last, by_gene, (weight, bias), tuple(own))

    team.over(n_genes, genes, work)
    pulled_nh, pull_h, of_x_n = (part.sum(dim=0) for part in sums)
    return gram_bhh.sum(dim=0), pull_h, pulled_nh, of_x_n


def _starts_of_blocks(cells: SparseRows, genes: int, n_blocks: int) -> NDArray[np.integer]:
    """Where each block of genes begins in each cell's values."""
    x_ng = cells.matrix
    start_bn = np.empty((n_blocks + 1, cells.shape[0]), x_ng.indptr.dtype)
    given = x_ng.indptr, x_ng.indices, genes, start_bn
    team.over(
        len(x_ng.indptr) - 1, CELLS, lambda first, last: sparse_loops.starts_of_blocks(first, last, *given)
    )
    return start_bn


def _head_slopes(
    cells: SparseRows, h_nh: Tensor, twice_n1: Tensor, weight_gh: Tensor, bias_g: Tensor
) -> tuple[Tensor, Tensor]:
    """Slopes of the weighed squares in W and b: W Σ w hhᵀ + b Σ w hᵀ - xᵀ w h, and W Σ w h + b Σ w - xᵀ w, each w doubled."""
    weighed_nh = twice_n1 * h_nh
    weighed_hh = product(weighed_nh.t(), h_nh.t())
    slopes = torch.empty_like(weight_gh), torch.empty_like(bias_g)
    by_gene, head = arrays(cells.by_gene), (weight_gh.numpy(), bias_g.numpy())
    twice_n = twice_n1.squeeze(1).contiguous()
    given = twice_n, -weighed_nh, weighed_nh.sum(dim=0), twice_n.sum()
    weighed, into = tuple(part.numpy() for part in given), tuple(part.numpy() for part in slopes)

    def work(first: int, last: int) -> None:
        given_gh = product(weight_gh[first:last], weighed_hh).numpy()
        sparse_loops.head_slopes(first, last, by_gene, head, weighed, (given_gh, *into))

    team.over(len(weight_gh), GENES, work)
    return slopes


class _PlainSquaredDistance(Function):
    """The plain formula, with one n × g matrix for all of it."""

    @staticmethod
    def forward(ctx: Any, cells: SparseRows, h_nh: Tensor, weight_gh: Tensor, bias_g: Tensor) -> Tensor:
        ctx.bfloat16 = rounded()
        residual_ng = product(h_nh, weight_gh, bias_g, bfloat16=ctx.bfloat16)
        given = arrays(cells.matrix), residual_ng.numpy()
        team.over(len(h_nh), CELLS, lambda first, last: sparse_loops.subtract(first, last, *given))
        ctx.save_for_backward(h_nh, weight_gh, residual_ng)
        square_n: Tensor = torch.linalg.vector_norm(residual_ng, dim=1).square()
        return square_n

    @staticmethod
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
