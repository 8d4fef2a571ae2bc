"""The beta-VSC, variational sparse coding: each latent is off, or a Gaussian slab.

q(z|x) = gamma · N(mu, sigma²) + (1 - gamma) · δ₀ against the prior alpha · N(0, 1) + (1 - alpha) · δ₀, independent over latents
(Tonolini, Jensen & Murray-Smith, UAI 2019). Suffixes: n cells, k latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from sparcell.config import by_kind, require, require_number
from sparcell.estimator import Estimator
from sparcell.network import branch

if TYPE_CHECKING:
    from torch import Tensor

SHRINK, STRETCH = -0.1, 1.1
"""Interval that hard concrete gates are stretched to before they are cut to 0 … 1 (Louizos, Welling & Kingma 2018)."""
STEEP = (50.0, 200.0)
"""Steepness of the paper's gate when the warm-up begins, and after it (Tonolini et al. 2019)."""


def straight_through(
    logit: Tensor, temperature: float, progress: float, generator: torch.Generator
) -> Tensor:
    """Draw gates of exactly 0 or 1, on with probability gamma.

    Their gradient is that of the binary concrete relaxation of the same draw at `temperature`, sigmoid(a) (Bengio et al. 2013;
    Maddison et al. 2017). sigmoid(a) is 0 or 1 up to `tail`, which single precision can hold where it could not hold 1 - tail: so no
    gate loses its gradient by rounding.
    """
    a = (logit + _logistic(logit, generator)) / temperature
    on = (a > 0).to(a.dtype)
    tail = (-a.abs()).sigmoid()
    return on + (1 - 2 * on) * (tail - tail.detach())


def hard_concrete(logit: Tensor, temperature: float, progress: float, generator: torch.Generator) -> Tensor:
    """Draw gates from 0 to 1 that are exactly 0 with probability 1 - gamma, with a gradient wherever they are not cut."""
    a = (_location(logit, temperature) + _logistic(logit, generator)) / temperature
    return (a.sigmoid() * (STRETCH - SHRINK) + SHRINK).clamp(0, 1)


def steep_sigmoid(logit: Tensor, temperature: float, progress: float, generator: torch.Generator) -> Tensor:
    """Draw the paper's gates, sigmoid(c (u - 1 + gamma)): nearly 0 or 1, the more so the steeper."""
    steepness = STEEP[0] + progress * (STEEP[1] - STEEP[0])
    uniform = torch.rand(logit.shape, generator=generator, device=logit.device, dtype=logit.dtype)
    return (steepness * (uniform - 1 + logit.sigmoid())).sigmoid()


def _logistic(logit: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(logit.shape, generator=generator, device=logit.device)
    return torch.logit(uniform, eps=1e-6)


def _location(logit: Tensor, temperature: float) -> Tensor:
    """Location of the concrete draw for which P(gate > 0) is sigmoid(logit) (Louizos et al. 2018, eq. 12)."""
    return logit + temperature * math.log(-SHRINK / STRETCH)


Gate = Callable[["Tensor", float, float, torch.Generator], "Tensor"]

GATES: dict[str, Gate] = {
    "straight-through": straight_through,
    "hard-concrete": hard_concrete,
    "steep-sigmoid": steep_sigmoid,
}


@dataclass(frozen=True)
class SpikeSlab:
    """The posterior. gamma = sigmoid(logit), so log gamma = logsigmoid(logit) has a gradient everywhere."""

    mu: Tensor
    log_sigma: Tensor
    logit: Tensor
    alpha_logit: Tensor
    """Logit of alpha, (k,)."""
    draw_gate: Callable[[Tensor, torch.Generator], Tensor]

    @property
    def gamma(self) -> Tensor:
        """Probability that each latent is on, (n, k)."""
        return self.logit.sigmoid()

    @property
    def mean(self) -> Tensor:
        """E z = gamma · mu, (n, k)."""
        return self.gamma * self.mu

    def rsample(self, generator: torch.Generator) -> Tensor:
        """Draw a gate times a slab, with gradients: zero where the gate is."""
        gate = self.draw_gate(self.logit, generator)
        noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device)
        return gate * (self.mu + self.log_sigma.exp() * noise)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw z from q itself: exactly zero where the latent is off."""
        uniform = torch.rand(self.mu.shape, generator=generator, device=self.mu.device)
        noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device)
        return (uniform < self.gamma) * (self.mu + self.log_sigma.exp() * noise)

    def kl(self) -> Tensor:
        """KL to the prior, (n, k): gamma · KL(slab ‖ N(0, 1)) + KL(Bernoulli(gamma) ‖ Bernoulli(alpha))."""
        slab = 0.5 * (self.mu.square() + (2 * self.log_sigma).exp() - 1) - self.log_sigma
        log_on, log_off = logsigmoid(self.logit), logsigmoid(-self.logit)
        spike = log_on.exp() * (log_on - logsigmoid(self.alpha_logit)) + log_off.exp() * (
            log_off - logsigmoid(-self.alpha_logit)
        )
        return self.gamma * slab + spike

    def log_ratio(self, z_nk: Tensor) -> Tensor:
        """log q(z|x) - log p(z), (n, k), both with respect to a point mass at 0 plus length."""
        on = (
            logsigmoid(self.logit)
            - logsigmoid(self.alpha_logit)
            - self.log_sigma
            - 0.5 * ((z_nk - self.mu) / self.log_sigma.exp()).square()
            + 0.5 * z_nk.square()
        )
        off = logsigmoid(-self.logit) - logsigmoid(-self.alpha_logit)
        return torch.where(z_nk == 0, off, on)


class SpikeSlabLatent(nn.Module):
    """A branch each for mu, log sigma and the logit of gamma; alpha where it is learned."""

    def __init__(self, n_features: int, settings: BetaVSC) -> None:
        super().__init__()
        self.settings = settings
        self.mu = branch(n_features, settings.branch, settings.n_latent)
        self.log_sigma = branch(n_features, settings.branch, settings.n_latent)
        self.logit = branch(n_features, settings.branch, settings.n_latent)
        learned = settings.alpha == "learned"
        start = 0.0 if learned else math.log(float(settings.alpha)) - math.log1p(-float(settings.alpha))
        alpha_logit = torch.full((settings.n_latent,), start)
        if learned:
            self.alpha_logit = nn.Parameter(alpha_logit)
        else:
            self.register_buffer("alpha_logit", alpha_logit, persistent=False)

    def forward(self, features_nh: Tensor, progress: float = 1.0) -> SpikeSlab:
        """Encode the features as spikes and slabs.

        In a spike warm-up the slab is N(p · mu, p · sigma² + 1 - p) at progress p: at first only the spikes carry information, then the
        slabs too (Tonolini et al. 2019, section 4).
        """
        mu, log_sigma = self.mu(features_nh), self.log_sigma(features_nh)
        if self.settings.spike_warmup and progress < 1:
            log_sigma = 0.5 * torch.log(progress * (2 * log_sigma).exp() + (1 - progress))
            mu = progress * mu
        draw, temperature = GATES[self.settings.gate], self.settings.temperature
        return SpikeSlab(
            mu,
            log_sigma,
            self.logit(features_nh),
            self.alpha_logit,
            lambda logit, generator: draw(logit, temperature, progress, generator),
        )

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw codes from alpha · N(0, 1) + (1 - alpha) · δ₀, (n, k)."""
        shape = (n_cells, self.settings.n_latent)
        on = torch.rand(shape, generator=generator, device=generator.device) < self.alpha_logit.sigmoid()
        return on * torch.randn(shape, generator=generator, device=generator.device)


@dataclass(frozen=True, kw_only=True)
class BetaVSC(Estimator):
    """beta-VSC: variational sparse coding (Tonolini et al. 2019) whose KL, spikes and slabs, is weighted by beta."""

    beta: Annotated[float, "Weight of the KL."] = by_kind(2.0, 1.0)
    alpha: Annotated[
        float | Literal["learned"],
        "Prior probability that a latent is on in a cell; learned: one for each latent, from the data.",
    ] = by_kind(0.5, 0.5)
    gate: Annotated[
        Literal["straight-through", "hard-concrete", "steep-sigmoid"],
        "How a latent is switched in training: straight-through (exactly 0 or 1), hard-concrete (0 to 1, exact zeros) or the original "
        "paper's steep-sigmoid.",
    ] = by_kind("straight-through", "hard-concrete")
    temperature: Annotated[float, "Width of the relaxation whose gradient the spikes follow."] = by_kind(
        0.2, 2 / 3
    )
    spike_warmup: Annotated[
        bool, "Let only the spikes carry information when the warm-up begins, the slabs by and by."
    ] = by_kind(False, False)

    name = "beta_vsc"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("beta", self.beta, above=0, or_equal=True)
        if self.alpha != "learned":
            require_number("alpha", self.alpha, above=0, below=1)
        require_number("temperature", self.temperature, above=0)
        require(
            not isinstance(self.gate, str) or self.gate in GATES,
            "gate",
            self.gate,
            f"one of {', '.join(GATES)}",
        )

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return self.beta

    def latent(self, n_features: int) -> SpikeSlabLatent:
        """Build the part of the network that is this model's own."""
        return SpikeSlabLatent(n_features, self)
