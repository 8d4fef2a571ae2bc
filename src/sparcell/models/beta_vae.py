"""The beta-VAE: Gaussian latents whose KL is weighted by beta."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from sparcell.config.model import BetaVAEConfig
from sparcell.models.estimator import Estimator
from sparcell.nn.mlp import posterior_head
from sparcell.nn.noise import normal

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import Noise


@dataclass(frozen=True)
class GaussianPosterior:
    """q(z|x) = N(mean, exp(log_sigma)²), independent over latents; the prior is N(0, 1)."""

    mean: Tensor
    log_sigma: Tensor
    gamma: None = None

    def rsample(self, noise: Noise) -> Tensor:
        """Draw mu + sigma · noise, (n, k), with gradients (Kingma & Welling 2014)."""
        return self.mean + self.log_sigma.exp() * normal(self.mean, noise)

    def sample(self, generator: torch.Generator) -> Tensor:
        """Draw z, (n, k); the same as `rsample`, which has no relaxation."""
        return self.rsample(generator)

    def log_ratio(self, z_nk: Tensor) -> Tensor:
        """Return log N(z; mu, sigma²) - log N(z; 0, 1), (n,)."""
        scaled = (z_nk - self.mean) / self.log_sigma.exp()
        return (0.5 * (z_nk.square() - scaled.square()) - self.log_sigma).sum(dim=1)

    def kl(self) -> Tensor:
        """Return ½ (mu² + sigma² - 1 - log sigma²), (n, k) (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + (2 * self.log_sigma).exp() - 1) - self.log_sigma


class GaussianEncoder(nn.Module):
    """One head for mu and one for log sigma."""

    def __init__(self, n_features: int, settings: BetaVAEConfig) -> None:
        super().__init__()
        self.n_latent = settings.n_latent
        self.mu = posterior_head(n_features, settings.head_width, settings.n_latent)
        self.log_sigma = posterior_head(n_features, settings.head_width, settings.n_latent)

    def forward(self, features_nh: Tensor, progress: float | Tensor = 1.0) -> GaussianPosterior:
        """Return the Gaussians of a minibatch."""
        return GaussianPosterior(self.mu(features_nh), self.log_sigma(features_nh))

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Draw latents from N(0, 1), (n, k)."""
        return torch.randn((n_cells, self.n_latent), generator=generator, device=generator.device)


@dataclass(frozen=True, kw_only=True, repr=False)
class BetaVAE(BetaVAEConfig, Estimator):
    """beta-VAE (Higgins et al. 2017): a variational autoencoder whose KL is weighted by beta.

    Examples
    --------
    >>> import sparcell as sp
    >>> settings = sp.BetaVAE(n_latent=6, beta=2.0)
    """

    def latent_encoder(self, n_features: int) -> GaussianEncoder:
        """Build the part of the network that differs between models.

        Examples
        --------
        ::

            encoder = sp.BetaVAE().latent_encoder(128)
        """
        return GaussianEncoder(n_features, self)
