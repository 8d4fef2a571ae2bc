"""Cumulative probabilities beside scipy's distributions and sums of probabilities.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from sparcell.likelihoods.gaussian import GaussianDistribution
from sparcell.likelihoods.negative_binomial import NegativeBinomialDistribution
from sparcell.likelihoods.poisson import PoissonDistribution
from sparcell.likelihoods.zero_inflated import ZeroInflatedDistribution

MEAN = torch.tensor([[0.01, 0.8, 12.0, 300.0]], dtype=torch.float64)
R = torch.tensor([[0.2, 1.7, 5.0, 1e5]], dtype=torch.float64)
DROP = torch.tensor([[-3.0, 0.0, 1.0, -1.0]], dtype=torch.float64)
X = torch.tensor([[0, 0, 0, 250], [1, 2, 9, 300], [4, 1, 40, 410]], dtype=torch.float64)
CASES = {
    "poisson": (PoissonDistribution(MEAN.log()), stats.poisson(MEAN.numpy()).cdf),
    "nb": (
        NegativeBinomialDistribution(MEAN.log(), R.log()),
        stats.nbinom(R.numpy(), (R / (R + MEAN)).numpy()).cdf,
    ),
    "zinb": (
        ZeroInflatedDistribution(MEAN.log(), R.log(), DROP),
        lambda x_ng: (
            (x_ng >= 0)
            * (
                DROP.sigmoid().numpy()
                + (1 - DROP.sigmoid().numpy()) * stats.nbinom(R.numpy(), (R / (R + MEAN)).numpy()).cdf(x_ng)
            )
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_counts_beside_scipy(name):
    distribution, cdf = CASES[name]
    low_ng, high_ng = distribution.cumulative(X)
    np.testing.assert_allclose(high_ng, cdf(X.numpy()), rtol=1e-9)
    np.testing.assert_allclose(low_ng, cdf(X.numpy() - 1), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("name", CASES)
def test_counts_beside_sums_of_their_probabilities(name):
    distribution = CASES[name][0]
    for x in (0, 1, 7, 30):
        every = [
            distribution.log_prob(torch.full((1, 4), float(y), dtype=torch.float64)).exp()
            for y in range(x + 1)
        ]
        low_ng, high_ng = distribution.cumulative(torch.full((1, 4), float(x), dtype=torch.float64))
        np.testing.assert_allclose(high_ng, sum(every), rtol=1e-8)
        np.testing.assert_allclose(low_ng, sum(every[:-1], torch.zeros(1, 4)), rtol=1e-8, atol=1e-300)


def test_single_precision_keeps_intervals_in_order():
    for distribution in (
        NegativeBinomialDistribution(MEAN.float().log(), R.float().log()),
        PoissonDistribution(MEAN.float().log()),
    ):
        low_ng, high_ng = distribution.cumulative(X.float())
        assert (low_ng >= 0).all()
        assert (high_ng >= low_ng).all()
        assert (high_ng <= 1).all()


def test_normal_values_have_no_atoms():
    x_ng = torch.tensor([[-1.0, 0.3], [2.0, 5.0]], dtype=torch.float64)
    mean_ng = torch.tensor([[0.0, 0.3], [1.0, 1.0]], dtype=torch.float64)
    low_ng, high_ng = GaussianDistribution(mean_ng, 0.49).cumulative(x_ng)
    np.testing.assert_allclose(low_ng, stats.norm(mean_ng.numpy(), 0.7).cdf(x_ng.numpy()))
    np.testing.assert_array_equal(low_ng, high_ng)
