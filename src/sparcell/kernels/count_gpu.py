"""The head of a count likelihood together with the likelihood, on a GPU: the same formulas as in `counts`, by Triton kernels.

The n × g logits are made once, by a matrix product, and overwritten by their gradients in the backward pass. What the kernels say is
compared with the plain formula once in a process, on the very GPU, before anything depends on it.

Without the kernels training on 2,000 genes takes 23 % more time with minibatches of 256 cells, and 18 % with 4,096 (nb, NVIDIA H200,
2026-11-28). What torch's compiler makes of the plain formula is 9 to 24 % faster than the kernels with the products, but it compiles for
6 s for each size of minibatch, or 30 s for all sizes; the kernels take 1 to 3 s. Suffixes: n cells, g genes, h hidden units, q 1, or n
where each cell has dispersions of its own.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Function
from torch.nn.functional import softplus

from sparcell.kernels import count_tiles
from sparcell.kernels.products import product, uses_bfloat16

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("sparcell")

MAX_DIFFERENCE = 1e-3
"""How far loss and gradients may be from the plain formula's, relative to the largest, before the kernels are not used."""


class _Nll(Function):
    """-log p(x|z) of each cell from the decoder's last hidden layer, the logarithms of the dispersions and one or two heads."""

    @staticmethod
    def forward(
        ctx: Any, x_ng: Tensor, library_size_n1: Tensor, h_nh: Tensor, log_r_qg: Tensor, *heads: Tensor
    ) -> Tensor:
        ctx.bfloat16 = uses_bfloat16(h_nh.device.type)
        logits = [
            product(h_nh, weight_gh, bias_g, bfloat16=ctx.bfloat16)
            for weight_gh, bias_g in zip(heads[::2], heads[1::2], strict=True)
        ]
        n_cells, n_genes = x_ng.shape
        log_sum_n, size_n = h_nh.new_empty(n_cells), library_size_n1.reshape(-1)
        count_tiles.log_sum_exp[(n_cells,)](logits[0], log_sum_n, n_genes)
        ctx.inputs = (logits[0], logits[-1], x_ng, size_n.log() - log_sum_n, log_r_qg.detach().contiguous())
        ctx.shape, ctx.step = (n_cells, n_genes), n_genes if len(log_r_qg) > 1 else 0
        ctx.tiles = (-(-n_cells // count_tiles.ROWS.value), -(-n_genes // count_tiles.COLUMNS.value))
        loss_nt, grad_nt = h_nh.new_empty((2, n_cells, ctx.tiles[1]))
        count_tiles.losses[ctx.tiles](
            ctx.inputs, (loss_nt, grad_nt), ctx.shape, ctx.step, DROPS=len(logits) > 1
        )
        ctx.pull_n = grad_nt.sum(dim=1) / size_n
        ctx.save_for_backward(h_nh, *heads[::2])
        nll_n: Tensor = loss_nt.sum(dim=1)
        return nll_n

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        h_nh, *weights = ctx.saved_tensors
        inputs, ctx.inputs = ctx.inputs, None  # the logits are overwritten: there is no second time
        grad_r_qg = h_nh.new_empty(ctx.shape if ctx.step else (ctx.tiles[0], ctx.shape[1]))
        weights_and_pull = (upstream[0].contiguous(), ctx.pull_n)
        count_tiles.grads[ctx.tiles](
            inputs, weights_and_pull, grad_r_qg, ctx.shape, ctx.step, DROPS=len(weights) > 1
        )
        grad_nh, head_grads = torch.zeros_like(h_nh), []
        for grad_ng, weight_gh in zip(inputs, weights, strict=False):
            grad_nh += product(grad_ng, weight_gh.t(), bfloat16=ctx.bfloat16)
            head_grads += [product(h_nh.t(), grad_ng.t(), bfloat16=ctx.bfloat16).t(), grad_ng.sum(dim=0)]
        return None, None, grad_nh, grad_r_qg if ctx.step else grad_r_qg.sum(0, keepdim=True), *head_grads


def negative_binomial(
    h_nh: Tensor, heads: tuple[torch.nn.Linear, ...], log_r_qg: Tensor, x_ng: Tensor, library_size_n1: Tensor
) -> Tensor:
    """-log NB(x; mean size · softmax(W h + b), inverse dispersion r) of each cell in nats, (n,), in float32.

    A second head is to the logits of a drop: sigmoid(V h + c) of the counts are dropped to 0.
    """
    parts = (part for head in heads for part in (head.weight, head.bias))
    return _Nll.apply(x_ng.contiguous(), library_size_n1, h_nh, log_r_qg, *parts)  # type: ignore[no-any-return, no-untyped-call]


@cache
def passes_self_test(device: torch.device) -> bool:
    """Whether the kernels agree with the plain formula on this device; tried once in a process, on a few cells."""
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            differences = [_difference(device, n_heads, n_rows) for n_heads in (1, 2) for n_rows in (1, 40)]
        worst = float(torch.tensor(differences).max())  # NaN if one is
        reason = f"differ from the plain formula by {worst:.1e} of the largest value"
    except Exception as error:  # whatever a compiler or a driver says: the plain formula remains
        worst, reason = float("nan"), f"do not run ({type(error).__name__}: {str(error).splitlines()[0:1]})"
    if not worst <= MAX_DIFFERENCE:
        log.warning(
            "The GPU kernels of count likelihoods %s; the plain formulas are used, which are slower.", reason
        )
    return worst <= MAX_DIFFERENCE


def _difference(device: torch.device, n_heads: int, n_rows: int) -> float:
    """Largest difference of loss and gradients from the plain formula in float64, relative to the largest value of each."""
    draw = torch.Generator().manual_seed(0)
    x_ng = torch.poisson(3 * torch.rand((40, 150), generator=draw).square(), generator=draw)
    x_ng[0, 0] = 5000
    h_nh, log_r_qg = torch.randn((40, 8), generator=draw), torch.randn((n_rows, 150), generator=draw)
    new = torch.nn.utils.skip_init  # which does not draw from the global generator
    heads = tuple(new(torch.nn.Linear, 8, 150) for _ in range(n_heads))  # type: ignore[no-untyped-call]
    for part in (part for head in heads for part in head.parameters()):
        torch.nn.init.normal_(part, generator=draw)
    weight_n = torch.rand(40, generator=draw)
    outputs = []
    for formula, dtype in ((negative_binomial, torch.float32), (reference, torch.float64)):
        x, size, h, log_r, weight = (
            values.to(device, dtype).detach()
            for values in (x_ng, x_ng.sum(1, keepdim=True), h_nh, log_r_qg, weight_n)
        )
        heads_there = tuple(head.to(device, dtype) for head in heads)
        parameters = [
            h.requires_grad_(),
            log_r.requires_grad_(),
            *(part for head in heads_there for part in head.parameters()),
        ]
        nll_n = formula(h, heads_there, log_r, x, size)
        outputs.append((nll_n, *torch.autograd.grad((weight * nll_n).sum(), parameters)))
    differences = [
        (a - b).detach().abs().max() / b.detach().abs().max() for a, b in zip(*outputs, strict=True)
    ]
    return float(torch.stack(differences).max())  # NaN if one is


def reference(
    h_nh: Tensor, heads: tuple[torch.nn.Linear, ...], log_r_qg: Tensor, x_ng: Tensor, library_size_n1: Tensor
) -> Tensor:
    """The same by torch, one operation after another: what the kernels are compared with."""
    d_ng, r_qg = torch.log_softmax(heads[0](h_nh), dim=1) + library_size_n1.log() - log_r_qg, log_r_qg.exp()
    counted_ng = torch.lgamma(x_ng + r_qg) - torch.lgamma(r_qg) - torch.lgamma(x_ng + 1)
    log_p_ng = counted_ng - r_qg * softplus(d_ng) - x_ng * softplus(-d_ng)
    if len(heads) > 1:
        drop_ng = heads[1](h_nh)
        kept_ng = log_p_ng - softplus(drop_ng)
        log_p_ng = torch.where(x_ng == 0, torch.logaddexp(-softplus(-drop_ng), kept_ng), kept_ng)
    return -log_p_ng.sum(dim=1)
