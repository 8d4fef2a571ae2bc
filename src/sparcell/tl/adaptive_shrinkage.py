"""Empirical-Bayes shrinkage of the estimates of many genes: posterior, probability of a large effect, expected false discovery rate.

Suffixes: g genes, c components of the prior.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

N_SCALES = 16
"""Standard deviations of the prior, from a tenth of the smallest standard error to twice the largest effect, beside the one of 0."""
NULL_PENALTY = 10.0
"""Genes that are added to the component "no effect", so that the prior errs on the side of no effect (Stephens 2017, eq. 2.9)."""
MAX_ITERATIONS, TOLERANCE = 500, 1e-6
"""The weights of the prior are found by expectation maximization: most steps, and the change of a weight that ends it."""
BISECTIONS = 50
SMALLEST = 1e-12


@dataclass(frozen=True)
class EffectPosterior:
    """Posterior of the effect of each gene: a mixture of normal distributions, (g, c) each."""

    weight_gc: Floats
    mean_gc: Floats
    sd_gc: Floats

    @property
    def mean(self) -> Floats:
        """Posterior mean of each effect, (g,)."""
        return np.asarray((self.weight_gc * self.mean_gc).sum(axis=1))

    @property
    def sd(self) -> Floats:
        """Posterior standard deviation of each effect, (g,)."""
        square_gc = self.sd_gc**2 + (self.mean_gc - self.mean[:, None]) ** 2
        return np.asarray(np.sqrt((self.weight_gc * square_gc).sum(axis=1)))

    def probability_beyond(self, delta: float) -> Floats:
        """Return P(|effect| > delta), (g,)."""
        above_gc = ndtr((self.mean_gc - delta) / self.sd_gc)
        below_gc = ndtr((-delta - self.mean_gc) / self.sd_gc)
        return np.asarray((self.weight_gc * (above_gc + below_gc)).sum(axis=1).clip(0, 1))

    def quantile(self, probability: float) -> Floats:
        """Return a quantile of each effect, (g,), by bisection."""
        low = (self.mean_gc - 10 * self.sd_gc).min(axis=1)
        high = (self.mean_gc + 10 * self.sd_gc).max(axis=1)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            below = (self.weight_gc * ndtr((middle[:, None] - self.mean_gc) / self.sd_gc)).sum(axis=1)
            low, high = (
                np.where(below < probability, middle, low),
                np.where(below < probability, high, middle),
            )
        return np.asarray((low + high) / 2)


def shrink(
    estimate_g: Floats,
    se_g: Floats,
    expected_g: Floats | None = None,
    expected_sd_g: Floats | None = None,
) -> EffectPosterior:
    """Return the posterior of effects whose prior is learned from all genes (adaptive shrinkage, Stephens 2017).

    estimate_g ~ N(effect_g, se_g²). The prior of an effect is a mixture of normal distributions around 0. With `expected_g` the mixture
    also has normal distributions around that prediction. The weights are those that make the estimates of all genes most likely; a gene
    whose estimate is uncertain is thus drawn to what most genes have.

    Parameters
    ----------
    estimate_g, se_g
        Estimate of each effect and its standard error, (g,), all above 0.
    expected_g, expected_sd_g
        Prediction of each effect that does not depend on the noise of the estimate, and the standard deviation of the prediction.

    Notes
    -----
    Source: Stephens, *False discovery rates: a new deal*, Biostatistics 18 (2017).

    Examples
    --------
    ::

        posterior = shrink(lfc_g, se_g)
        posterior.mean, posterior.probability_beyond(0.25)
    """
    zero_g = np.zeros_like(estimate_g)
    largest = np.sqrt(max(float((estimate_g**2 - se_g**2).max()), 0.0))
    smallest = max(float(se_g.min()) / 10, 1e-3)
    scale_c = np.concatenate([[0.0], np.geomspace(smallest, max(2 * largest, 2 * smallest), N_SCALES)])
    center_gc = np.repeat(zero_g[:, None], len(scale_c), axis=1)
    variance_gc = np.broadcast_to(scale_c**2, center_gc.shape)
    if expected_g is not None:
        spread_g = zero_g if expected_sd_g is None else expected_sd_g
        center_gc = np.concatenate([center_gc, np.repeat(expected_g[:, None], len(scale_c), axis=1)], axis=1)
        variance_gc = np.concatenate([variance_gc, scale_c**2 + spread_g[:, None] ** 2], axis=1)
    error_g1 = se_g[:, None] ** 2
    distance_gc = (estimate_g[:, None] - center_gc) ** 2 / (error_g1 + variance_gc)
    log_density_gc = -0.5 * (distance_gc + np.log(error_g1 + variance_gc))
    density_gc = np.exp(log_density_gc - log_density_gc.max(axis=1, keepdims=True))
    weight_gc = density_gc * _prior_weights(density_gc)
    weight_gc /= weight_gc.sum(axis=1, keepdims=True)
    share_gc = variance_gc / (error_g1 + variance_gc)
    mean_gc = center_gc + share_gc * (estimate_g[:, None] - center_gc)
    sd_gc = np.sqrt(share_gc * error_g1).clip(SMALLEST)
    return EffectPosterior(weight_gc, mean_gc, sd_gc)


def _prior_weights(density_gc: Floats) -> Floats:
    """Return the weights of the prior's components, (c,), by expectation maximization. The first one is "no effect"."""
    weight_c = np.full(density_gc.shape[1], 1 / density_gc.shape[1])
    for _ in range(MAX_ITERATIONS):
        joint_gc = density_gc * weight_c
        total_c = (joint_gc / joint_gc.sum(axis=1, keepdims=True)).sum(axis=0)
        total_c[0] += NULL_PENALTY
        change = np.abs(total_c / total_c.sum() - weight_c).max()
        weight_c = total_c / total_c.sum()
        if change < TOLERANCE:
            break
    return np.asarray(weight_c)


def expected_fdr(probability_g: Floats) -> Floats:
    """Return for each gene the expected share of false discoveries among the genes that are at least as probable, (g,).

    This is the posterior expected false discovery rate: the mean of 1 - probability over those genes (Newton et al. 2004).

    Examples
    --------
    ::

        is_de = expected_fdr(posterior.probability_beyond(0.25)) <= 0.05
    """
    order = np.argsort(-probability_g, kind="stable")
    fdr_g = np.empty(len(probability_g))
    fdr_g[order] = np.cumsum(1 - probability_g[order]) / np.arange(1, len(order) + 1)
    return fdr_g
