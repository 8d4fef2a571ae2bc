"""The Gaussian likelihood with a fixed and with the analytic variance.

Suffixes: n cells, g genes, h hidden units.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from helpers.cells import cells, generator
from helpers.likelihoods import (
    N_GENES,
    N_HIDDEN,
    hidden,
    random_counts,
    random_likelihood,
)
from sparcell.config.model import LikelihoodConfig
from sparcell.config.presets import STUDY_2019
from sparcell.likelihoods import Gaussian
from sparcell.likelihoods.gaussian import MIN_VARIANCE, RUNNING_DECAY


def fixed_gaussian(n_hidden, n_genes, variance):
    likelihood = Gaussian(n_hidden, n_genes, 0, LikelihoodConfig(gaussian_variance=variance)).double()
    source = generator(5)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    h_nh = torch.randn(6, n_hidden, generator=source, dtype=torch.float64)
    x_ng = torch.randn(6, n_genes, generator=source, dtype=torch.float64) * 3
    return likelihood, h_nh, x_ng


@pytest.mark.parametrize("variance", [0.5, 0.01, 7.0])
def test_nll_and_log_prob_are_those_of_scipy(variance):
    likelihood, h_nh, x_ng = fixed_gaussian(3, 4, variance)
    with torch.no_grad():
        nll_n = likelihood.nll(h_nh, cells(x_ng)).numpy()
        distribution = likelihood.distribution(h_nh, cells(x_ng))
        mean_ng = h_nh.numpy() @ likelihood.head.weight.numpy().T + likelihood.head.bias.numpy()
    log_prob_ng = stats.norm(mean_ng, math.sqrt(variance)).logpdf(x_ng.numpy())
    np.testing.assert_allclose(distribution.mean.numpy(), mean_ng, rtol=1e-12)
    np.testing.assert_allclose(distribution.log_prob(x_ng).numpy(), log_prob_ng, rtol=1e-10)
    np.testing.assert_allclose(nll_n, -log_prob_ng.sum(axis=1), rtol=1e-10)


def test_the_density_integrates_to_one():
    likelihood, h_nh, _ = fixed_gaussian(3, 1, 0.7)
    grid = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    with torch.no_grad():
        nll = likelihood.nll(h_nh[:1].expand(len(grid), 3), cells(grid[:, None]))
    assert torch.trapezoid((-nll).exp(), grid).item() == pytest.approx(1, abs=1e-9)


def test_gradients_pass_gradcheck():
    likelihood, h_nh, x_ng = fixed_gaussian(3, 4, 0.7)
    weight, bias = likelihood.head.weight, likelihood.head.bias
    assert torch.autograd.gradcheck(
        lambda h, *_: likelihood.nll(h, cells(x_ng)), (h_nh.requires_grad_(), weight, bias)
    )


def test_with_the_study_2019_variance_the_nll_is_the_sum_of_squares_plus_a_constant():
    likelihood, h_nh, x_ng = fixed_gaussian(3, 4, STUDY_2019["gaussian_variance"])
    with torch.no_grad():
        nll_n = likelihood.nll(h_nh, cells(x_ng))
        squares_n = (likelihood.head(h_nh) - x_ng).square().sum(dim=1)
    np.testing.assert_allclose((nll_n - squares_n).numpy(), 4 * 0.5 * math.log(math.pi), rtol=1e-9)


def test_draws_have_the_moments_of_the_distribution_and_come_from_the_generator():
    likelihood, h_nh, x_ng = fixed_gaussian(3, 2, 0.7)
    with torch.no_grad():
        many = likelihood.distribution(h_nh[:1].expand(100_000, 3), cells(x_ng))
        state = torch.get_rng_state()
        x_ng = many.sample(generator(0))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(x_ng, many.sample(generator(0)))
    for gene in range(2):
        expected = stats.norm(many.mean[0, gene].item(), math.sqrt(0.7))
        assert stats.kstest(x_ng[:, gene].numpy(), expected.cdf).pvalue > 1e-4


def analytic(dtype=torch.float64):
    return random_likelihood("gaussian", gaussian_variance="analytic", dtype=dtype)


def squares(likelihood, h_nh, x_ng):
    return (likelihood.head(h_nh) - x_ng).square()


def test_the_analytic_variance_is_the_mean_squared_error_of_the_step():
    likelihood, h_nh, batch = analytic(), hidden(), cells(random_counts())
    with torch.no_grad():
        error = squares(likelihood, h_nh, batch.x_ng).mean().item()
        nll = likelihood.train().nll(h_nh, batch).mean().item()
        mean_ng = likelihood.head(h_nh).numpy()
    expected = -stats.norm(mean_ng, math.sqrt(error)).logpdf(batch.x_ng.numpy()).sum(axis=1).mean()
    assert nll == pytest.approx(expected, rel=1e-12)
    assert nll == pytest.approx(0.5 * N_GENES * (math.log(2 * math.pi * error) + 1), rel=1e-12)


@pytest.mark.parametrize("factor", [0.5, 0.9, 0.99, 1.01, 1.1, 2.0])
def test_the_analytic_variance_maximizes_the_likelihood_of_the_step(factor):
    likelihood, h_nh, batch = analytic(), hidden(), cells(random_counts())
    with torch.no_grad():
        best = likelihood.train().nll(h_nh, batch).mean().item()
        error = squares(likelihood, h_nh, batch.x_ng).mean().item()
        other = random_likelihood("gaussian", gaussian_variance=factor * error)
        other.head.load_state_dict(likelihood.head.state_dict())
        assert other.nll(h_nh, batch).mean().item() > best


def test_the_analytic_variance_gives_the_gradient_of_the_fixed_optimum():
    """A step then weighs the squares as a Gaussian of the best variance does, whatever the units (σ-VAE)."""
    likelihood, batch = analytic(), cells(random_counts())
    h_nh = hidden().requires_grad_()
    likelihood.train().nll(h_nh, batch).mean().backward()
    error = squares(likelihood, h_nh, batch.x_ng).mean().item()
    other = random_likelihood("gaussian", gaussian_variance=error)
    h_other_nh = hidden().requires_grad_()
    other.nll(h_other_nh, batch).mean().backward()
    torch.testing.assert_close(h_nh.grad, h_other_nh.grad)
    assert torch.autograd.gradcheck(lambda h: likelihood.nll(h, batch).mean(), hidden().requires_grad_())


@pytest.mark.parametrize("unit", [0.01, 1.0, 100.0])
def test_in_other_units_the_analytic_nll_differs_by_a_constant(unit):
    """Beta then weighs the KL against the reconstruction the same way in all units."""
    likelihood, h_nh, batch = analytic(), hidden(), cells(random_counts())
    scaled = analytic()
    with torch.no_grad():
        for one, other in zip(scaled.parameters(), likelihood.parameters(), strict=True):
            one.copy_(other * unit)
        plain, changed = (
            model.train().nll(h, cells(x)).mean().item()
            for model, h, x in ((likelihood, h_nh, batch.x_ng), (scaled, h_nh, batch.x_ng * unit))
        )
    assert changed - plain == pytest.approx(N_GENES * math.log(unit), abs=1e-9)


def test_after_training_the_running_variance_is_used():
    likelihood, h_nh, batch = analytic(), hidden(), cells(random_counts())
    expected = None
    assert likelihood.variance == 1
    with torch.no_grad():
        likelihood.train()
        for step in range(5):
            x_ng = batch.x_ng * (step + 1)
            now = squares(likelihood, h_nh, x_ng).mean().item()
            expected = now if expected is None else RUNNING_DECAY * expected + (1 - RUNNING_DECAY) * now
            likelihood.nll(h_nh, cells(x_ng))
        likelihood.eval()
        assert likelihood.variance == pytest.approx(expected, rel=1e-6)
        nll_n = likelihood.nll(h_nh, batch)
        assert likelihood.variance == pytest.approx(expected, rel=1e-6)  # unchanged in evaluation
        mean_ng = likelihood.head(h_nh).numpy()
        distribution = likelihood.distribution(h_nh, batch)
    log_prob_ng = stats.norm(mean_ng, math.sqrt(likelihood.variance)).logpdf(batch.x_ng.numpy())
    np.testing.assert_allclose(nll_n, -log_prob_ng.sum(axis=1), rtol=1e-9)
    np.testing.assert_allclose(distribution.log_prob(batch.x_ng), log_prob_ng, rtol=1e-9)


def test_a_perfect_reconstruction_has_a_finite_nll():
    likelihood, h_nh = analytic(torch.float32), hidden(torch.float32)
    x_ng = likelihood.head(h_nh).detach()
    nll = likelihood.train().nll(h_nh, cells(x_ng)).mean()
    assert nll.item() == pytest.approx(0.5 * N_GENES * math.log(2 * math.pi * MIN_VARIANCE), rel=1e-5)
    nll.backward()
    assert torch.isfinite(likelihood.head.weight.grad).all()


def test_the_running_variance_is_saved_only_if_it_is_analytic():
    likelihood = analytic()
    likelihood.running.fill_(0.37)
    other = Gaussian(N_HIDDEN, N_GENES, 0, LikelihoodConfig(gaussian_variance="analytic"))
    other.load_state_dict(likelihood.state_dict())
    assert other.variance == pytest.approx(0.37)
    assert set(random_likelihood("gaussian").state_dict()) == {"head.weight", "head.bias"}
    assert not list(set(dict(likelihood.named_parameters())) - {"head.weight", "head.bias"})
