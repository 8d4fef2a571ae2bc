"""Encoder → latent → decoder. It is handed its latent and names no model and no likelihood.

Suffixes: n cells, g genes, k latents, h hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import nn

from sparcell.contracts import Output

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sparcell.config import NetworkConfig
    from sparcell.contracts import Batch, Latent, Likelihood, Posterior


def relu_layers(widths: Sequence[int]) -> nn.Sequential:
    """Linear layers between consecutive widths, each followed by a ReLU."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers)


def encoder_layers(n_genes: int, widths: Sequence[int]) -> nn.Sequential:
    """The seed's encoder: a linear first layer without ReLU, then ReLU layers."""
    return nn.Sequential(nn.Linear(n_genes, widths[0]), *relu_layers(widths))


def branch(n_features: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """From the shared encoder to one quantity of the code: a ReLU layer and a linear one."""
    return nn.Sequential(nn.Linear(n_features, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))


class Network(nn.Module):
    """A model's parameters: encoder, latent, decoder and the likelihood's head."""

    def __init__(self, n_genes: int, config: NetworkConfig, latent: Latent, likelihood: Likelihood) -> None:
        super().__init__()
        self.encoder = encoder_layers(n_genes, config.encoder)
        self.latent = latent
        self.decoder = relu_layers((config.n_latent, *config.decoder))
        self.likelihood = likelihood

    def posterior(self, batch: Batch) -> Posterior:
        """q(z|x) of the cells of a batch."""
        return self.latent(self.encoder(batch.x_ng))

    def decode(self, z_nk: Tensor) -> Tensor:
        """Last hidden layer of the decoder, (n, h)."""
        h_nh: Tensor = self.decoder(z_nk)
        return h_nh

    def forward(self, batch: Batch, generator: torch.Generator) -> Output:
        """Encode, draw a code, decode."""
        posterior = self.posterior(batch)
        return Output(posterior, self.decode(posterior.rsample(generator)))
