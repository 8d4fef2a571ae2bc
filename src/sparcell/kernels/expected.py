"""log-normalized expression that a count head expects, in one pass over the logits.

It serves batch augmentation: an epoch of nb on 13,714 genes with three batches is 2.9 times faster
with the whole fast path (AMD EPYC, 2 cores, AVX-512, 2026-11-28). Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from numba import prange

from sparcell.kernels.count_loops import softmax_unnormalized
from sparcell.kernels.float_bits import log1p
from sparcell.kernels.jit import FAST, inline_jit
from sparcell.kernels.products import product
from sparcell.kernels.threads import block_range, parallel_for, parallel_jit

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import Minibatch

BLOCK_CELLS = 8
"""Cells of a block."""


@inline_jit(fastmath=FAST)
def _log_scaled(exp_g, retained_g, scale):
    for g in range(exp_g.shape[0]):
        exp_g[g] = log1p(scale * exp_g[g] * retained_g[g])


@parallel_jit()
def log_expected(n_blocks, block, target_sum, retained_ng, logit_ng):
    """Overwrite logits by log(1 + target_sum · softmax · retained); `retained_ng` has one row for all cells, or one for each."""
    for number in prange(n_blocks):
        first, last = block_range(number, block, logit_ng.shape[0])
        for n in range(first, last):
            scale = logit_ng.dtype.type(target_sum) / softmax_unnormalized(logit_ng[n])
            _log_scaled(logit_ng[n], retained_ng[n % retained_ng.shape[0]], scale)


@torch.no_grad()
def expected_log_expression(
    h_nh: Tensor, heads: tuple[torch.nn.Linear, ...], target_sum: float, batch: Minibatch
) -> Tensor | None:
    """Return log(1 + target_sum · softmax(W h + b)), (n, g), without gradients; None where the cells are not sparse rows.

    A second head has the logits of a drop: the fraction sigmoid(V h + c) is missing from what is expected.
    """
    if batch.sparse is None:
        return None
    logit_ng, *drops = (product(h_nh, head.weight, head.bias) for head in heads)
    retained_ng = drops[0].neg_().sigmoid_() if drops else logit_ng.new_ones((1, logit_ng.shape[1]))
    n_blocks = -(-len(logit_ng) // BLOCK_CELLS)
    arrays = retained_ng.numpy(), logit_ng.numpy()
    parallel_for(log_expected, n_blocks, BLOCK_CELLS, float(target_sum), *arrays)
    return logit_ng
