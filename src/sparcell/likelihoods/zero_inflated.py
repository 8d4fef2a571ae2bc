"""Zero-inflated negative-binomial counts: some zeros are dropped counts.

UMI counts rarely need it (Svensson 2020); it is here for other protocols. Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn.functional import logsigmoid, softplus

from sparcell import kernels

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.model import LikelihoodConfig
    from sparcell.protocols import Minibatch


@dataclass(frozen=True)
class ZeroInflatedDistribution:
    """With probability sigmoid(drop) a zero, else a negative-binomial count of mean m and inverse dispersion r."""

    log_mean: Tensor
    """Of the negative binomial, (n, g)."""
    log_r: Tensor
    drop: Tensor
    """Logit of the share of dropped counts, (n, g)."""

    @property
    def mean(self) -> Tensor:
        """Expected counts, dropped ones included, (n, g)."""
        return (self.log_mean + logsigmoid(-self.drop)).exp()

    def log_prob(self, x_ng: Tensor) -> Tensor:
        """Log probability of each count in nats, (n, g)."""
        r, offset_ng = self.log_r.exp(), self.log_mean - self.log_r
        counted_ng = torch.lgamma(x_ng + r) - torch.lgamma(r) - torch.lgamma(x_ng + 1)
        kept_ng = counted_ng - r * softplus(offset_ng) - x_ng * softplus(-offset_ng) + logsigmoid(-self.drop)
        zero_ng = torch.logaddexp(logsigmoid(self.drop), kept_ng)
        return torch.where(x_ng == 0, zero_ng, kept_ng)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw counts, (n, g)."""
        r = self.log_r.exp().expand_as(self.log_mean)
        rate = torch._standard_gamma(r, generator=generator) * (self.log_mean.exp() / r)
        counts = torch.poisson(rate, generator=generator)
        uniform = torch.rand(counts.shape, generator=generator, device=counts.device)
        return counts * (uniform >= self.drop.sigmoid())


class ZeroInflated(nn.Module):
    """Negative binomial with mean size · softmax(W h + b), of which a share sigmoid(V h + c) is dropped."""

    counts: ClassVar[bool] = True
    fast_lr_params: ClassVar[frozenset[str]] = frozenset({"log_r"})

    def __init__(self, n_hidden: int, n_genes: int, n_batches: int, config: LikelihoodConfig) -> None:
        super().__init__()
        self.head = kernels.input_major(nn.Linear(n_hidden, n_genes))
        self.drop = kernels.input_major(nn.Linear(n_hidden, n_genes))
        per_batch = config.dispersion == "gene-batch" and n_batches > 0
        self.log_r = nn.Parameter(torch.zeros(n_batches if per_batch else 1, n_genes))
        self.per_batch = per_batch

    def nll(self, h_nh: Tensor, batch: Minibatch) -> Tensor:
        """-log p(x|z) of each cell in nats, (n,): at x = 0 without gamma functions, above it without the sum of two ways to a zero."""
        fused_n = kernels.negative_binomial(h_nh, (self.head, self.drop), self.log_r, batch)
        if fused_n is not None:
            return fused_n
        x_ng, given = batch.x_ng, self.distribution(h_nh, batch)
        r, offset_ng = given.log_r.exp(), given.log_mean - given.log_r
        kept_ng = logsigmoid(-given.drop) - r * softplus(offset_ng)  # log P(0 counted and not dropped)
        zero_n = torch.where(x_ng == 0, torch.logaddexp(logsigmoid(given.drop), kept_ng), kept_ng).sum(dim=1)
        cells, genes = x_ng.nonzero(as_tuple=True)
        x, offset = x_ng[cells, genes], offset_ng[cells, genes]
        r = r.expand_as(x_ng)[cells, genes]
        counted = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1) - x * softplus(-offset)
        return -zero_n.index_add(0, cells, counted)

    def log_expression(self, h_nh: Tensor, batch: Minibatch, target_sum: float) -> Tensor | None:
        """log(1 + x) of the expected counts of cells scaled to `target_sum`, (n, g), without gradients; None where no kernel is for it."""
        return kernels.expected_log_expression(h_nh, (self.head, self.drop), target_sum, batch)

    def distribution(self, h_nh: Tensor, batch: Minibatch) -> ZeroInflatedDistribution:
        """The same density as an object."""
        log_mean_ng = torch.log_softmax(self.head(h_nh), dim=1) + batch.library_size_n1.log()
        log_r = batch.batch_nb @ self.log_r if self.per_batch else self.log_r
        return ZeroInflatedDistribution(log_mean_ng, log_r, self.drop(h_nh))
