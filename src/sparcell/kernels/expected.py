"""What an encoder would see of the counts that a decoder expects: log(1 + x) of the cell scaled to a sum, by one pass over the logits.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from sparcell.kernels import team
from sparcell.kernels.count_loops import shares
from sparcell.kernels.float_bits import log1p
from sparcell.kernels.jit import FAST, compiled, inlined
from sparcell.kernels.products import product
from sparcell.kernels.tasks import each, part

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import Minibatch

CELLS = 8
"""Cells of a block."""


@inlined(fastmath=FAST)
def expected(number: Any, given: Any) -> None:
    """Overwrite logits by log(1 + scale · share · kept); what is kept is the same for all cells, or each has its own."""
    block, scale, kept_ng, logit_ng = given
    first, last = part(number, block, logit_ng.shape[0])
    kind = logit_ng.dtype
    for n in range(first, last):
        share_g, kept_g = logit_ng[n], kept_ng[n % kept_ng.shape[0]]
        of_sum = kind.type(scale) / shares(share_g)
        for g in range(share_g.shape[0]):
            share_g[g] = log1p(of_sum * share_g[g] * kept_g[g])


@compiled()
def share_expected(team: Any, span: Any, given: Any) -> Any:
    """Share its blocks out."""
    return each(team, span, expected, given)


@torch.no_grad()
def log_expected(
    h_nh: Tensor, heads: tuple[torch.nn.Linear, ...], target_sum: float, batch: Minibatch
) -> Tensor | None:
    """log(1 + target_sum · softmax(W h + b)), (n, g), without gradients; None where the cells are not sparse rows.

    A second head is to the logits of a drop: what is expected is less by the share sigmoid(V h + c).
    """
    if batch.sparse is None:
        return None
    seen_ng, *dropped = (product(h_nh, head.weight, head.bias) for head in heads)
    kept_ng = dropped[0].neg_().sigmoid_() if dropped else seen_ng.new_ones((1, seen_ng.shape[1]))
    given = CELLS, float(target_sum), kept_ng.numpy(), seen_ng.numpy()
    team.share(share_expected, -(-len(seen_ng) // CELLS), *given)
    return seen_ng
