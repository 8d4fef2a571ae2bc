"""Cumulative probabilities of observed values, for residuals and checks of a fit.

Suffixes: n cells, g genes, m counts above 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.float64]
    AtCounts = Callable[[Tensor], Floats]


def of_counts(
    x_ng: Tensor, log_prob_ng: Tensor, below: Callable[[Floats, AtCounts], Floats]
) -> tuple[Floats, Floats]:
    """Return P(X < x) and P(X ≤ x) of each count, (n, g).

    `below` returns P(X < x) of the counts above 0, (m,), which are few. Its arguments are these counts, and a function that picks the
    values of these counts from a tensor of shape (n, g) or (1, g). P(X < 0) is 0, and P(X ≤ x) = P(X < x) + P(X = x).
    """
    position = x_ng.nonzero(as_tuple=True)

    def at_counts(values: Tensor) -> Floats:
        return np.asarray(values.expand_as(x_ng)[position].cpu().numpy(), dtype=np.float64)

    low_ng = np.zeros(x_ng.shape)
    low_ng[tuple(index.cpu().numpy() for index in position)] = below(at_counts(x_ng), at_counts)
    high_ng = low_ng + log_prob_ng.exp().cpu().numpy()
    return low_ng, high_ng.clip(0, 1)


def negative_binomial_below(x_m: Floats, mean_m: Floats, r_m: Floats) -> Floats:
    """Return P(X < x) of negative-binomial counts x ≥ 1: the regularized incomplete beta function I_p(r, x), p = r / (r + mean).

    Source: DLMF 8.17.24 (National Institute of Standards and Technology).
    """
    return np.asarray(special.betainc(r_m, x_m, r_m / (r_m + mean_m)))


def poisson_below(x_m: Floats, mean_m: Floats) -> Floats:
    """Return P(X < x) of Poisson counts x ≥ 1: the regularized upper incomplete gamma function Q(x, mean). Source: DLMF 8.4.10."""
    return np.asarray(special.gammaincc(x_m, mean_m))


def of_normal(x_ng: Tensor, mean_ng: Tensor, variance: float) -> tuple[Floats, Floats]:
    """Return P(X < x) and P(X ≤ x) of normal values, (n, g), which are equal."""
    below_ng = np.asarray(
        torch.special.ndtr((x_ng - mean_ng) / variance**0.5).cpu().numpy(), dtype=np.float64
    )
    return below_ng, below_ng
