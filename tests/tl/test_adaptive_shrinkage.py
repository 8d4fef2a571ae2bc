"""The posterior of many effects, beside numerical integration, and its error rate, beside a small case by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from sparcell.tl.adaptive_shrinkage import EffectPosterior, expected_fdr, shrink


@pytest.fixture
def mixture():
    """Three components for two genes."""
    return EffectPosterior(
        np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]]),
        np.array([[0.0, 0.4, -1.0], [0.1, 2.0, 0.3]]),
        np.array([[0.1, 0.3, 0.5], [0.2, 0.4, 1.0]]),
    )


def density(mixture, gene, x):
    return float(mixture.weight_gc[gene] @ stats.norm.pdf(x, mixture.mean_gc[gene], mixture.sd_gc[gene]))


@pytest.mark.parametrize("gene", [0, 1])
def test_moments_probability_and_quantiles_agree_with_integrals(mixture, gene):
    def integral(function, low=-9.0, high=9.0):
        pieces = np.linspace(low, high, 19)
        return sum(integrate.quad(function, *pair)[0] for pair in pairwise(pieces))

    mean = integral(lambda x: x * density(mixture, gene, x))
    square = integral(lambda x: (x - mean) ** 2 * density(mixture, gene, x))
    inside = integral(lambda x: density(mixture, gene, x), -0.25, 0.25)
    assert mixture.mean[gene] == pytest.approx(mean)
    assert mixture.sd[gene] == pytest.approx(np.sqrt(square))
    assert mixture.probability_beyond(0.25)[gene] == pytest.approx(1 - inside)

    def cdf(x):
        return float(mixture.weight_gc[gene] @ stats.norm.cdf(x, mixture.mean_gc[gene], mixture.sd_gc[gene]))

    for probability in (0.025, 0.5, 0.975):
        expected = optimize.brentq(lambda x, p=probability: cdf(x) - p, -9, 9)
        assert mixture.quantile(probability)[gene] == pytest.approx(expected, abs=1e-8)


def test_the_posterior_of_normal_effects_is_that_of_the_normal_distribution():
    """Effects from N(0, 1), half of the variance of an estimate: the best estimate is half of it (conjugate prior)."""
    rng = np.random.default_rng(0)
    effect_g = rng.standard_normal(20_000)
    estimate_g = effect_g + rng.standard_normal(20_000)
    posterior = shrink(estimate_g, np.ones(20_000))
    assert np.sqrt(np.mean((posterior.mean - estimate_g / 2) ** 2)) < 0.1
    assert posterior.sd.mean() == pytest.approx(np.sqrt(0.5), rel=0.05)
    low, high = posterior.quantile(0.025), posterior.quantile(0.975)
    assert ((low < effect_g) & (effect_g < high)).mean() == pytest.approx(0.95, abs=0.01)


def test_the_expected_error_is_the_true_error_where_most_effects_are_nothing():
    rng = np.random.default_rng(1)
    effect_g = np.where(rng.random(20_000) < 0.1, 2 * rng.standard_normal(20_000), 0)
    se_g = rng.uniform(0.1, 1, 20_000)
    posterior = shrink(effect_g + se_g * rng.standard_normal(20_000), se_g)
    called = expected_fdr(posterior.probability_beyond(0.25)) <= 0.05
    assert called.sum() > 500
    assert (np.abs(effect_g[called]) <= 0.25).mean() < 0.06


def test_noise_alone_gives_no_probable_effect():
    se_g = np.linspace(0.1, 1, 3000)
    posterior = shrink(se_g * np.random.default_rng(2).standard_normal(3000), se_g)
    assert posterior.probability_beyond(0.25).max() < 0.5


def test_a_good_prediction_makes_estimates_better_and_a_useless_one_does_not_harm():
    rng = np.random.default_rng(3)
    effect_g, se_g = rng.standard_normal(5000), np.full(5000, 0.7)
    estimate_g = effect_g + se_g * rng.standard_normal(5000)

    def error(*prediction):
        return np.mean((shrink(estimate_g, se_g, *prediction).mean - effect_g) ** 2)

    good = effect_g + 0.3 * rng.standard_normal(5000), np.full(5000, 0.3)
    useless = rng.standard_normal(5000), np.full(5000, 0.3)
    assert error(*good) < 0.5 * error()
    assert error(*useless) < 1.05 * error()


def test_the_expected_false_discovery_rate_by_hand():
    np.testing.assert_allclose(expected_fdr(np.array([0.5, 1.0, 0.9])), [0.2, 0.0, 0.05])
