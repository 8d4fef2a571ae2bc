"""Gaussian expression with one variance for all genes; its mean is linear in the decoder's last hidden layer.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config import LikelihoodConfig
    from sparcell.contracts import Batch


@dataclass(frozen=True)
class GaussianDistribution:
    """N(mean, variance), independent over genes."""

    mean: Tensor
    variance: float

    def log_prob(self, x_ng: Tensor) -> Tensor:
        """Log density of each entry in nats, (n, g)."""
        return -0.5 * ((x_ng - self.mean) ** 2 / self.variance + math.log(2 * math.pi * self.variance))

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw expression, (n, g)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + math.sqrt(self.variance) * noise


class Gaussian(nn.Module):
    """p(x|z) = N(W h + b, variance). With variance ½ the nll is the seed's sum of squares plus a constant."""

    def __init__(self, n_hidden: int, n_genes: int, config: LikelihoodConfig) -> None:
        super().__init__()
        self.variance = config.variance
        self.head = nn.Linear(n_hidden, n_genes)

    def nll(self, h_nh: Tensor, batch: Batch) -> Tensor:
        """-log p(x|z) of each cell in nats, (n,). One pass over n × g fewer than through `distribution`."""
        squares: Tensor = (self.head(h_nh) - batch.x_ng).square().sum(dim=1)
        constant = 0.5 * batch.x_ng.shape[1] * math.log(2 * math.pi * self.variance)
        return squares / (2 * self.variance) + constant

    def distribution(self, h_nh: Tensor) -> GaussianDistribution:
        """The same density as an object."""
        return GaussianDistribution(self.head(h_nh), self.variance)
