"""Encoder → latent → decoder. It is handed its latent and names no model and no likelihood.

Suffixes: n cells, g genes, k latents, h hidden units, c covariates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from sparcell.contracts import Output

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config import NetworkConfig
    from sparcell.contracts import Batch, Latent, Likelihood, Posterior

TARGET_SUM = 1e4
"""Counts a cell is scaled to before the encoder sees log(1 + x) of them."""


class Layers(nn.Module):
    """Linear layers, each with its norm, a ReLU and dropout; covariates join the input of every layer.

    With `linear_first` and no norm the first layer is linear, as the seed study's encoder has it.
    """

    def __init__(
        self, widths: Sequence[int], config: NetworkConfig, *, n_known: int, linear_first: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number, (n_in, n_out) in enumerate(pairwise(widths)):
            parts: list[nn.Module] = [nn.Linear(n_in + n_known, n_out)]
            if config.norm != "none":
                parts.append(nn.LayerNorm(n_out))
            if number > 0 or not linear_first or config.norm != "none":
                parts.append(nn.ReLU())
            self.layers.append(nn.Sequential(*parts))
        self.dropout = config.dropout if linear_first else 0.0

    def forward(self, x_nh: Tensor, known_nc: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Pass through all layers; units are left out only in training, by draws of `generator`."""
        for layer in self.layers:
            x_nh = layer(torch.cat([x_nh, known_nc], dim=1) if known_nc.shape[1] else x_nh)
            if self.training and generator is not None and self.dropout > 0:
                uniform = torch.rand(x_nh.shape, generator=generator, device=x_nh.device)
                x_nh = x_nh * (uniform >= self.dropout) / (1 - self.dropout)
        return x_nh


def branch(n_features: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """From the shared encoder to one quantity of the code: a ReLU layer (none with n_hidden 0) and a linear one."""
    if n_hidden == 0:
        return nn.Sequential(nn.Linear(n_features, n_out))
    return nn.Sequential(nn.Linear(n_features, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))


class Network(nn.Module):
    """A model's parameters: encoder, latent, decoder and the likelihood's head."""

    def __init__(
        self, n_genes: int, n_known: int, config: NetworkConfig, latent: Latent, likelihood: Likelihood
    ) -> None:
        super().__init__()
        seen = n_known if config.encode_covariates else 0
        self.encoder = Layers((n_genes, *config.encoder), config, n_known=seen, linear_first=True)
        self.latent = latent
        self.decoder = Layers((config.n_latent, *config.decoder), config, n_known=n_known)
        self.likelihood = likelihood
        self.encode_covariates = config.encode_covariates

    def posterior(
        self, batch: Batch, generator: torch.Generator | None = None, progress: float = 1.0
    ) -> Posterior:
        """q(z|x) of the cells of a batch. In training `generator` draws the dropout; `progress` is the share of the warm-up done."""
        x_ng = batch.x_ng
        if self.likelihood.counts:
            x_ng = torch.log1p(x_ng * (TARGET_SUM / batch.size_n1))
        known_nc = batch.known_nc if self.encode_covariates else batch.known_nc[:, :0]
        return self.latent(self.encoder(x_ng, known_nc, generator), progress)

    def decode(self, z_nk: Tensor, batch: Batch) -> Tensor:
        """Last hidden layer of the decoder, (n, h), for cells with the covariates of `batch`."""
        h_nh: Tensor = self.decoder(z_nk, batch.known_nc)
        return h_nh

    def forward(self, batch: Batch, generator: torch.Generator, progress: float = 1.0) -> Output:
        """Encode, draw a code, decode."""
        posterior = self.posterior(batch, generator, progress)
        return Output(posterior, self.decode(posterior.rsample(generator), batch))
