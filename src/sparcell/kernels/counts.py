"""The head of a count likelihood together with the likelihood: the n × g logits are made once and overwritten by their slopes.

The slopes by the logarithm of the mean m: of the negative binomial r (m - x) / (r + m); through the softmax they lose their sum times the
share. They are taken in the forward pass, where all that they need is at hand. Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.autograd import Function

from sparcell.kernels import count_loops, team, zero_inflated_loops
from sparcell.kernels.awake import together
from sparcell.kernels.linear import rows_of
from sparcell.kernels.products import product, rounded, rounded_product

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.protocols import Minibatch, SparseRows

CELLS = 32
"""Cells of a block."""
GENES = 1024
"""Genes of a block of the table."""
TABLED = 16
"""Counts below this are looked up; with several batches, of which each has a table, fewer."""


class _Given:
    """What the cells are, for the count_loops."""

    def __init__(
        self, cells: SparseRows, library_size_n1: Tensor, group_n: Tensor | None, dtype: torch.dtype
    ) -> None:
        self.n_cells, self.n_genes = cells.shape
        self.group_n = np.zeros(self.n_cells, np.int64) if group_n is None else group_n.numpy()
        self.cells = rows_of(cells)
        self.size_n = library_size_n1.squeeze(1).to(dtype).numpy()

    def weighed(self, weight_n: Tensor) -> tuple[NDArray[Any], ...]:
        return (*self.cells, self.size_n, self.group_n, weight_n.numpy())


class _Nll(Function):
    """-log p(x|z) of each cell from the decoder's last hidden layer, one or two heads and the logarithms of the dispersions.

    Without a row of the latter it is a Poisson's.
    """

    @staticmethod
    def forward(ctx: Any, given: _Given, h_nh: Tensor, log_r_bg: Tensor, *heads: Tensor) -> Tensor:
        ctx.given, ctx.bfloat16 = given, rounded()
        if ctx.bfloat16:  # once for both directions
            heads = _with_rounded_weights(heads)
        ones_n = torch.ones(given.n_cells, dtype=h_nh.dtype)
        nll_n, ctx.slopes, ctx.sums = _evaluate(given, ctx.bfloat16, ones_n, h_nh, log_r_bg, heads)
        ctx.save_for_backward(h_nh, log_r_bg, *heads)
        return nll_n

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        weight_n, (h_nh, log_r_bg, *heads) = upstream[0], ctx.saved_tensors
        if np.ptp(weight_n.numpy()) == 0:
            slopes, sums, common = ctx.slopes, ctx.sums, weight_n[0]
        else:  # rare: the slopes of the biases were summed over cells of equal weight
            _, slopes, sums = _evaluate(ctx.given, ctx.bfloat16, weight_n, h_nh, log_r_bg, heads)
            common = torch.ones((), dtype=h_nh.dtype)
        of_h, of_heads = [], []
        scaled_nh = common * h_nh
        for slope_ng, sum_g, weight_gh in zip(slopes, sums, heads[::2], strict=False):
            of_h.append(product(slope_ng, weight_gh.t(), bfloat16=ctx.bfloat16))
            of_heads += [product(scaled_nh.t(), slope_ng.t(), bfloat16=ctx.bfloat16).t(), common * sum_g]
        return None, common * sum(of_h[1:], of_h[0]), common * sums[-1], *of_heads


@together
def _with_rounded_weights(heads: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x if number % 2 else x.bfloat16() for number, x in enumerate(heads))


def _evaluate(
    given: _Given, bfloat16: bool, weight_n: Tensor, h_nh: Tensor, log_r_bg: Tensor, heads: tuple[Tensor, ...]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """-log p of each cell, the weighed slopes in the logits of each head, and their sums: each bias, log r."""
    biases = heads[1::2]
    logits = [
        rounded_product(h_nh, weight_gh) if bfloat16 else product(h_nh, weight_gh, bias_g)
        for weight_gh, bias_g in zip(heads[::2], biases, strict=True)
    ]
    nll_n = torch.empty(given.n_cells, dtype=h_nh.dtype)
    dispersion = tabled(log_r_bg.detach()) if len(log_r_bg) else ()
    n_blocks = -(-given.n_cells // CELLS)
    sums = [torch.zeros((n_blocks, *part.shape), dtype=h_nh.dtype) for part in (*biases, log_r_bg)]
    cells, whole = given.weighed(weight_n), nll_n.numpy()
    parts = tuple(part.numpy() for part in sums)
    arrays = tuple(
        ((logit_ng.view(torch.int16) if bfloat16 else logit_ng).numpy(), bias_g.detach().numpy())
        for logit_ng, bias_g in zip(logits, biases, strict=True)
    )
    launch = count_loops.share_poisson
    if dispersion:
        launch = count_loops.share_negative_binomial
        if heads[2:]:
            launch = zero_inflated_loops.share_zero_inflated
    team.share(launch, n_blocks, CELLS, arrays, dispersion, cells, whole, parts)
    return nll_n, logits, [part.sum(dim=0) for part in sums]


def tabled(log_r_bg: Tensor) -> tuple[NDArray[Any], ...]:
    """r, 1/r, and for small counts what the negative binomial needs of it: `count_loops.ways`."""
    r_bg, inverse_bg, log_r = log_r_bg.exp().numpy(), (-log_r_bg).exp().numpy(), log_r_bg.numpy()
    n_batches, n_genes = r_bg.shape
    ways_bkg, slope_bkg = np.empty((2, n_batches, max(2, TABLED // n_batches), n_genes), r_bg.dtype)
    n_tasks = n_batches * -(-n_genes // GENES)
    team.share(count_loops.share_table_ways, n_tasks, GENES, log_r, r_bg, ways_bkg, slope_bkg)
    return r_bg, inverse_bg, ways_bkg, slope_bkg


def group_of(batch_nb: Tensor) -> Tensor | None:
    """Number of the batch of each cell, (n,); None where a cell is of no single one."""
    most_n, group_n = batch_nb.max(dim=1)
    return group_n if bool((most_n == 1).all()) else None


@cache
def gpu_kernels(device: torch.device) -> ModuleType | None:
    """Kernels for this GPU; None where Triton is missing or does not do there what it should."""
    try:
        from sparcell.kernels import count_gpu
    except ImportError:
        return None
    return count_gpu if count_gpu.trusted(device) else None


def poisson(h_nh: Tensor, head: torch.nn.Linear, batch: Minibatch) -> Tensor | None:
    """-log Poisson(x; size · softmax(W h + b)) of each cell in nats, (n,); None where no kernel is for such cells."""
    if batch.sparse is None:
        return None
    given = _Given(batch.sparse, batch.library_size_n1, None, h_nh.dtype)
    none = h_nh.new_empty((0, given.n_genes))
    return _Nll.apply(given, h_nh, none, head.weight, head.bias)  # type: ignore[no-any-return, no-untyped-call]


def negative_binomial(
    h_nh: Tensor, heads: tuple[torch.nn.Linear, ...], log_r_bg: Tensor, batch: Minibatch
) -> Tensor | None:
    """-log NB(x; mean size · softmax(W h + b), inverse dispersion r) of each cell in nats, (n,); None where no kernel is for such cells.

    A second head is to the logits of a drop: sigmoid(V h + c) of the counts are dropped to 0. One row of log r is for all cells, else each
    batch has one.
    """
    several = len(log_r_bg) > 1
    if batch.sparse is not None:
        group_n = group_of(batch.batch_nb) if several else None
        if several and group_n is None:
            return None
        given = _Given(batch.sparse, batch.library_size_n1, group_n, h_nh.dtype)
        parts = (part for head in heads for part in (head.weight, head.bias))
        return _Nll.apply(given, h_nh, log_r_bg, *parts)  # type: ignore[no-any-return, no-untyped-call]
    gpu = gpu_kernels(h_nh.device) if h_nh.is_cuda and h_nh.dtype == torch.float32 else None
    if gpu is None:
        return None
    log_r_qg = batch.batch_nb @ log_r_bg if several else log_r_bg
    return gpu.negative_binomial(h_nh, heads, log_r_qg, batch.x_ng, batch.library_size_n1)  # type: ignore[no-any-return]
