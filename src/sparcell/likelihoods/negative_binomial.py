"""Negative-binomial counts: Poisson counts with a gamma-distributed rate around the mean that the latents give.

Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn.functional import softplus

from sparcell import kernels
from sparcell.likelihoods import cumulative

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.config.model import LikelihoodConfig
    from sparcell.protocols import Minibatch


@dataclass(frozen=True)
class NegativeBinomialDistribution:
    """Negative binomial with mean m and inverse dispersion r: variance m + m² / r, independent over genes."""

    log_mean: Tensor
    log_r: Tensor
    """Log of the inverse dispersion, (1, g), or (n, g) with dispersion gene-batch."""

    @property
    def mean(self) -> Tensor:
        """Expected counts, (n, g)."""
        return self.log_mean.exp()

    def log_prob(self, x_ng: Tensor) -> Tensor:
        """Return the log probability of each count in nats, (n, g): Gamma(x+r) / (Gamma(r) x!) · (r/(r+m))^r · (m/(r+m))^x.

        With d = log m - log r, log(r/(r+m)) = -softplus(d) and log(m/(r+m)) = -softplus(-d): tiny and huge means keep their digits.
        """
        r, offset_ng = self.log_r.exp(), self.log_mean - self.log_r
        log_coefficient_ng = torch.lgamma(x_ng + r) - torch.lgamma(r) - torch.lgamma(x_ng + 1)
        return log_coefficient_ng - r * softplus(offset_ng) - x_ng * softplus(-offset_ng)

    def cumulative(self, x_ng: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return P(X < x) and P(X ≤ x) of each value, (n, g)."""
        return cumulative.of_counts(
            x_ng,
            self.log_prob(x_ng),
            lambda x_m, at: cumulative.negative_binomial_below(x_m, at(self.mean), at(self.log_r.exp())),
        )

    def rate_factor(self, x_ng: Tensor) -> Tensor:
        """Return E[rate given x] / mean, (n, g): (r + x) / (r + m), since Gamma(r, r / m) is the prior of a Poisson rate."""
        r = self.log_r.exp()
        return (r + x_ng) / (r + self.mean)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw counts, (n, g): Poisson draws with gamma-distributed rates."""
        r = self.log_r.exp().expand_as(self.log_mean)
        rate = torch._standard_gamma(r, generator=generator) * (self.mean / r)
        return torch.poisson(rate, generator=generator)


class NegativeBinomial(nn.Module):
    """p(x|z) = NB(mean library size · softmax(W h + b), inverse dispersion r of each gene, or of each gene and batch)."""

    counts: ClassVar[bool] = True
    fast_lr_params: ClassVar[frozenset[str]] = frozenset({"log_r"})

    def __init__(self, n_hidden: int, n_genes: int, n_batches: int, config: LikelihoodConfig) -> None:
        super().__init__()
        self.head = kernels.input_major(nn.Linear(n_hidden, n_genes))
        per_batch = config.dispersion == "gene-batch" and n_batches > 0
        self.log_r = nn.Parameter(torch.zeros(n_batches if per_batch else 1, n_genes))
        self.per_batch = per_batch

    def nll(self, h_nh: Tensor, batch: Minibatch) -> Tensor:
        """Return -log p(x|z) of each cell in nats, (n,), summed over genes.

        At x = 0 it is r log((r+m)/r), so gamma functions are computed only for counts above 0.
        """
        fused_n = kernels.negative_binomial(h_nh, (self.head,), self.log_r, batch)
        if fused_n is not None:
            return fused_n
        x_ng, distribution = batch.x_ng, self.distribution(h_nh, batch)
        if x_ng.device.type != "cpu":  # to find the counts above 0 would be to wait for the device
            return -distribution.log_prob(x_ng).sum(dim=1)
        r, offset_ng = distribution.log_r.exp(), distribution.log_mean - distribution.log_r
        zero_n = (r * softplus(offset_ng)).sum(dim=1)
        cells, genes = x_ng.nonzero(as_tuple=True)
        x, r = x_ng[cells, genes], r.expand_as(x_ng)[cells, genes]
        log_coefficient = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1)
        return zero_n.index_add(0, cells, x * softplus(-offset_ng[cells, genes]) - log_coefficient)

    def log_expression(self, h_nh: Tensor, batch: Minibatch, target_sum: float) -> Tensor | None:
        """Return log(1 + x) of the mean, (n, g), with each cell scaled to `target_sum` counts, without gradients; None without a kernel."""
        return kernels.expected_log_expression(h_nh, (self.head,), target_sum, batch)

    def distribution(self, h_nh: Tensor, batch: Minibatch) -> NegativeBinomialDistribution:
        """Return the same density as an object."""
        log_mean_ng = torch.log_softmax(self.head(h_nh), dim=1) + batch.library_size_n1.log()
        return NegativeBinomialDistribution(log_mean_ng, self._log_r(batch))

    def _log_r(self, batch: Minibatch) -> Tensor:
        return batch.batch_nb @ self.log_r if self.per_batch else self.log_r
