"""Latents whose effects add up: no hidden layer stands between the code and the head.

Of cell n and gene g the head then gives  bias_g + Σ_k z_nk W_gk + Σ_c covariate_nc W_gc + Σ_b batch_nb W_gb,  for counts the logarithm
of a share up to a constant a cell: each latent raises or lowers the logarithm of each gene by an amount of its own, whatever the other
latents do. Where no effect may be negative, bias_g is the floor of the data (`start`) and stays.

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

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.settings import NetworkConfig
    from sparcell.protocols import Batch

START, SPREAD = 0.01, 0.003
"""Mean and standard deviation of effects that must not be negative when training begins: so small that latents differ by what they
learn and not by how they began."""
LEAST_SHARE = 1e-6
"""Of a cell's counts, for a gene that some kind of cell does not express at all: a hundredth of a count in 10,000."""


class Beside(nn.Module):
    """A decoder without weights: the code, and beside it what is known of the cells."""

    def forward(self, z_nk: Tensor, known_nc: Tensor) -> Tensor:
        """Join the two, (n, k + c)."""
        return torch.cat([z_nk, known_nc], dim=1)


class NotNegative(nn.Module):
    """|v| of the first `n_latent` columns of a weight, the others as they are.

    Unlike exp or softplus it reaches 0, and unlike a cut at 0 its slope is ±1 on either side, so that an effect which fell to 0 can rise.
    """

    def __init__(self, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent

    def forward(self, trained_gh: Tensor) -> Tensor:
        """Give the weight that the head uses."""
        return torch.cat([trained_gh[:, : self.n_latent].abs(), trained_gh[:, self.n_latent :]], dim=1)

    def right_inverse(self, weight_gh: Tensor) -> Tensor:
        """Give what is trained, from a weight."""
        return weight_gh


class Additive:
    """Each latent adds to the head's output; effects of either sign."""

    def n_hidden(self, config: NetworkConfig, n_others: int) -> int:
        """Count what the head reads besides the batch."""
        return config.n_latent + n_others

    def decoder(self, config: NetworkConfig, n_known: int) -> nn.Module:
        """Build what stands between the code and the head."""
        return Beside()

    def told(self, batch: Batch) -> Tensor:
        """Choose what the decoder is told of the cells besides their code, (n, c); the batch joins behind it."""
        return batch.covariates_nc

    def prepare(self, head: nn.Linear, config: NetworkConfig) -> None:
        """Make the head one of this kind."""

    def begin(
        self, head: nn.Linear, cells: Iterable[Tensor], n_latent: int, target_sum: float | None
    ) -> None:
        """Begin from the log-normalised expression (n, g) of some cells that train; `target_sum` a cell where the head is of counts."""

    def trained(self, head: nn.Linear) -> Tensor:
        """Return the parameter behind the head's weight, (g, h)."""
        return head.weight


class NonNegative(Additive):
    """Each latent adds to a floor, and none of its effects is negative; covariates and batches are free."""

    def prepare(self, head: nn.Linear, config: NetworkConfig) -> None:
        """Begin with small effects, those of covariates and batches with none, and keep the floor where it is put."""
        with torch.no_grad():
            head.weight[:, : config.n_latent].normal_(START, SPREAD).abs_()
            head.weight[:, config.n_latent :] = 0
            head.bias.zero_().requires_grad_(False)
        parametrize.register_parametrization(head, "weight", NotNegative(config.n_latent))

    def begin(
        self, head: nn.Linear, cells: Iterable[Tensor], n_latent: int, target_sum: float | None
    ) -> None:
        """Put the bias to the floor of the data and the effects to parts above it: a share's logarithm where the head is of counts."""
        rows = [sparse.csr_matrix(x_ng.cpu().numpy()) for x_ng in cells]
        if not rows:
            return
        floor_g, effect_gk = nmf_init.floor_and_parts(sparse.vstack(rows, format="csr"), n_latent)
        if target_sum is not None:
            high_gk, floor_g = (
                np.log(np.expm1(y) / target_sum + LEAST_SHARE)
                for y in (floor_g[:, None] + effect_gk, floor_g)
            )
            effect_gk = high_gk - floor_g[:, None]
        with torch.no_grad():
            head.bias.copy_(torch.from_numpy(floor_g))
            self.trained(head)[:, : effect_gk.shape[1]] += torch.from_numpy(effect_gk).to(head.bias)

    def trained(self, head: nn.Linear) -> Tensor:
        """Return the parameter behind the head's weight, (g, h)."""
        return head.get_parameter("parametrizations.weight.original")
