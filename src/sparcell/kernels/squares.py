"""Squared distance between sparse cells and a linear head, without the n × g matrix between them.

Σ_g (W h + b - x)² = hᵀ(WᵀW)h + 2 h·(Wᵀb - Wᵀx) + |b|² - 2 b·x + |x|²: products with the cells are sparse, and WᵀW is small. It takes
4 g h² operations a step where the plain formula takes 6 n g h, so it pays where a step has more cells than the layer has units.
Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.autograd import Function

from sparcell.kernels import sparse_loops, team
from sparcell.kernels.linear import CELLS, GENES, rows_times
from sparcell.kernels.products import product, rounded

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.contracts import SparseRows


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
        gram_hh, pull_h = _own_products(weight_gh.detach(), bias_g.detach())
        pulled_nh, of_x_n = _pulled(cells, weight_gh.detach(), bias_g.detach())
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


def _own_products(weight_gh: Tensor, bias_g: Tensor) -> tuple[Tensor, Tensor]:
    """WᵀW and Wᵀb."""
    n_genes, n_hidden = weight_gh.shape
    gram_bhh = weight_gh.new_empty((-(-n_genes // GENES), n_hidden, n_hidden))
    pull_bh = weight_gh.new_empty(gram_bhh.shape[:2])

    def work(first: int, last: int) -> None:
        part_hg = weight_gh[first:last].t()
        gram_bhh[first // GENES] = product(part_hg, part_hg)
        torch.mv(part_hg, bias_g[first:last], out=pull_bh[first // GENES])

    team.over(n_genes, GENES, work)
    return gram_bhh.sum(dim=0), pull_bh.sum(dim=0)


def _pulled(cells: SparseRows, weight_gh: Tensor, bias_g: Tensor) -> tuple[Tensor, Tensor]:
    """x W, (n, h), and |x|² - 2 x b, (n,)."""
    x_ng, n_cells = cells.matrix, cells.shape[0]
    dot_n, square_n = weight_gh.new_empty((2, n_cells))
    pulled_nh = rows_times(
        cells,
        weight_gh,
        lambda: sparse_loops.row_dots(
            0, n_cells, x_ng.indptr, x_ng.indices, x_ng.data, bias_g.numpy(), dot_n.numpy()
        ),
        lambda: sparse_loops.row_squares(0, n_cells, x_ng.indptr, x_ng.data, square_n.numpy()),
    )
    return pulled_nh, square_n - 2 * dot_n


def _head_slopes(
    cells: SparseRows, h_nh: Tensor, twice_n1: Tensor, weight_gh: Tensor, bias_g: Tensor
) -> tuple[Tensor, Tensor]:
    """Slopes of the weighed squares in W and b: W Σ w hhᵀ + b Σ w hᵀ - xᵀ w h, and W Σ w h + b Σ w - xᵀ w, each w doubled."""
    weighed_nh = twice_n1 * h_nh
    weighed_hh, weighed_h, weighed = product(weighed_nh.t(), h_nh.t()), weighed_nh.sum(dim=0), twice_n1.sum()
    weight_slope_gh, bias_slope_g = torch.empty_like(weight_gh), torch.empty_like(bias_g)
    pulled_g = torch.empty_like(bias_g)
    x_gn = cells.by_gene
    sparse = x_gn.indptr, x_gn.indices, x_gn.data
    minus, twice_n = (-weighed_nh).numpy(), twice_n1.squeeze(1).contiguous().numpy()

    def work(first: int, last: int) -> None:
        some_gh, some_g = weight_gh[first:last], bias_g[first:last]
        weight_slope_gh[first:last] = product(some_gh, weighed_hh).addr_(some_g, weighed_h)
        sparse_loops.add_rows_times(first, last, *sparse, minus, weight_slope_gh.numpy())
        sparse_loops.row_dots(first, last, *sparse, twice_n, pulled_g.numpy())
        bias_slope_g[first:last] = some_gh @ weighed_h + some_g * weighed - pulled_g[first:last]

    team.over(len(weight_gh), GENES, work)
    return weight_slope_gh, bias_slope_g


class _PlainSquaredDistance(Function):
    """The plain formula, with one n × g matrix for all of it."""

    @staticmethod
    def forward(ctx: Any, cells: SparseRows, h_nh: Tensor, weight_gh: Tensor, bias_g: Tensor) -> Tensor:
        ctx.bfloat16 = rounded()
        residual_ng = product(h_nh, weight_gh, bias_g, bfloat16=ctx.bfloat16)
        x_ng = cells.matrix
        given = (x_ng.indptr, x_ng.indices, x_ng.data, residual_ng.numpy())
        team.over(len(h_nh), CELLS, lambda first, last: sparse_loops.subtract(first, last, *given))
        ctx.save_for_backward(h_nh, weight_gh, residual_ng)
        square_n: Tensor = torch.linalg.vector_norm(residual_ng, dim=1).square()
        return square_n

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        twice_n1 = 2 * upstream[0][:, None]
        h_nh, weight_gh, residual_ng = ctx.saved_tensors
        h_slope_nh = twice_n1 * product(residual_ng, weight_gh.t(), bfloat16=ctx.bfloat16)
        weight_slope_hg = product((twice_n1 * h_nh).t(), residual_ng.t(), bfloat16=ctx.bfloat16)
        return None, h_slope_nh, weight_slope_hg.t(), residual_ng.t() @ twice_n1[:, 0]


def squared_distance(h_nh: Tensor, head: torch.nn.Linear, cells: SparseRows) -> Tensor:
    """Σ_g (W h + b - x)² of each cell, (n,)."""
    chosen: type[Function] = _SquaredDistance if pays(*h_nh.shape) else _PlainSquaredDistance
    return cast("Tensor", chosen.apply(cells, h_nh, head.weight, head.bias))  # type: ignore[no-untyped-call]
