"""The deep autoencoder: each cell is one point in the latent space; there is no prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from sparcell.config.model import AutoencoderConfig
from sparcell.errors import InputError
from sparcell.models.estimator import Estimator
from sparcell.nn.mlp import posterior_head

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.protocols import Noise

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "linear": nn.Identity}


@dataclass(frozen=True)
class Point:
    """A posterior with all its mass on one point."""

    mean: Tensor
    gamma: None = None

    def rsample(self, noise: Noise) -> Tensor:
        """Return the point; there is no noise."""
        return self.mean

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return the point."""
        return self.mean

    def log_ratio(self, z_nk: Tensor) -> Tensor:
        """Return 0, (n,): there is no prior to compare with."""
        return z_nk.new_zeros(len(z_nk))

    def kl(self) -> Tensor:
        """Return 0, (n, k): there is no prior."""
        return torch.zeros_like(self.mean)


class PointEncoder(nn.Module):
    """One head, for the point."""

    def __init__(self, n_features: int, settings: AutoencoderConfig) -> None:
        super().__init__()
        self.code = nn.Sequential(
            posterior_head(n_features, settings.head_width, settings.n_latent),
            ACTIVATIONS[settings.latent_activation](),
        )

    def forward(self, features_nh: Tensor, progress: float | Tensor = 1.0) -> Point:
        """Return the points of a minibatch."""
        return Point(self.code(features_nh))

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Raise InputError: an autoencoder has no prior."""
        raise InputError(
            "an autoencoder has no prior to sample from; use BetaVAE or BetaVSC, or interpolate between cells."
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Autoencoder(AutoencoderConfig, Estimator):
    """Deep autoencoder: the network squeezes each cell through `n_latent` numbers and learns to reconstruct it.

    Examples
    --------
    >>> import sparcell as sp
    >>> settings = sp.Autoencoder(n_latent=6)
    """

    def latent_encoder(self, n_features: int) -> PointEncoder:
        """Build the part of the network that differs between models.

        Examples
        --------
        ::

            encoder = sp.Autoencoder().latent_encoder(128)
        """
        return PointEncoder(n_features, self)
