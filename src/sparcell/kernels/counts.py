"""The head of a count likelihood together with the likelihood: the n × g logits are computed once and overwritten by their gradients.

The gradient of the negative binomial in the log of the mean m is r (m - x) / (r + m); through the softmax it loses its sum times the
fraction of the gene. Gradients are taken in the forward pass, where all that they need is at hand. The gain stands in `count_loops` and
`zero_inflated_loops`. Suffixes: n cells, g genes, h hidden units, b batches, k counts, p blocks of cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd import Function

from sparcell.kernels import count_loops, zero_inflated_loops
from sparcell.kernels.linear import rows_of
from sparcell.kernels.products import product, uses_bfloat16
from sparcell.kernels.threads import parallel_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.protocols import Minibatch, SparseRows

BLOCK_CELLS = 32
"""Cells of a block."""
BLOCK_GENES = 1024
"""Genes of a block of the table."""
TABLE_SIZE = 16
"""Counts below this are looked up; with several batches, each with a table of its own, fewer."""


@dataclass(frozen=True)
class _Cells:
    """The cells as the loops read them."""

    sparse: SparseRows
    library_size_n: NDArray[Any]
    batch_n: NDArray[np.int64]
    """Row of log r of each cell."""


class _Nll(Function):
    """-log p(x|z) of each cell from the decoder's last hidden layer, one or two heads and the logs of the dispersions.

    Without a row of the latter it is a Poisson's.
    """

    @staticmethod
    def forward(ctx: Any, cells: _Cells, h_nh: Tensor, log_r_bg: Tensor, *heads: Tensor) -> Tensor:
        ctx.cells, ctx.bfloat16 = cells, uses_bfloat16()
        ones_n = torch.ones(len(h_nh), dtype=h_nh.dtype)
        nll_n, ctx.grads, ctx.sums = _evaluate(cells, ctx.bfloat16, ones_n, h_nh, log_r_bg, heads)
        ctx.save_for_backward(h_nh, log_r_bg, *heads)
        return nll_n

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        weight_n, (h_nh, log_r_bg, *heads) = upstream[0], ctx.saved_tensors
        if np.ptp(weight_n.numpy()) == 0:
            grads, sums, factor = ctx.grads, ctx.sums, weight_n[0]
        else:  # rare: the gradients of the biases were summed over cells of equal weight
            _, grads, sums = _evaluate(ctx.cells, ctx.bfloat16, weight_n, h_nh, log_r_bg, heads)
            factor = torch.ones((), dtype=h_nh.dtype)
        grad_nh, head_grads = torch.zeros_like(h_nh), []
        scaled_nh = factor * h_nh
        for grad_ng, sum_g, weight_gh in zip(grads, sums, heads[::2], strict=False):
            grad_nh += product(grad_ng, weight_gh.t(), bfloat16=ctx.bfloat16)
            grad_gh = product(scaled_nh.t(), grad_ng.t(), bfloat16=ctx.bfloat16).t()
            head_grads += [grad_gh, factor * sum_g]
        return None, factor * grad_nh, factor * sums[-1], *head_grads


def _evaluate(
    cells: _Cells, bfloat16: bool, weight_n: Tensor, h_nh: Tensor, log_r_bg: Tensor, heads: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return -log p of each cell, the weighted gradients in the logits of each head, and their sums: each bias, log r."""
    biases = heads[1::2]
    logits = [
        product(h_nh, weight_gh, bias_g, bfloat16=bfloat16)
        for weight_gh, bias_g in zip(heads[::2], biases, strict=True)
    ]
    n_cells, n_genes = logits[0].shape
    n_blocks = -(-n_cells // BLOCK_CELLS)
    nll_n = torch.empty(n_cells, dtype=h_nh.dtype)
    sums = [torch.zeros((n_blocks, *part.shape), dtype=h_nh.dtype) for part in (*biases, log_r_bg)]
    inputs = (*rows_of(cells.sparse), cells.library_size_n, weight_n.numpy())
    outputs = [x.numpy() for x in (*logits, nll_n, *sums)]
    if not len(log_r_bg):
        parallel_for(count_loops.poisson, n_blocks, BLOCK_CELLS, *inputs, *outputs[:-1])
    else:
        scratch = [np.empty((n_blocks, 3, n_genes), nll_n.numpy().dtype)]
        if len(logits) > 1:
            scratch.append(np.empty((n_blocks, 6 * zero_inflated_loops.PIECE), scratch[0].dtype))
        loop = count_loops.negative_binomial if len(logits) == 1 else zero_inflated_loops.zero_inflated
        dispersions = dispersion_tables(log_r_bg.detach())
        parallel_for(loop, n_blocks, BLOCK_CELLS, *inputs, cells.batch_n, *dispersions, *scratch, *outputs)
    return nll_n, logits, [part.sum(dim=0) for part in sums]


def dispersion_tables(log_r_bg: Tensor) -> tuple[NDArray[Any], ...]:
    """Return r, 1/r, and for small counts `count_loops.nb_log_coefficient` and its derivative."""
    r_bg, inverse_bg, log_r = log_r_bg.exp().numpy(), (-log_r_bg).exp().numpy(), log_r_bg.numpy()
    n_batches, n_genes = r_bg.shape
    table_bkg, grad_bkg = np.empty((2, n_batches, max(2, TABLE_SIZE // n_batches), n_genes), r_bg.dtype)
    table_bkg[:, 0], grad_bkg[:, 0] = 0, 0
    n_blocks = n_batches * -(-n_genes // BLOCK_GENES)
    arrays = log_r, r_bg, table_bkg, grad_bkg
    parallel_for(count_loops.nb_log_coefficient_table, n_blocks, BLOCK_GENES, *arrays)
    return r_bg, inverse_bg, table_bkg, grad_bkg


@cache
def gpu_kernels(device: torch.device) -> ModuleType | None:
    """Return the kernels for this GPU; None where Triton is missing or the kernels fail their self-test."""
    try:
        from sparcell.kernels import count_gpu
    except ImportError:
        return None
    return count_gpu if count_gpu.passes_self_test(device) else None


def poisson(h_nh: Tensor, head: torch.nn.Linear, batch: Minibatch) -> Tensor | None:
    """Return -log Poisson(x; size · softmax(W h + b)) of each cell in nats, (n,); None where no kernel is for such cells."""
    if batch.sparse is None:
        return None
    cells = _cells(batch, h_nh.dtype, several=False)
    none = h_nh.new_empty((0, cells.sparse.n_genes))
    return _Nll.apply(cells, h_nh, none, head.weight, head.bias)  # type: ignore[no-any-return, no-untyped-call]


def negative_binomial(
    h_nh: Tensor, heads: tuple[torch.nn.Linear, ...], log_r_bg: Tensor, batch: Minibatch
) -> Tensor | None:
    """Return -log NB(x; mean size · softmax(W h + b), inverse dispersion r) of each cell in nats, (n,); None where no kernel is for them.

    A second head has the logits of a drop: a fraction sigmoid(V h + c) of the counts is dropped to 0. One row of log r is for all cells,
    else each batch has one.
    """
    several = len(log_r_bg) > 1
    if batch.sparse is not None:
        if several and bool((batch.batch_n < 0).any()):  # an average cell is of no single batch
            return None
        cells = _cells(batch, h_nh.dtype, several=several)
        parts = (part for head in heads for part in (head.weight, head.bias))
        return _Nll.apply(cells, h_nh, log_r_bg, *parts)  # type: ignore[no-any-return, no-untyped-call]
    gpu = gpu_kernels(h_nh.device) if h_nh.is_cuda and h_nh.dtype == torch.float32 else None
    if gpu is None:
        return None
    log_r_qg = batch.batch_nb @ log_r_bg if several else log_r_bg
    return gpu.negative_binomial(h_nh, heads, log_r_qg, batch.x_ng, batch.library_size_n1)  # type: ignore[no-any-return]


def _cells(batch: Minibatch, dtype: torch.dtype, *, several: bool) -> _Cells:
    cells = batch.sparse
    if cells is None:
        raise TypeError("the loops read sparse rows; these cells are dense")
    library_size_n = batch.library_size_n1.squeeze(1).to(dtype).numpy()
    batch_n = batch.batch_n.numpy() if several else np.zeros(len(library_size_n), np.int64)
    return _Cells(cells, library_size_n, batch_n)
