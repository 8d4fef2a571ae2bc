"""Spike-and-slab distributions: gates, slabs, prior and posterior.

q(z|x) = gamma · slab(mu, sigma²) + (1 - gamma) · δ₀ against the prior alpha · slab(0, 1) + (1 - alpha) · δ₀, independent over latents, or a
learned mixture of such priors (Tonolini, Jensen & Murray-Smith, UAI 2019). Suffixes: n cells, k latents, u components of the prior,
q nodes of a quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import logsigmoid, softplus

from sparcell.nn.noise import normal, uniform

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import Noise

STRETCH_LOW, STRETCH_HIGH = -0.1, 1.1
"""Hard concrete gates are stretched to this interval before they are cut to 0 … 1 (Louizos, Welling & Kingma 2018)."""
STEEPNESS = (50.0, 200.0)
"""Steepness of the VSC paper's gate at the start of the warm-up and after it (Tonolini et al. 2019)."""


def straight_through(logit: Tensor, temperature: float, progress: float | Tensor, noise: Noise) -> Tensor:
    """Draw gates of exactly 0 or 1, which are 1 with probability gamma.

    Their gradient is that of the binary concrete relaxation of the same draw at `temperature`, sigmoid(a) (Bengio et al. 2013;
    Maddison et al. 2017). sigmoid(a) is 0 or 1 up to `tail`, which single precision can hold where it could not hold 1 - tail: so no
    gate loses its gradient by rounding.
    """
    a = (logit + _logistic(logit, noise)) / temperature
    on = (a > 0).to(a.dtype)
    tail = (-a.abs()).sigmoid()
    return on + (1 - 2 * on) * (tail - tail.detach())


def hard_concrete(logit: Tensor, temperature: float, progress: float | Tensor, noise: Noise) -> Tensor:
    """Draw gates from 0 to 1 that are exactly 0 with probability 1 - gamma, with a gradient wherever they are not cut."""
    a = (_location(logit, temperature) + _logistic(logit, noise)) / temperature
    return (a.sigmoid() * (STRETCH_HIGH - STRETCH_LOW) + STRETCH_LOW).clamp(0, 1)


def steep_sigmoid(logit: Tensor, temperature: float, progress: float | Tensor, noise: Noise) -> Tensor:
    """Draw the VSC paper's gates, sigmoid(c (u - 1 + gamma)): close to 0 or 1, the more so the steeper."""
    steepness = STEEPNESS[0] + progress * (STEEPNESS[1] - STEEPNESS[0])
    drawn = uniform(logit, noise, dtype=logit.dtype)
    return (steepness * (drawn - 1 + logit.sigmoid())).sigmoid()


def _logistic(logit: Tensor, noise: Noise) -> Tensor:
    drawn = uniform(logit, noise)
    return torch.logit(drawn, eps=1e-6)


def _location(logit: Tensor, temperature: float) -> Tensor:
    """Return the location of the concrete draw for which P(gate > 0) is sigmoid(logit) (Louizos et al. 2018, eq. 12)."""
    return logit + temperature * math.log(-STRETCH_LOW / STRETCH_HIGH)


Gate = Callable[["Tensor", float, "float | Tensor", "Noise"], "Tensor"]
"""(logit of gamma, temperature, fraction of the warm-up done, noise) → gates, all (n, k)."""

GATES: dict[str, Gate] = {
    "straight-through": straight_through,
    "hard-concrete": hard_concrete,
    "steep-sigmoid": steep_sigmoid,
}


class Slab:
    """The value of an included latent is a Gaussian v itself, of either sign."""

    init_log_sigma: float | None = None
    """Initial log sigma of the posterior; None leaves it to the initial weights."""

    def transform(self, v: Tensor) -> Tensor:
        """Return z for v. The map is one to one, so the KL between two slabs is that between their Gaussians."""
        return v

    def inverse_with_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return v for z, and log |dz/dv| there."""
        return z, torch.zeros_like(z)

    def mean(self, mu: Tensor, sigma: Tensor) -> Tensor:
        """Return E z for v ~ N(mu, sigma²)."""
        return mu


class SoftplusSlab(Slab):
    """z = softplus(v): above 0, and for large v as spread out as v is."""

    init_log_sigma = -1.0
    """A narrow posterior informs the decoder from the first step; a wide one would drown the small initial effects."""
    n_nodes = 32

    def transform(self, v: Tensor) -> Tensor:
        """Return log(1 + exp v), but never 0, which would mean off."""
        return softplus(v).clamp_min(torch.finfo(v.dtype).tiny)

    def inverse_with_log_det(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return v = log(exp z - 1) and log |dz/dv| = log sigmoid(v)."""
        positive = z.clamp_min(torch.finfo(z.dtype).tiny)
        v = positive + torch.log(-torch.expm1(-positive))
        return v, logsigmoid(v)

    def mean(self, mu: Tensor, sigma: Tensor) -> Tensor:
        """Return E z by Gauss-Hermite quadrature; the integral has no closed form."""
        node_q, weight_q = np.polynomial.hermite_e.hermegauss(self.n_nodes)
        total = torch.zeros_like(mu)
        for node, weight in zip(node_q.tolist(), (weight_q / weight_q.sum()).tolist(), strict=True):
            total = total + weight * softplus(mu + node * sigma)
        return total


NORMAL = Slab()
SLABS: dict[str, Slab] = {"normal": NORMAL, "softplus-normal": SoftplusSlab()}


@dataclass(frozen=True)
class Prior:
    """Σ_u weight_u Π_k [ alpha_uk · slab(mu_uk, sigma_uk²) + (1 - alpha_uk) · δ₀ ]: one component, or several learned ones."""

    mu: Tensor
    """(u, k)."""
    log_sigma: Tensor
    """(u, k)."""
    logit: Tensor
    """Logit of alpha, (u, k)."""
    log_weight: Tensor
    """(u,); the weights add up to 1."""
    slab: Slab = NORMAL
    """Kind of slab, here and in the posterior."""

    def log_density(self, z_nk: Tensor) -> Tensor:
        """Return log p(z), (n,), with respect to a point mass at 0 plus length in each latent."""
        z_n1k = z_nk[:, None]
        by_latent = _log_spike_slab(z_n1k, self.slab, self.mu, self.log_sigma, self.logit)
        return torch.logsumexp(self.log_weight + by_latent.sum(dim=2), dim=1)

    def sample(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw latents, (n, k)."""
        components = torch.multinomial(self.log_weight.exp(), n_cells, replacement=True, generator=generator)
        mu, log_sigma, alpha = (
            values[components] for values in (self.mu, self.log_sigma, self.logit.sigmoid())
        )
        on = torch.rand(mu.shape, generator=generator, device=mu.device) < alpha
        noise = torch.randn(mu.shape, generator=generator, device=mu.device)
        return on * self.slab.transform(mu + log_sigma.exp() * noise)


@dataclass(frozen=True)
class SpikeSlab:
    """The posterior. gamma = sigmoid(logit), so log gamma = logsigmoid(logit) has a gradient everywhere."""

    mu: Tensor
    log_sigma: Tensor
    logit: Tensor
    prior: Prior
    draw_gate: Callable[[Tensor, Noise], Tensor]

    @property
    def gamma(self) -> Tensor:
        """Posterior inclusion probability of each latent, (n, k)."""
        return self.logit.sigmoid()

    @property
    def mean(self) -> Tensor:
        """E z: gamma times the slab's mean, (n, k)."""
        return self.gamma * self.prior.slab.mean(self.mu, self.log_sigma.exp())

    def rsample(self, noise: Noise) -> Tensor:
        """Draw a gate times a slab, (n, k), with gradients: 0 where the gate is 0."""
        gate = self.draw_gate(self.logit, noise)
        return gate * self.prior.slab.transform(self.mu + self.log_sigma.exp() * normal(self.mu, noise))

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw z from q itself, (n, k): exactly 0 where the latent is off."""
        uniform = torch.rand(self.mu.shape, generator=generator, device=self.mu.device)
        noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device)
        return (uniform < self.gamma) * self.prior.slab.transform(self.mu + self.log_sigma.exp() * noise)

    def kl(self) -> Tensor:
        """Return the KL to the prior, (n, k): gamma · KL(slab ‖ slab of the prior) + KL(Bernoulli(gamma) ‖ Bernoulli(alpha)).

        Posterior and prior have the same kind of slab, one to one with Gaussians, so the KL of the slabs is that of their Gaussians.

        With several components each cell has the weights w_u ∝ weight_u · exp(-KL_u), which minimize Σ_u w_u KL_u + KL(w ‖ weight). The
        minimum, -log Σ_u weight_u exp(-KL_u), is at least the KL to the mixture, so the bound stays a bound. KL(w ‖ weight) belongs to no
        single latent and is divided evenly among them.
        """
        prior = self.prior
        mu, log_sigma, logit = self.mu[:, None], self.log_sigma[:, None], self.logit[:, None]
        distance = (mu - prior.mu).square() + (2 * log_sigma).exp()
        slab = 0.5 * (distance * (-2 * prior.log_sigma).exp() - 1) - log_sigma + prior.log_sigma
        log_on, log_off = logsigmoid(logit), logsigmoid(-logit)
        spike = log_on.exp() * (log_on - logsigmoid(prior.logit)) + log_off.exp() * (
            log_off - logsigmoid(-prior.logit)
        )
        by_component_nuk = log_on.exp() * slab + spike
        log_w_nu = torch.log_softmax(prior.log_weight - by_component_nuk.sum(dim=2), dim=1)
        choice_n1 = (log_w_nu.exp() * (log_w_nu - prior.log_weight)).sum(dim=1, keepdim=True)
        return (log_w_nu.exp()[:, :, None] * by_component_nuk).sum(dim=1) + choice_n1 / mu.shape[2]

    def log_ratio(self, z_nk: Tensor) -> Tensor:
        """Return log q(z|x) - log p(z), (n,), both with respect to a point mass at 0 plus length in each latent."""
        log_q = _log_spike_slab(z_nk, self.prior.slab, self.mu, self.log_sigma, self.logit).sum(dim=1)
        return log_q - self.prior.log_density(z_nk)


def _log_spike_slab(z: Tensor, slab: Slab, mu: Tensor, log_sigma: Tensor, logit: Tensor) -> Tensor:
    v, log_det = slab.inverse_with_log_det(z)
    scaled = (v - mu) * (-log_sigma).exp()
    on = -0.5 * scaled.square() - log_sigma - 0.5 * math.log(2 * math.pi) - log_det
    return torch.where(z == 0, logsigmoid(-logit), logsigmoid(logit) + on)
