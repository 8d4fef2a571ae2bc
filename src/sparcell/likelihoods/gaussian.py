"""Gaussian expression with one variance for all genes; the mean is linear in the decoder's last hidden layer.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

import math
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

RUNNING_DECAY = 0.99
"""Fraction of the running variance that a step keeps; the first step sets it."""
MIN_VARIANCE = 1e-6
"""Lower limit of the analytic variance, reached where reconstructions equal the data to the last digit."""


@dataclass(frozen=True)
class GaussianDistribution:
    """N(mean, variance), independent over genes."""

    mean: Tensor
    variance: float

    def log_prob(self, x_ng: Tensor) -> Tensor:
        """Return the log density of each entry in nats, (n, g)."""
        return -0.5 * ((x_ng - self.mean) ** 2 / self.variance + math.log(2 * math.pi * self.variance))

    def cumulative(self, x_ng: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return P(X < x) and P(X ≤ x) of each value, (n, g)."""
        return cumulative.of_normal(x_ng, self.mean, self.variance)

    def rate_factor(self, x_ng: Tensor) -> Tensor:
        """Return ones, (n, g): log-normalized expression has no counting rate."""
        return torch.ones_like(x_ng)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw expression, (n, g)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + math.sqrt(self.variance) * noise


class Gaussian(nn.Module):
    """p(x|z) = N(W h + b, variance). With variance ½ the nll is the sum of squared errors plus a constant, as in the 2019 study.

    With variance "analytic" each training step uses the variance that is best for it, the mean squared error of its cells, so that
    nll = ½ g (log(2π · mean squared error) + 1) (σ-VAE: Rybkin, Daniilidis & Levine 2021, eq. 7): beta then weighs the KL on the scale
    of the data. After training the running mean over steps is used, which is saved with the weights.
    """

    counts: ClassVar[bool] = False
    fast_lr_params: ClassVar[frozenset[str]] = frozenset()
    running: Tensor

    def __init__(self, n_hidden: int, n_genes: int, n_batches: int, config: LikelihoodConfig) -> None:
        super().__init__()
        given = config.gaussian_variance
        self.fixed = given if isinstance(given, float | int) else None
        self.head = nn.Linear(n_hidden, n_genes)
        if self.fixed is None:
            self.register_buffer("running", torch.full((), torch.nan))

    @property
    def variance(self) -> float:
        """Variance of every gene: the fixed one, or the running mean of the analytic one."""
        return float(self.running.nan_to_num(1.0)) if self.fixed is None else float(self.fixed)

    def nll(self, h_nh: Tensor, batch: Minibatch) -> Tensor:
        """Return -log p(x|z) of each cell in nats, (n,). One pass over n × g fewer than through `distribution`."""
        squares_n = None if batch.sparse is None else kernels.squared_distance(h_nh, self.head, batch.sparse)
        if squares_n is None:
            squares_n = (self.head(h_nh) - batch.x_ng).square().sum(dim=1)
        n_genes = self.head.out_features
        if self.fixed is not None:
            return squares_n / (2 * self.fixed) + 0.5 * n_genes * math.log(2 * math.pi * self.fixed)
        variance: Tensor = self.running.nan_to_num(1.0)
        if self.training:
            variance = (squares_n.mean() / n_genes).clamp_min(MIN_VARIANCE)
            now = variance.detach().to(self.running.dtype)
            self.running.copy_(
                torch.where(self.running.isnan(), now, self.running.lerp(now, 1 - RUNNING_DECAY))
            )
        return squares_n / (2 * variance) + 0.5 * n_genes * torch.log(2 * math.pi * variance)

    def log_expression(self, h_nh: Tensor, batch: Minibatch, target_sum: float) -> None:
        """Return None: the mean is log-normalized expression already."""

    def distribution(self, h_nh: Tensor, batch: Minibatch) -> GaussianDistribution:
        """Return the same density as an object."""
        return GaussianDistribution(self.head(h_nh), self.variance)
