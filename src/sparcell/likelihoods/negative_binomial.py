"""Negative-binomial counts: Poisson counts whose rate varies beyond what the code explains.

Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn.functional import softplus

from sparcell import kernels

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.model import LikelihoodConfig
    from sparcell.protocols import Minibatch


@dataclass(frozen=True)
class NegativeBinomialDistribution:
    """Mean m and inverse dispersion r: variance m + m² / r, independent over genes."""

    log_mean: Tensor
    log_r: Tensor
    """(g,), or (n, g) where each batch has dispersions of its own."""

    @property
    def mean(self) -> Tensor:
        """Expected counts, (n, g)."""
        return self.log_mean.exp()

    def log_prob(self, x_ng: Tensor) -> Tensor:
        """Log probability of each count in nats, (n, g): Gamma(x+r) / (Gamma(r) x!) · (r/(r+m))^r · (m/(r+m))^x.

        With d = log m - log r, log(r/(r+m)) = -softplus(d) and log(m/(r+m)) = -softplus(-d): neither a tiny nor a huge mean is lost.
        """
        r, offset_ng = self.log_r.exp(), self.log_mean - self.log_r
        counted_ng = torch.lgamma(x_ng + r) - torch.lgamma(r) - torch.lgamma(x_ng + 1)
        return counted_ng - r * softplus(offset_ng) - x_ng * softplus(-offset_ng)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw counts, (n, g): a Poisson draw of a gamma-distributed rate."""
        r = self.log_r.exp().expand_as(self.log_mean)
        rate = torch._standard_gamma(r, generator=generator) * (self.mean / r)
        return torch.poisson(rate, generator=generator)


class NegativeBinomial(nn.Module):
    """p(x|z) = NB(mean size · softmax(W h + b), inverse dispersion per gene, or per gene and batch)."""

    counts: ClassVar[bool] = True
    fast_lr_params: ClassVar[frozenset[str]] = frozenset({"log_r"})

    def __init__(self, n_hidden: int, n_genes: int, n_batches: int, config: LikelihoodConfig) -> None:
        super().__init__()
        self.head = kernels.input_major(nn.Linear(n_hidden, n_genes))
        per_batch = config.dispersion == "gene-batch" and n_batches > 0
        self.log_r = nn.Parameter(torch.zeros(n_batches if per_batch else 1, n_genes))
        self.per_batch = per_batch

    def nll(self, h_nh: Tensor, batch: Minibatch) -> Tensor:
        """-log p(x|z) of each cell in nats, (n,).

        At x = 0 what is left is r log((r+m)/r), so only the counts above it pay for the gamma functions.
        """
        fused_n = kernels.negative_binomial(h_nh, (self.head,), self.log_r, batch)
        if fused_n is not None:
            return fused_n
        x_ng, given = batch.x_ng, self.distribution(h_nh, batch)
        r, offset_ng = given.log_r.exp(), given.log_mean - given.log_r
        zero_n = (r * softplus(offset_ng)).sum(dim=1)
        cells, genes = x_ng.nonzero(as_tuple=True)
        x, r = x_ng[cells, genes], r.expand_as(x_ng)[cells, genes]
        counted = torch.lgamma(x + r) - torch.lgamma(r) - torch.lgamma(x + 1)
        return zero_n.index_add(0, cells, x * softplus(-offset_ng[cells, genes]) - counted)

    def log_expression(self, h_nh: Tensor, batch: Minibatch, target_sum: float) -> Tensor | None:
        """log(1 + x) of the expected counts of cells scaled to `target_sum`, (n, g), without gradients; None where no kernel is for it."""
        return kernels.expected_log_expression(h_nh, (self.head,), target_sum, batch)

    def distribution(self, h_nh: Tensor, batch: Minibatch) -> NegativeBinomialDistribution:
        """The same density as an object."""
        log_mean_ng = torch.log_softmax(self.head(h_nh), dim=1) + batch.library_size_n1.log()
        return NegativeBinomialDistribution(log_mean_ng, self._log_r(batch))

    def _log_r(self, batch: Minibatch) -> Tensor:
        return batch.batch_nb @ self.log_r if self.per_batch else self.log_r
