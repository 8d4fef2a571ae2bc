"""Multilayer perceptrons whose first layer can read sparse cells.

Suffixes: n cells, h hidden units, c covariates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from sparcell import kernels
from sparcell.nn.noise import uniform
from sparcell.protocols import SparseRows, SparseRowsPlusDelta

if TYPE_CHECKING:
    from torch import Tensor

    from sparcell.config.model import NetworkConfig
    from sparcell.protocols import Noise


def dropout(x: Tensor, fraction: float, noise: Noise | None) -> Tensor:
    """Set a fraction of the values to 0 and scale the others up to keep the expected sum; unchanged without noise."""
    if noise is None or fraction == 0:
        return x
    kept = uniform(x, noise, dtype=x.dtype).ge_(fraction)
    return x * kept.div_(1 - fraction)


class MLP(nn.Module):
    """Linear layers, each with normalization, a ReLU and dropout. Covariates join the input of every layer.

    With `linear_first` and no normalization the first layer is linear, as in the 2019 study's encoder.
    """

    def __init__(
        self, widths: Sequence[int], config: NetworkConfig, *, n_covariates: int, linear_first: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number, (n_in, n_out) in enumerate(pairwise(widths)):
            parts: list[nn.Module] = [nn.Linear(n_in + n_covariates, n_out)]
            if config.normalization != "none":
                parts.append(nn.LayerNorm(n_out))
            if number > 0 or not linear_first or config.normalization != "none":
                parts.append(nn.ReLU())
            self.layers.append(nn.Sequential(*parts))
        self.dropout = config.dropout if linear_first else 0.0

    @property
    def first(self) -> nn.Linear:
        """The layer that reads the input."""
        return cast("nn.Linear", cast("nn.Sequential", self.layers[0])[0])

    def forward(
        self,
        x: Tensor | SparseRows | SparseRowsPlusDelta,
        covariates_nc: Tensor,
        noise: Noise | None = None,
    ) -> Tensor:
        """Pass through all layers, (n, h). Units are dropped only in training, by draws from `noise`."""
        for layer in cast("Iterable[nn.Sequential]", self.layers):
            first, *parts = layer
            linear = cast("nn.Linear", first)
            if isinstance(x, SparseRows | SparseRowsPlusDelta):
                h_nh = sparse_forward(linear, x, covariates_nc)
            else:
                joined = torch.cat([x, covariates_nc], dim=1) if covariates_nc.shape[1] else x
                h_nh = linear(joined)
            for part in parts:
                h_nh = part(h_nh)
            x = dropout(h_nh, self.dropout, noise if self.training else None)
        return cast("Tensor", x)


def sparse_forward(layer: nn.Linear, x: SparseRows | SparseRowsPlusDelta, covariates_nc: Tensor) -> Tensor:
    """Pass sparse cells and their covariates through a linear layer, (n, h)."""
    n_genes = layer.in_features - covariates_nc.shape[1]
    out_nh = kernels.sparse_linear(x, layer.weight[:, :n_genes], layer.bias)
    return out_nh + covariates_nc @ layer.weight[:, n_genes:].t() if covariates_nc.shape[1] else out_nh


def posterior_head(n_features: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """Build the layers from the encoder to one parameter of the posterior: a ReLU layer (none with n_hidden 0) and a linear one."""
    if n_hidden == 0:
        return nn.Sequential(nn.Linear(n_features, n_out))
    return nn.Sequential(nn.Linear(n_features, n_hidden), nn.ReLU(), nn.Linear(n_hidden, n_out))
