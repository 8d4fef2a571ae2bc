"""Poisson counts: each cell's library size is divided among the genes.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from sparcell import kernels
from sparcell.likelihoods import cumulative

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.config.model import LikelihoodConfig
    from sparcell.protocols import Minibatch


@dataclass(frozen=True)
class PoissonDistribution:
    """Poisson(mean), independent over genes."""

    log_mean: Tensor

    @property
    def mean(self) -> Tensor:
        """Expected counts, (n, g)."""
        return self.log_mean.exp()

    def log_prob(self, x_ng: Tensor) -> Tensor:
        """Return the log probability of each count in nats, (n, g): x log m - m - log x!."""
        return x_ng * self.log_mean - self.mean - torch.lgamma(x_ng + 1)

    def cumulative(self, x_ng: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return P(X < x) and P(X ≤ x) of each value, (n, g)."""
        return cumulative.of_counts(
            x_ng, self.log_prob(x_ng), lambda x_m, at: cumulative.poisson_below(x_m, at(self.mean))
        )

    def rate_factor(self, x_ng: Tensor) -> Tensor:
        """Return ones, (n, g): the rate is the mean, whatever the count."""
        return torch.ones_like(x_ng)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw counts, (n, g)."""
        return torch.poisson(self.mean, generator=generator)


class Poisson(nn.Module):
    """p(x|z) = Poisson(library size · softmax(W h + b)): the decoder gives the fraction of each gene."""

    counts: ClassVar[bool] = True
    fast_lr_params: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, n_hidden: int, n_genes: int, n_batches: int, config: LikelihoodConfig) -> None:
        super().__init__()
        self.head = kernels.input_major(nn.Linear(n_hidden, n_genes))

    def nll(self, h_nh: Tensor, batch: Minibatch) -> Tensor:
        """Return -log p(x|z) of each cell in nats, (n,), summed over genes. The means add up to the library size, so exp is not needed."""
        fused_n = kernels.poisson(h_nh, self.head, batch)
        if fused_n is not None:
            return fused_n
        log_mean_ng = self.distribution(h_nh, batch).log_mean
        expected_n = batch.library_size_n1.squeeze(1)
        return expected_n + (torch.lgamma(batch.x_ng + 1) - batch.x_ng * log_mean_ng).sum(dim=1)

    def log_expression(self, h_nh: Tensor, batch: Minibatch, target_sum: float) -> Tensor | None:
        """Return log(1 + x) of the mean, (n, g), with each cell scaled to `target_sum` counts, without gradients; None without a kernel."""
        return kernels.expected_log_expression(h_nh, (self.head,), target_sum, batch)

    def distribution(self, h_nh: Tensor, batch: Minibatch) -> PoissonDistribution:
        """Return the same density as an object."""
        return PoissonDistribution(torch.log_softmax(self.head(h_nh), dim=1) + batch.library_size_n1.log())
