"""Zero-inflated negative-binomial counts: some counts are dropped and read as 0.

UMI counts rarely need zero inflation (Svensson 2020); counts of other protocols may. Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn.functional import logsigmoid, softplus

from sparcell import kernels
from sparcell.likelihoods import cumulative

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.config.model import LikelihoodConfig
    from sparcell.protocols import Minibatch


@dataclass(frozen=True)
class ZeroInflatedDistribution:
    """0 with probability sigmoid(drop), else a negative-binomial count with mean m and inverse dispersion r; independent over genes."""

    log_mean: Tensor
    """Log mean of the negative binomial, (n, g)."""
    log_r: Tensor
    """Log of the inverse dispersion, (1, g), or (n, g) with dispersion gene-batch."""
    drop: Tensor
    """Logit of the probability that a count is dropped, (n, g)."""

    @property
    def mean(self) -> Tensor:
        """Expected counts after dropping, (n, g)."""
        return (self.log_mean + logsigmoid(-self.drop)).exp()

    def log_prob(self, x_ng: Tensor) -> Tensor:
        """Return the log probability of each count in nats, (n, g)."""
        r, offset_ng = self.log_r.exp(), self.log_mean - self.log_r
        log_coefficient_ng = torch.lgamma(x_ng + r) - torch.lgamma(r) - torch.lgamma(x_ng + 1)
        log_not_dropped_ng = (
            log_coefficient_ng
            - r * softplus(offset_ng)
            - x_ng * softplus(-offset_ng)
            + logsigmoid(-self.drop)
        )
        zero_ng = torch.logaddexp(logsigmoid(self.drop), log_not_dropped_ng)
        return torch.where(x_ng == 0, zero_ng, log_not_dropped_ng)

    def cumulative(self, x_ng: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return P(X < x) and P(X ≤ x) of each value, (n, g)."""

        def below(x_m: NDArray[np.float64], at: cumulative.AtCounts) -> NDArray[np.float64]:
            dropped_m = at(self.drop.sigmoid())
            kept_m = cumulative.negative_binomial_below(x_m, at(self.log_mean.exp()), at(self.log_r.exp()))
            return dropped_m + (1 - dropped_m) * kept_m

        return cumulative.of_counts(x_ng, self.log_prob(x_ng), below)

    def rate_factor(self, x_ng: Tensor) -> Tensor:
        """Return E[rate given x] / E[rate], (n, g): (r + x) / (r + m), and 1 as far as a count of 0 was dropped."""
        r = self.log_r.exp()
        factor_ng = (r + x_ng) / (r + self.log_mean.exp())
        log_zero_ng = logsigmoid(-self.drop) - r * softplus(self.log_mean - self.log_r)
        dropped_ng = torch.sigmoid(logsigmoid(self.drop) - log_zero_ng)
        return torch.where(x_ng == 0, dropped_ng + (1 - dropped_ng) * factor_ng, factor_ng)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw counts, (n, g)."""
        r = self.log_r.exp().expand_as(self.log_mean)
        rate = torch._standard_gamma(r, generator=generator) * (self.log_mean.exp() / r)
        counts = torch.poisson(rate, generator=generator)
        uniform = torch.rand(counts.shape, generator=generator, device=counts.device)
        return counts * (uniform >= self.drop.sigmoid())


class ZeroInflated(nn.Module):
    """p(x|z): NB with mean library size · softmax(W h + b), whose counts are dropped with probability sigmoid(V h + c)."""

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
        """Return -log p(x|z) of each cell in nats, (n,), summed over genes. Gamma functions are computed only for counts above 0."""
        fused_n = kernels.negative_binomial(h_nh, (self.head, self.drop), self.log_r, batch)
        if fused_n is not None:
            return fused_n
        x_ng, distribution = batch.x_ng, self.distribution(h_nh, batch)
        if x_ng.device.type != "cpu":  # to find the counts above 0 would be to wait for the device
            return -distribution.log_prob(x_ng).sum(dim=1)
        r, offset_ng = distribution.log_r.exp(), distribution.log_mean - distribution.log_r
        log_not_dropped_ng = logsigmoid(-distribution.drop) - r * softplus(
            offset_ng
        )  # log P(a count of 0 that is not dropped)
        zero_n = torch.where(
            x_ng == 0, torch.logaddexp(logsigmoid(distribution.drop), log_not_dropped_ng), log_not_dropped_ng
        ).sum(dim=1)
        cells, genes = x_ng.nonzero(as_tuple=True)
        x, offset = x_ng[cells, genes], offset_ng[cells, genes]
        r = r.expand_as(x_ng)[cells, genes]
        log_coefficient = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1) - x * softplus(-offset)
        return -zero_n.index_add(0, cells, log_coefficient)

    def log_expression(self, h_nh: Tensor, batch: Minibatch, target_sum: float) -> Tensor | None:
        """Return log(1 + x) of the mean, (n, g), with each cell scaled to `target_sum` counts, without gradients; None without a kernel."""
        return kernels.expected_log_expression(h_nh, (self.head, self.drop), target_sum, batch)

    def distribution(self, h_nh: Tensor, batch: Minibatch) -> ZeroInflatedDistribution:
        """Return the same density as an object."""
        log_mean_ng = torch.log_softmax(self.head(h_nh), dim=1) + batch.library_size_n1.log()
        log_r = batch.batch_nb @ self.log_r if self.per_batch else self.log_r
        return ZeroInflatedDistribution(log_mean_ng, log_r, self.drop(h_nh))
