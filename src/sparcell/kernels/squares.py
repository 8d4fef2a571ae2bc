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
from sparcell.kernels.linear import CELLS, columns_times, rows_times
from sparcell.kernels.products import product, rounded

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.contracts import SparseRows


def pays(n_cells: int, n_hidden: int) -> bool:
    """Whether the expanded square takes fewer operations than the plain one."""
    return 2 * n_hidden < 3 * n_cells


class _SquaredDistance(Function):
    """The square expanded, always in float32: small differences of large numbers bear no rounding."""

    @staticmethod
    def forward(ctx: Any, cells: SparseRows, h_nh: Tensor, weight_gh: Tensor, bias_g: Tensor) -> Tensor:
        gram_hh = product(weight_gh.t(), weight_gh.t())
        pull_h, pulled_nh = weight_gh.t() @ bias_g, rows_times(cells, weight_gh)
        half_nh = product(h_nh, gram_hh) + pull_h - pulled_nh  # half the slope in h
        x_ng, sums_n2 = cells.matrix, torch.empty((len(h_nh), 2), dtype=h_nh.dtype)
        sparse_loops.row_sums(x_ng.indptr, x_ng.indices, x_ng.data, bias_g.numpy(), sums_n2.numpy())
        ctx.cells = cells
        ctx.save_for_backward(h_nh, weight_gh, bias_g, half_nh)
        constant_n = bias_g.square().sum() - 2 * sums_n2[:, 0] + sums_n2[:, 1]
        return (h_nh * (half_nh + pull_h - pulled_nh)).sum(dim=1) + constant_n

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        twice_n1 = 2 * upstream[0][:, None]
        h_nh, weight_gh, bias_g, half_nh = ctx.saved_tensors
        weighed_nh = twice_n1 * h_nh
        weighed_h = weighed_nh.sum(dim=0)
        weight_slope_gh = product(weight_gh, product(weighed_nh.t(), h_nh.t())).addr_(bias_g, weighed_h)
        columns_times(ctx.cells, -weighed_nh, weight_slope_gh)
        pulled_g = torch.from_numpy(ctx.cells.by_gene.T @ twice_n1.squeeze(1).numpy())
        bias_slope_g = weight_gh @ weighed_h + bias_g * twice_n1.sum() - pulled_g
        return None, twice_n1 * half_nh, weight_slope_gh, bias_slope_g


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
