"""Gaussian expression with one variance for all genes; its mean is linear in the decoder's last hidden layer.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from sparcell import kernels

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.settings import LikelihoodConfig
    from sparcell.protocols import Batch

MEMORY = 0.99
"""Share of the running variance that a step keeps; the first step sets it."""
LEAST_VARIANCE = 1e-6
"""Where the restored values are the data to the last digit, the analytic variance stays above this."""


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
    """p(x|z) = N(W h + b, variance). With variance ½ the nll is the seed's sum of squares plus a constant.

    With variance "analytic" each training step uses the variance that is best for it, the mean squared error of its cells, so that
    nll = ½ g (log(2π · mean squared error) + 1) (σ-VAE: Rybkin, Daniilidis & Levine 2021, eq. 7): beta then weighs the KL on the scale
    of the data. Afterwards the running mean over steps counts, which is saved with the weights.
    """

    counts: ClassVar[bool] = False
    quick: ClassVar[frozenset[str]] = frozenset()
    running: Tensor

    def __init__(self, n_hidden: int, n_genes: int, n_batches: int, config: LikelihoodConfig) -> None:
        super().__init__()
        self.fixed = config.variance if isinstance(config.variance, float | int) else None
        self.head = nn.Linear(n_hidden, n_genes)
        if self.fixed is None:
            self.register_buffer("running", torch.full((), torch.nan))

    @property
    def variance(self) -> float:
        """Variance of every gene: the fixed one, or the running mean of the analytic one."""
        return float(self.running.nan_to_num(1.0)) if self.fixed is None else float(self.fixed)

    def nll(self, h_nh: Tensor, batch: Batch) -> Tensor:
        """-log p(x|z) of each cell in nats, (n,). One pass over n × g fewer than through `distribution`."""
        if batch.sparse is not None:
            squares_n = kernels.squared_distance(h_nh, self.head, batch.sparse)
        else:
            squares_n = (self.head(h_nh) - batch.x_ng).square().sum(dim=1)
        n_genes = self.head.out_features
        if self.fixed is not None:
            return squares_n / (2 * self.fixed) + 0.5 * n_genes * math.log(2 * math.pi * self.fixed)
        variance: Tensor = self.running.nan_to_num(1.0)
        if self.training:
            variance = (squares_n.mean() / n_genes).clamp_min(LEAST_VARIANCE)
            now = variance.detach().to(self.running.dtype)
            self.running.copy_(torch.where(self.running.isnan(), now, self.running.lerp(now, 1 - MEMORY)))
        return squares_n / (2 * variance) + 0.5 * n_genes * torch.log(2 * math.pi * variance)

    def expression(self, h_nh: Tensor, batch: Batch, target_sum: float) -> None:
        """No kernel makes it: it is the mean."""

    def distribution(self, h_nh: Tensor, batch: Batch) -> GaussianDistribution:
        """The same density as an object."""
        return GaussianDistribution(self.head(h_nh), self.variance)
