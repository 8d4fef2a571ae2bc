"""The deep autoencoder: a point for a code, no prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import nn

from sparcell.config.settings import by_kind, require_choice
from sparcell.errors import InputError
from sparcell.models.estimator import Estimator
from sparcell.nn.network import branch

if TYPE_CHECKING:
    from torch import Tensor

CODES: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "linear": nn.Identity}


@dataclass(frozen=True)
class Point:
    """All mass on one code."""

    mean: Tensor
    gamma: None = None

    def rsample(self, generator: torch.Generator) -> Tensor:
        """Return the code itself; there is no noise."""
        return self.mean

    def sample(self, generator: torch.Generator) -> Tensor:
        """Return the code itself."""
        return self.mean

    def log_ratio(self, z_nk: Tensor) -> Tensor:
        """Zero: there is no prior to compare with."""
        return z_nk.new_zeros(len(z_nk))

    def kl(self) -> Tensor:
        """Zero: without a prior there is nothing to pay."""
        return torch.zeros_like(self.mean)


class PointLatent(nn.Module):
    """One branch for the code."""

    def __init__(self, n_features: int, settings: Autoencoder) -> None:
        super().__init__()
        self.code = nn.Sequential(
            branch(n_features, settings.branch, settings.n_latent), CODES[settings.code]()
        )

    def forward(self, features_nh: Tensor, progress: float = 1.0) -> Point:
        """Encode the features as a point."""
        return Point(self.code(features_nh))

    def prior(self, n_cells: int, generator: torch.Generator) -> Tensor:
        """Refuse: an autoencoder has no prior."""
        raise InputError(
            "an autoencoder has no prior to sample from; use BetaVAE or BetaVSC, or interpolate between cells."
        )


@dataclass(frozen=True, kw_only=True)
class Autoencoder(Estimator):
    """Deep autoencoder: the network squeezes each cell through `n_latent` numbers and learns to restore it."""

    code: Annotated[
        Literal["relu", "linear"],
        "Last step of the autoencoder's code; the seed study's is relu, which can leave latents dead.",
    ] = by_kind("relu", "linear")

    name = "autoencoder"
    generative = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice(Autoencoder, "code", self.code)

    def latent(self, n_features: int) -> PointLatent:
        """Build the part of the network that is this model's own."""
        return PointLatent(n_features, self)
