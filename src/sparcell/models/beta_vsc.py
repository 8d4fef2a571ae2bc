"""The beta-VSC, variational sparse coding: each latent is off, or a Gaussian slab.

q(z|x) = gamma · N(mu, sigma²) + (1 - gamma) · δ₀ against the prior alpha · N(0, 1) + (1 - alpha) · δ₀, independent over latents
(Tonolini, Jensen & Murray-Smith, UAI 2019). Suffixes: n cells, k latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from sparcell.config import require_number
from sparcell.estimator import Estimator
from sparcell.network import branch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SpikeSlab:
    """The posterior. gamma = sigmoid(logit), so log gamma = logsigmoid(logit) has a gradient everywhere."""

    mu: Tensor
    log_sigma: Tensor
    logit: Tensor
    alpha: float
    temperature: float

    @property
    def gamma(self) -> Tensor:
        """Probability that each latent is on, (n, k)."""
        return self.logit.sigmoid()

    @property
    def mean(self) -> Tensor:
        """E z = gamma · mu, (n, k)."""
        return self.gamma * self.mu

    def rsample(self, generator: torch.Generator) -> Tensor:
        """Draw z from q itself: exactly zero where the latent is off.

        The gate is a Bernoulli(gamma) draw; its gradient is that of the binary concrete relaxation of the same draw at
        `temperature`, sigmoid(a) (straight-through: Bengio et al. 2013; Maddison et al. 2017). sigmoid(a) is 0 or 1 up to
        `tail`, which single precision can hold where it could not hold 1 - tail: so no gate loses its gradient by rounding.
        """
        uniform = torch.rand(self.mu.shape, generator=generator, device=self.mu.device)
        a = (self.logit + torch.logit(uniform, eps=1e-6)) / self.temperature
        on = (a > 0).to(a.dtype)
        tail = (-a.abs()).sigmoid()
        gate = on + (1 - 2 * on) * (tail - tail.detach())
        noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device)
        return gate * (self.mu + self.log_sigma.exp() * noise)

    def kl(self) -> Tensor:
        """KL to the prior, (n, k): gamma · KL(slab ‖ N(0, 1)) + KL(Bernoulli(gamma) ‖ Bernoulli(alpha))."""
        slab = 0.5 * (self.mu.square() + (2 * self.log_sigma).exp() - 1) - self.log_sigma
        log_on, log_off = logsigmoid(self.logit), logsigmoid(-self.logit)
        spike = log_on.exp() * (log_on - math.log(self.alpha)) + log_off.exp() * (
            log_off - math.log1p(-self.alpha)
        )
        return self.gamma * slab + spike


class SpikeSlabLatent(nn.Module):
    """A branch each for mu, log sigma and the logit of gamma."""

    def __init__(self, n_features: int, settings: BetaVSC) -> None:
        super().__init__()
        self.settings = settings
        self.mu = branch(n_features, settings.branch, settings.n_latent)
        self.log_sigma = branch(n_features, settings.branch, settings.n_latent)
        self.logit = branch(n_features, settings.branch, settings.n_latent)

    def forward(self, features_nh: Tensor) -> SpikeSlab:
        """Encode the features as spikes and slabs."""
        return SpikeSlab(
            self.mu(features_nh),
            self.log_sigma(features_nh),
            self.logit(features_nh),
            self.settings.alpha,
            self.settings.temperature,
        )

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw codes from alpha · N(0, 1) + (1 - alpha) · δ₀, (n, k)."""
        shape = (n_cells, self.settings.n_latent)
        on = torch.rand(shape, generator=generator, device=generator.device) < self.settings.alpha
        return on * torch.randn(shape, generator=generator, device=generator.device)


@dataclass(frozen=True, kw_only=True)
class BetaVSC(Estimator):
    """beta-VSC: variational sparse coding (Tonolini et al. 2019) whose KL, spikes and slabs, is weighted by beta."""

    beta: Annotated[float, "Weight of the KL."] = 2.0
    alpha: Annotated[float, "Prior probability that a latent is on in a cell."] = 0.5
    temperature: Annotated[float, "Width of the relaxation whose gradient the spikes follow."] = 0.2

    name = "beta_vsc"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("beta", self.beta, above=0, or_equal=True)
        require_number("alpha", self.alpha, above=0, below=1)
        require_number("temperature", self.temperature, above=0)

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return self.beta

    def latent(self, n_features: int) -> SpikeSlabLatent:
        """Build the part of the network that is this model's own."""
        return SpikeSlabLatent(n_features, self)
