"""The beta-VAE: Gaussian latents, their KL weighted by beta."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from torch import nn

from sparcell.config.settings import by_kind, require_number
from sparcell.models.estimator import Estimator
from sparcell.nn.network import branch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GaussianPosterior:
    """q(z|x) = N(mean, exp(log_sigma)²), independent over latents; prior N(0, 1)."""

    mean: Tensor
    log_sigma: Tensor
    gamma: None = None

    def rsample(self, generator: torch.Generator) -> Tensor:
        """mu + sigma · noise (Kingma & Welling 2014)."""
        noise = torch.randn(self.mean.shape, generator=generator, device=self.mean.device)
        return self.mean + self.log_sigma.exp() * noise

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw z; the same as `rsample`, which has no relaxation."""
        return self.rsample(generator)

    def log_ratio(self, z_nk: Tensor) -> Tensor:
        """log N(z; mu, sigma²) - log N(z; 0, 1), (n,)."""
        scaled = (z_nk - self.mean) / self.log_sigma.exp()
        return (0.5 * (z_nk.square() - scaled.square()) - self.log_sigma).sum(dim=1)

    def kl(self) -> Tensor:
        """½ (mu² + sigma² - 1 - log sigma²), (n, k) (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + (2 * self.log_sigma).exp() - 1) - self.log_sigma


class GaussianLatent(nn.Module):
    """A branch for mu and one for log sigma."""

    def __init__(self, n_features: int, settings: BetaVAE) -> None:
        super().__init__()
        self.n_latent = settings.n_latent
        self.mu = branch(n_features, settings.branch, settings.n_latent)
        self.log_sigma = branch(n_features, settings.branch, settings.n_latent)

    def forward(self, features_nh: Tensor, progress: float = 1.0) -> GaussianPosterior:
        """Encode the features as a Gaussian."""
        return GaussianPosterior(self.mu(features_nh), self.log_sigma(features_nh))

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw codes from N(0, 1), (n, k)."""
        return torch.randn((n_cells, self.n_latent), generator=generator, device=generator.device)


@dataclass(frozen=True, kw_only=True)
class BetaVAE(Estimator):
    """beta-VAE (Higgins et al. 2017): a variational autoencoder whose KL is weighted by beta."""

    beta: Annotated[float, "Weight of the KL."] = by_kind(2.0, 1.0)

    name = "beta_vae"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("beta", self.beta, above=0, or_equal=True)

    @property
    def kl_weight(self) -> float:
        """Weight of the KL in the bound."""
        return self.beta

    def latent(self, n_features: int) -> GaussianLatent:
        """Build the part of the network that is this model's own."""
        return GaussianLatent(n_features, self)
