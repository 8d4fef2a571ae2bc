"""Decoders: what stands between the latents and the likelihood's head.

With an MLP decoder the head reads hidden units. With a linear decoder there is no hidden layer: for cell n and gene g the head gives
bias_g + Σ_k z_nk W_gk + Σ_c covariate_nc W_gc + Σ_b batch_nb W_gb, for counts the log of a fraction up to a constant per cell. Each latent
then has its own effect on each gene, whatever the other latents are. With nonnegative effects, bias_g is the floor of the data
(`nmf_init`) and is not trained.

Suffixes: n cells, g genes, k latents, h inputs of the head, b batches, c covariates.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import sparse
from torch import nn
from torch.nn.utils import parametrize

from sparcell.nn import nmf_init
from sparcell.nn.mlp import MLP

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.model import NetworkConfig
    from sparcell.protocols import Minibatch

INIT_MEAN, INIT_SD = 0.01, 0.003
"""Initial mean and sd of nonnegative effects: small, so that latents differ by what they learn and not by their start."""
MIN_FRACTION = 1e-6
"""Fraction of a cell's counts for a gene that some cell type does not express at all: a hundredth of a count in 10,000."""


class ConcatCovariates(nn.Module):
    """A decoder without weights: the latents and the covariates side by side."""

    def forward(self, z_nk: Tensor, covariates_nc: Tensor) -> Tensor:
        """Concatenate the two, (n, k + c)."""
        return torch.cat([z_nk, covariates_nc], dim=1)


class AbsoluteColumns(nn.Module):
    """|v| of the first `n_latent` columns of a weight; the other columns unchanged.

    Unlike exp or softplus it reaches 0. Unlike a cut at 0 its gradient is ±1 on either side, so an effect at 0 can rise again.
    """

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent

    def forward(self, trained_gh: Tensor) -> Tensor:
        """Return the weight that the head uses."""
        return torch.cat([trained_gh[:, : self.n_latent].abs(), trained_gh[:, self.n_latent :]], dim=1)

    def right_inverse(self, weight_gh: Tensor) -> Tensor:
        """Return the trained parameter of a weight."""
        return weight_gh


class LinearDecoder:
    """Each latent adds to the head's output; effects of either sign."""

    additive = True
    """Whether the effects of the latents add up."""

    def n_hidden(self, config: NetworkConfig, n_covariates: int) -> int:
        """Return the number of inputs of the head besides the batch."""
        return config.n_latent + n_covariates

    def module(self, config: NetworkConfig, n_batches_and_covariates: int) -> nn.Module:
        """Build the module between the latents and the head."""
        return ConcatCovariates()

    def decoder_covariates(self, batch: Minibatch) -> Tensor:
        """Return the covariates that the module reads, (n, c); the batch joins after it."""
        return batch.covariates_nc

    def init_head(self, head: nn.Linear, config: NetworkConfig) -> None:
        """Prepare a new head for this decoder."""

    def init_from_data(
        self, head: nn.Linear, cells: Iterable[Tensor], n_latent: int, target_sum: float | None
    ) -> None:
        """Initialize from log-normalized expression (n, g) of some training cells; `target_sum` is None unless the head is for counts."""

    def head_weight(self, head: nn.Linear) -> Tensor:
        """Return the trained parameter of the head's weight, (g, h)."""
        return head.weight


class MLPDecoder(LinearDecoder):
    """Hidden layers between the latents and the head, which read batch and covariates: latents may interact."""

    additive = False

    def n_hidden(self, config: NetworkConfig, n_covariates: int) -> int:
        """Return the width of the last hidden layer."""
        return config.decoder_widths[-1]

    def module(self, config: NetworkConfig, n_batches_and_covariates: int) -> nn.Module:
        """Build the hidden layers."""
        return MLP((config.n_latent, *config.decoder_widths), config, n_covariates=n_batches_and_covariates)

    def decoder_covariates(self, batch: Minibatch) -> Tensor:
        """Return batch and covariates, (n, b + c)."""
        return batch.batch_and_covariates_nc


class NonNegativeLinearDecoder(LinearDecoder):
    """Each latent adds to a floor and has no effect below 0. Effects of covariates and batches may have either sign."""

    def init_head(self, head: nn.Linear, config: NetworkConfig) -> None:
        """Start with small effects of the latents and none of covariates and batches; do not train the floor."""
        with torch.no_grad():
            head.weight[:, : config.n_latent].normal_(INIT_MEAN, INIT_SD).abs_()
            head.weight[:, config.n_latent :] = 0
            head.bias.zero_().requires_grad_(False)
        parametrize.register_parametrization(head, "weight", AbsoluteColumns(config.n_latent))

    def init_from_data(
        self, head: nn.Linear, cells: Iterable[Tensor], n_latent: int, target_sum: float | None
    ) -> None:
        """Set the bias to the floor of the data and the effects to factors above it; in log fractions for a head for counts."""
        rows = [sparse.csr_matrix(x_ng.cpu().numpy()) for x_ng in cells]
        if not rows:
            return
        floor_g, effect_gk = nmf_init.floor_and_factors(sparse.vstack(rows, format="csr"), n_latent)
        if target_sum is not None:
            high_gk, floor_g = (
                np.log(np.expm1(y) / target_sum + MIN_FRACTION)
                for y in (floor_g[:, None] + effect_gk, floor_g)
            )
            effect_gk = high_gk - floor_g[:, None]
        with torch.no_grad():
            head.bias.copy_(torch.from_numpy(floor_g))
            self.head_weight(head)[:, : effect_gk.shape[1]] += torch.from_numpy(effect_gk).to(head.bias)

    def head_weight(self, head: nn.Linear) -> Tensor:
        """Return the trained parameter of the head's weight, (g, h)."""
        return head.get_parameter("parametrizations.weight.original")


DECODERS: dict[str, LinearDecoder] = {
    "mlp": MLPDecoder(),
    "linear": LinearDecoder(),
    "nonnegative-linear": NonNegativeLinearDecoder(),
}
"""The values of the setting decoder_type."""
