"""Linear layers: over sparse cells, and between hidden units.

Suffixes: n cells, g genes, h hidden units; i, o units before and after a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd import Function

from sparcell.kernels import sparse_loops, team
from sparcell.kernels.awake import together
from sparcell.kernels.products import fast, product
from sparcell.protocols import SparseRows, SparseRowsPlusDelta

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


CELLS = 32
"""Cells of a block."""
MAX_CELLS = 128
"""Cells of a block that reads all weights, at most."""
WEIGHTS = 2**17
"""Weights of a block of genes: they fit the cache of a core."""
MANY = 2**23
"""Multiplications from which on a product by oneDNN is worth a function of our own."""


class _Dense(Function):
    @staticmethod
    def forward(ctx: Any, x_ni: Tensor, weight_oi: Tensor, bias_o: Tensor) -> Tensor:
        ctx.save_for_backward(x_ni, weight_oi)
        return product(x_ni, weight_oi, bias_o)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        (slope_no,), (x_ni, weight_oi) = slopes, ctx.saved_tensors
        of_x = product(slope_no, weight_oi.t()) if ctx.needs_input_grad[0] else None
        return of_x, product(slope_no.t(), x_ni.t()), slope_no.sum(dim=0)


class Linear(torch.nn.Linear):
    """Torch's, with its three products in a step by `kernels.product` where they are large."""

    def forward(self, input: Tensor) -> Tensor:
        """x Wᵀ + b, (n, o)."""
        large = input.dim() == 2 and len(input) * self.weight.numel() >= MANY
        if not (large and fast(input) and torch.is_grad_enabled()):
            return super().forward(input)
        out_no: Tensor = _Dense.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return out_no


class _Sparse(Function):
    @staticmethod
    def forward(ctx: Any, x: SparseRows | SparseRowsPlusDelta, weight_gh: Tensor) -> Tensor:
        ctx.x = x
        if isinstance(x, SparseRows):
            return rows_times(x, weight_gh)
        return rows_times(x.cells, weight_gh).index_add_(0, x.index_m, product(x.delta_mg, weight_gh.t()))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[None, Tensor]:
        chosen = columns_times if isinstance(ctx.x, SparseRows) else _shifted_columns_times
        return None, chosen(ctx.x, slopes[0])


def by_input(layer: torch.nn.Linear) -> torch.nn.Linear:
    """Lay out the weights so that those of one input lie side by side; the values stay the same.

    So the first layer needs them for sparse cells, and the head of counts for what the products of its backward pass leave.
    """
    layer.weight.data = layer.weight.data.t().contiguous().t()
    return layer


def sparse_linear(x: SparseRows | SparseRowsPlusDelta, weight_hg: Tensor, bias_h: Tensor) -> Tensor:
    """x Wᵀ + b, (n, h), from the values that are not 0, and what comes to them.

    Fast where a gene's weights lie side by side: W is the view of a (g, h) matrix.
    """
    out_nh: Tensor = _Sparse.apply(x, weight_hg.t())  # type: ignore[no-untyped-call]
    return out_nh + bias_h


def rows_times(cells: SparseRows, weight_gh: Tensor) -> Tensor:
    """x W, (n, h), without gradients."""
    out_nh = torch.empty((cells.shape[0], weight_gh.shape[1]), dtype=weight_gh.dtype)
    near, block = genes_of_block(weight_gh.shape[1]), cells_of_block(len(out_nh))
    given = block, near, rows_of(cells), weight_gh.detach().contiguous().numpy(), out_nh.numpy()
    team.share(sparse_loops.share_rows_times, -(-len(out_nh) // block), *given)
    return out_nh


def rows_of(cells: SparseRows) -> tuple[NDArray[Any], ...]:
    """Where each cell begins and ends, the genes and the values."""
    return cells.start_n, cells.stop_n, cells.column, cells.value


def genes_of_block(n_hidden: int) -> int:
    """How many genes are a block."""
    return max(1, WEIGHTS // n_hidden)


def cells_of_block(n_cells: int) -> int:
    """How many cells are a block that reads all weights: few blocks, and as many for each thread.

    A cell has a sum of its own, so the bits are the same with any number.
    """
    n_threads = team.n_threads()
    rounds = max(1, -(-n_cells // (n_threads * MAX_CELLS)))
    return max(CELLS, -(-n_cells // (n_threads * rounds)))


def log_scaled(cells: SparseRows, scale_n: NDArray[np.floating]) -> SparseRows:
    """log(1 + scale · x), each cell with its scale, at least 0."""
    length_n = cells.stop_n - cells.start_n
    stop_n = np.cumsum(length_n, dtype=length_n.dtype)
    column, value = np.empty(stop_n[-1], cells.column.dtype), np.empty(stop_n[-1], cells.value.dtype)
    scaled = SparseRows(stop_n - length_n, stop_n, column, value, cells.n_genes)
    n_blocks = -(-len(stop_n) // CELLS)
    team.share(sparse_loops.share_log_scaled, n_blocks, CELLS, rows_of(cells), scale_n, rows_of(scaled))
    return scaled


@together
def _shifted_columns_times(x: SparseRowsPlusDelta, slope_nh: Tensor) -> Tensor:
    of_shift_gh = product(x.delta_mg.t(), slope_nh[x.index_m].t())
    return columns_times(x.cells, slope_nh).add_(of_shift_gh)


def columns_times(cells: SparseRows, slope_nh: Tensor) -> Tensor:
    """xᵀ y, (g, h), without gradients."""
    (_, n_genes), n_hidden = cells.shape, slope_nh.shape[1]
    out_gh = torch.empty((n_genes, n_hidden), dtype=slope_nh.dtype)
    block = genes_of_block(n_hidden)
    given = block, rows_of(cells), slope_nh.detach().contiguous().numpy(), out_gh.numpy()
    team.share(sparse_loops.share_columns_times, -(-n_genes // block), *given)
    return out_gh
