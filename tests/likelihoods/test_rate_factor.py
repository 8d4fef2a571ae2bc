"""How far a count moves its expected rate, beside numerical integration over the rate.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sparcell.likelihoods.gaussian import GaussianDistribution
from sparcell.likelihoods.negative_binomial import NegativeBinomialDistribution
from sparcell.likelihoods.poisson import PoissonDistribution
from sparcell.likelihoods.zero_inflated import ZeroInflatedDistribution

MEANS, R, DROP = (0.02, 0.7, 9.0), (0.3, 2.0, 1.5), -0.4
COUNTS = (0.0, 1.0, 6.0)


def tensor(values):
    return torch.tensor([values], dtype=torch.float64)


def expected_factor(mean, r, count, p_drop=0.0):
    """E[rate given count] / E[rate] for a gamma rate and a Poisson count, which is dropped with a probability."""
    prior = stats.gamma(r, scale=mean / r)

    def weight(rate):
        seen = (1 - p_drop) * stats.poisson.pmf(count, rate)
        return (seen + p_drop * (count == 0)) * prior.pdf(rate)

    upper = prior.ppf(1 - 1e-12) + 60
    pieces = np.concatenate([[0], np.geomspace(1e-12, upper, 60)])
    total, first = (
        sum(
            integrate.quad(lambda rate, power=power: rate**power * weight(rate), low, high)[0]
            for low, high in itertools.pairwise(pieces)
        )
        for power in (0, 1)
    )
    return first / total / mean


@pytest.mark.parametrize("count", COUNTS)
def test_negative_binomial(count):
    distribution = NegativeBinomialDistribution(tensor(MEANS).log(), tensor(R).log())
    factor_g = distribution.rate_factor(torch.full((1, 3), count, dtype=torch.float64))[0]
    expected = [expected_factor(mean, r, count) for mean, r in zip(MEANS, R, strict=True)]
    np.testing.assert_allclose(factor_g, expected, rtol=1e-3)


@pytest.mark.parametrize("count", COUNTS)
def test_zero_inflated(count):
    drop_ng = torch.full((1, 3), DROP, dtype=torch.float64)
    distribution = ZeroInflatedDistribution(tensor(MEANS).log(), tensor(R).log(), drop_ng)
    factor_g = distribution.rate_factor(torch.full((1, 3), count, dtype=torch.float64))[0]
    p_drop = float(torch.sigmoid(drop_ng[0, 0]))
    expected = [expected_factor(mean, r, count, p_drop) for mean, r in zip(MEANS, R, strict=True)]
    np.testing.assert_allclose(factor_g, expected, rtol=1e-3)


def test_without_overdispersion_the_count_says_nothing_about_the_rate():
    x_ng = tensor(COUNTS)
    for distribution in (PoissonDistribution(tensor(MEANS).log()), GaussianDistribution(tensor(MEANS), 0.5)):
        assert (distribution.rate_factor(x_ng) == 1).all()
