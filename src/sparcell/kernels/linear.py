"""Linear layers: over sparse cells, and between hidden units.

Suffixes: n cells, g genes, h hidden units; i, o units before and after a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch.autograd import Function

from sparcell.kernels import sparse_loops, team
from sparcell.kernels.products import fast, product

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.contracts import SparseRows

CELLS, GENES = 32, 512
"""Rows of a block."""
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
    def forward(ctx: Any, cells: SparseRows, weight_gh: Tensor) -> Tensor:
        ctx.cells = cells
        # the backward pass needs them by gene, and here a thread has time for it
        beside = [lambda: cells.by_gene] if ctx.needs_input_grad[1] else []
        return rows_times(cells, weight_gh, *beside)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[None, Tensor]:
        return None, columns_times(ctx.cells, slopes[0])


def by_input(layer: torch.nn.Linear) -> torch.nn.Linear:
    """Lay out the weights so that those of one input lie side by side; the values stay the same.

    So the first layer needs them for sparse cells, and the head of counts for what the products of its backward pass leave.
    """
    layer.weight.data = layer.weight.data.t().contiguous().t()
    return layer


def sparse_linear(cells: SparseRows, weight_hg: Tensor, bias_h: Tensor) -> Tensor:
    """x Wᵀ + b, (n, h), from the values that are not 0. Fast where a gene's weights lie side by side: W is the view of a (g, h) matrix."""
    out_nh: Tensor = _Sparse.apply(cells, weight_hg.t())  # type: ignore[no-untyped-call]
    return out_nh + bias_h


def rows_times(cells: SparseRows, weight_gh: Tensor, *beside: Callable[[], object]) -> Tensor:
    """x W, (n, h), without gradients; what is to be done `beside` it is done by the same threads."""
    out_nh = torch.zeros((cells.shape[0], weight_gh.shape[1]), dtype=weight_gh.dtype)
    given = arrays(cells.matrix), weight_gh.detach().numpy(), out_nh.numpy()
    team.over(
        len(out_nh), CELLS, lambda first, last: sparse_loops.add_rows_times(first, last, *given), *beside
    )
    return out_nh


def arrays(matrix: sparse.csr_matrix | sparse.csc_matrix) -> tuple[Any, Any, Any, Any]:
    """Where each row begins and ends, the columns and the values; of a matrix by columns the same of its columns."""
    return matrix.indptr[:-1], matrix.indptr[1:], matrix.indices, matrix.data


def log_scaled(cells: SparseRows, scale_n: Tensor) -> SparseRows:
    """log(1 + scale · x), each cell with its scale, at least 0."""
    x_ng = cells.matrix
    value = np.log1p(x_ng.data * np.repeat(scale_n.numpy(), np.diff(x_ng.indptr)))
    return type(cells)(sparse.csr_matrix((value, x_ng.indices, x_ng.indptr), shape=x_ng.shape, copy=False))


def columns_times(cells: SparseRows, slope_nh: Tensor) -> Tensor:
    """xᵀ y, (g, h), without gradients; gene by gene, so that no two threads add to the same row."""
    out_gh = torch.empty((cells.shape[1], slope_nh.shape[1]), dtype=slope_nh.dtype)
    given = arrays(cells.by_gene), slope_nh.contiguous().numpy(), out_gh.numpy()

    def work(first: int, last: int) -> None:
        given[-1][first:last] = 0  # block by block, while it is in the cache
        sparse_loops.add_rows_times(first, last, *given)

    team.over(len(out_gh), GENES, work)
    return out_gh
