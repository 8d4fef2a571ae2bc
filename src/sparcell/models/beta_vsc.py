"""The beta-VSC, variational sparse coding: each latent is off, or a Gaussian slab.

q(z|x) = gamma · N(mu, sigma²) + (1 - gamma) · δ₀ against the prior alpha · N(0, 1) + (1 - alpha) · δ₀, independent over latents, or a
learned mixture of such (Tonolini, Jensen & Murray-Smith, UAI 2019). A positive slab is softplus of such a Gaussian, in posterior and
prior alike. Suffixes: n cells, k latents, u components of the prior, q nodes of a quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.functional import logsigmoid, softplus

from sparcell.config.settings import by_kind, require_choice, require_number, require_whole
from sparcell.models.estimator import Estimator
from sparcell.nn.network import branch

if TYPE_CHECKING:
    from torch import Tensor

SHRINK, STRETCH = -0.1, 1.1
"""Interval that hard concrete gates are stretched to before they are cut to 0 … 1 (Louizos, Welling & Kingma 2018)."""
STEEP = (50.0, 200.0)
"""Steepness of the paper's gate when the warm-up begins, and after it (Tonolini et al. 2019)."""

SPREAD, WIDTH = 0.7, 0.75
"""How far apart and how wide the slabs of a prior with several components are when training begins."""
START_LOGIT = 2.0
"""With such a prior latents begin mostly on, gamma about .88, and are switched off where they do not pay."""
LOG_SIGMAS, MOST_LOGIT = (-10.0, 6.0), 20.0
"""Beyond these a posterior says nothing more, and squares and exponentials begin to overflow."""


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


class Slab:
    """A latent that is on is the Gaussian v itself, of either sign."""

    start: float | None = None
    """log sigma of the posterior when training begins; None leaves it to the initial weights."""

    def value(self, v: Tensor) -> Tensor:
        """z of v: one to one, so that the KL between two slabs is that between their Gaussians."""
        return v

    def gaussian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """v of z, and log |dz/dv| there."""
        return z, torch.zeros_like(z)

    def mean(self, mu: Tensor, sigma: Tensor) -> Tensor:
        """E z for v ~ N(mu, sigma²)."""
        return mu


class PositiveSlab(Slab):
    """z = softplus(v): above 0, and for large v as spread out as v is."""

    start = -1.0
    """A narrow posterior tells the decoder something from the first step; a wide one would drown what small effects there are."""
    n_nodes = 32

    def value(self, v: Tensor) -> Tensor:
        """Give log(1 + exp v), but never 0, which would read as off."""
        return softplus(v).clamp_min(torch.finfo(v.dtype).tiny)

    def gaussian(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """v = log(exp z - 1) and log |dz/dv| = log sigmoid(v)."""
        positive = z.clamp_min(torch.finfo(z.dtype).tiny)
        v = positive + torch.log(-torch.expm1(-positive))
        return v, logsigmoid(v)

    def mean(self, mu: Tensor, sigma: Tensor) -> Tensor:
        """Gauss-Hermite quadrature of the integral, which has no closed form."""
        node_q, weight_q = np.polynomial.hermite_e.hermegauss(self.n_nodes)
        total = torch.zeros_like(mu)
        for node, weight in zip(node_q.tolist(), (weight_q / weight_q.sum()).tolist(), strict=True):
            total = total + weight * softplus(mu + node * sigma)
        return total


NORMAL = Slab()
SLABS: dict[str, Slab] = {"normal": NORMAL, "positive": PositiveSlab()}


@dataclass(frozen=True)
class Prior:
    """Σ_u weight_u Π_k [ alpha_uk · slab(mu_uk, sigma_uk²) + (1 - alpha_uk) · δ₀ ]: one component, or several that were learned."""

    mu: Tensor
    """(u, k)."""
    log_sigma: Tensor
    logit: Tensor
    """Of alpha."""
    log_weight: Tensor
    """(u,); the weights add up to 1."""
    slab: Slab = NORMAL
    """What mu and sigma are parameters of, here and in the posterior."""

    def log_density(self, z_nk: Tensor) -> Tensor:
        """log p(z), (n,), with respect to a point mass at 0 plus length in each latent."""
        z_n1k = z_nk[:, None]
        by_latent = _log_spike_slab(z_n1k, self.slab, self.mu, self.log_sigma, self.logit)
        return torch.logsumexp(self.log_weight + by_latent.sum(dim=2), dim=1)

    def sample(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw codes, (n, k)."""
        components = torch.multinomial(self.log_weight.exp(), n_cells, replacement=True, generator=generator)
        mu, log_sigma, alpha = (
            values[components] for values in (self.mu, self.log_sigma, self.logit.sigmoid())
        )
        on = torch.rand(mu.shape, generator=generator, device=mu.device) < alpha
        noise = torch.randn(mu.shape, generator=generator, device=mu.device)
        return on * self.slab.value(mu + log_sigma.exp() * noise)


@dataclass(frozen=True)
class SpikeSlab:
    """The posterior. gamma = sigmoid(logit), so log gamma = logsigmoid(logit) has a gradient everywhere."""

    mu: Tensor
    log_sigma: Tensor
    logit: Tensor
    prior: Prior
    draw_gate: Callable[[Tensor, torch.Generator], Tensor]

    @property
    def gamma(self) -> Tensor:
        """Probability that each latent is on, (n, k)."""
        return self.logit.sigmoid()

    @property
    def mean(self) -> Tensor:
        """E z, gamma times the slab's mean, (n, k)."""
        return self.gamma * self.prior.slab.mean(self.mu, self.log_sigma.exp())

    def rsample(self, generator: torch.Generator) -> Tensor:
        """Draw a gate times a slab, with gradients: zero where the gate is."""
        gate = self.draw_gate(self.logit, generator)
        noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device)
        return gate * self.prior.slab.value(self.mu + self.log_sigma.exp() * noise)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw z from q itself: exactly zero where the latent is off."""
        uniform = torch.rand(self.mu.shape, generator=generator, device=self.mu.device)
        noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device)
        return (uniform < self.gamma) * self.prior.slab.value(self.mu + self.log_sigma.exp() * noise)

    def kl(self) -> Tensor:
        """KL to the prior, (n, k): gamma · KL(slab ‖ slab of the prior) + KL(Bernoulli(gamma) ‖ Bernoulli(alpha)).

        Posterior and prior have slabs of one kind, one to one with Gaussians, so the KL of their Gaussians is that of the slabs.

        With several components each cell has weights w_u, the best ones there are, w_u ∝ weight_u · exp(-KL_u): the sum over latents is
        then Σ_u w_u KL_u + KL(w ‖ weight) = -log Σ_u weight_u exp(-KL_u), at least the KL to the mixture, so that the bound stays a bound.
        KL(w ‖ weight) belongs to no single latent and is shared out evenly.
        """
        prior, mu, log_sigma, logit = (
            self.prior,
            self.mu[:, None],
            self.log_sigma[:, None],
            self.logit[:, None],
        )
        distance = (mu - prior.mu).square() + (2 * log_sigma).exp()
        slab = 0.5 * (distance * (-2 * prior.log_sigma).exp() - 1) - log_sigma + prior.log_sigma
        log_on, log_off = logsigmoid(logit), logsigmoid(-logit)
        spike = log_on.exp() * (log_on - logsigmoid(prior.logit)) + log_off.exp() * (
            log_off - logsigmoid(-prior.logit)
        )
        by_component_nuk = log_on.exp() * slab + spike
        weighed_nu = torch.log_softmax(prior.log_weight - by_component_nuk.sum(dim=2), dim=1)
        choice_n1 = (weighed_nu.exp() * (weighed_nu - prior.log_weight)).sum(dim=1, keepdim=True)
        return (weighed_nu.exp()[:, :, None] * by_component_nuk).sum(dim=1) + choice_n1 / mu.shape[2]

    def log_ratio(self, z_nk: Tensor) -> Tensor:
        """log q(z|x) - log p(z), (n,), both with respect to a point mass at 0 plus length in each latent."""
        log_q = _log_spike_slab(z_nk, self.prior.slab, self.mu, self.log_sigma, self.logit).sum(dim=1)
        return log_q - self.prior.log_density(z_nk)


def _log_spike_slab(z: Tensor, slab: Slab, mu: Tensor, log_sigma: Tensor, logit: Tensor) -> Tensor:
    v, log_slope = slab.gaussian(z)
    scaled = (v - mu) * (-log_sigma).exp()
    on = -0.5 * scaled.square() - log_sigma - 0.5 * math.log(2 * math.pi) - log_slope
    return torch.where(z == 0, logsigmoid(-logit), logsigmoid(logit) + on)


class SpikeSlabLatent(nn.Module):
    """A branch each for mu, log sigma and the logit of gamma; the prior's own parameters where it has any."""

    prior_mu: Tensor
    prior_log_sigma: Tensor
    prior_logit: Tensor
    prior_weight: Tensor

    def __init__(self, n_features: int, settings: BetaVSC) -> None:
        super().__init__()
        self.settings = settings
        self.mu = branch(n_features, settings.branch, settings.n_latent)
        self.log_sigma = branch(n_features, settings.branch, settings.n_latent)
        self.logit = branch(n_features, settings.branch, settings.n_latent)
        learned = settings.alpha == "learned"
        start = 0.0 if learned else math.log(float(settings.alpha)) - math.log1p(-float(settings.alpha))
        shape = (settings.components, settings.n_latent)
        several = settings.components > 1
        self.slab = SLABS[settings.slab]
        if self.slab.start is not None:
            nn.init.constant_(list(self.log_sigma.parameters())[-1], self.slab.start)
        if several:
            nn.init.constant_(list(self.logit.parameters())[-1], START_LOGIT)
        mixed = {
            "prior_mu": SPREAD * torch.randn(shape) if several else torch.zeros(shape),
            "prior_log_sigma": torch.full(shape, math.log(WIDTH) if several else 0.0),
            "prior_weight": torch.zeros(settings.components),
        }
        for name, values in mixed.items():
            self._own(name, values, several)
        self._own("prior_logit", torch.full(shape, start), several or learned)

    def _own(self, name: str, values: Tensor, learned: bool) -> None:
        if learned:
            self.register_parameter(name, nn.Parameter(values))
        else:
            self.register_buffer(name, values, persistent=False)

    def believed(self) -> Prior:
        """The prior as it stands."""
        weight_u = torch.log_softmax(self.prior_weight, dim=0)
        return Prior(self.prior_mu, self.prior_log_sigma, self.prior_logit, weight_u, self.slab)

    def forward(self, features_nh: Tensor, progress: float = 1.0) -> SpikeSlab:
        """Encode the features as spikes and slabs.

        In a spike warm-up the slab is N(p · mu, p · sigma² + 1 - p) at progress p: at first only the spikes carry information, then the
        slabs too (Tonolini et al. 2019, section 4).
        """
        mu = self.mu(features_nh)
        log_sigma = self.log_sigma(features_nh).clamp(*LOG_SIGMAS)
        if self.settings.spike_warmup and progress < 1:
            log_sigma = 0.5 * torch.log(progress * (2 * log_sigma).exp() + (1 - progress))
            mu = progress * mu
        draw, temperature = GATES[self.settings.gate], self.settings.temperature
        return SpikeSlab(
            mu,
            log_sigma,
            self.logit(features_nh).clamp(-MOST_LOGIT, MOST_LOGIT),
            self.believed(),
            lambda logit, generator: draw(logit, temperature, progress, generator),
        )

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw codes from the prior, (n, k)."""
        return self.believed().sample(n_cells, generator)


READABLE: dict[str, Any] = {
    "likelihood": "gaussian",
    "variance": "analytic",
    "n_latent": 32,
    "encoder": (128,),
    "branch": 0,
    "norm": "layer",
    "dropout": 0.1,
    "effects": "nonnegative",
    "slab": "positive",
    "components": 1,
    "alpha": 0.3,
    "beta": 2.0,
    "gate": "hard-concrete",
    "temperature": 2 / 3,
    "epochs": "auto",
    "steps": 2300,
    "batch_size": 128,
    "learning_rate": 0.01,
    "schedule": "cosine",
    "clip": 5.0,
    "held_out": 0.1,
    "warmup": 0.5,
    "warmup_start": 2.0,
}
"""Settings for latents that are gene programs, each to be read by itself (docs/beta_vsc.md has the evidence)."""


@dataclass(frozen=True, kw_only=True)
class BetaVSC(Estimator):
    """beta-VSC: variational sparse coding (Tonolini et al. 2019) whose KL, spikes and slabs, is weighted by beta."""

    beta: Annotated[float, "Weight of the KL."] = by_kind(2.0, 2.0)
    alpha: Annotated[
        float | Literal["learned"],
        "Prior probability that a latent is on in a cell; learned: one for each latent, from the data.",
    ] = 0.5
    components: Annotated[
        int,
        "Components of the prior: 1 for spike and N(0, 1) slab; more are learned, as the original paper's pseudo-inputs are.",
    ] = by_kind(1, 50)
    slab: Annotated[
        Literal["normal", "positive"],
        "Value of a latent that is on: normal, of either sign, or positive, softplus of a normal one.",
    ] = "normal"
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
        require_number("alpha", self.alpha, above=0, below=1, or_word="learned")
        require_whole("components", self.components, 1)
        require_number("temperature", self.temperature, above=0)
        require_choice(BetaVSC, "slab", self.slab)
        require_choice(BetaVSC, "gate", self.gate)

    @classmethod
    def readable(cls, **changes: Any) -> BetaVSC:
        """Choose the settings for latents that are gene programs, READABLE, but for `changes`.

        Log-normalised expression (raw counts are brought to it) is a floor plus programs that only add; a latent is off or above 0.
        `n_latent`, 32, is an upper bound: latents that do not pay stay off.
        """
        return cls(**{**READABLE, **changes})

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return self.beta

    def latent(self, n_features: int) -> SpikeSlabLatent:
        """Build the part of the network that is this model's own."""
        return SpikeSlabLatent(n_features, self)
