"""KL, draws and gradients of the posteriors, against quadrature, closed forms and many draws."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, special, stats

from helpers.cells import generator
from helpers.posteriors import (
    GAUSSIANS,
    N_DRAWS,
    TEMPERATURE,
    assert_mean_near,
    column,
    gaussian,
    spike_slab,
    spike_slab_of,
)
from sparcell.models.beta_vae import GaussianPosterior
from sparcell.models.spike_slab import GATES

LOGITS = [-8.0, -2.0, 0.0, 0.8, 8.0]


def slab_integral(mu, sigma, weight, prior_weight):
    """Return ∫ w q log(w q / (w₀ p)) dz over the parts that have a density, by quadrature."""
    q, p = stats.norm(mu, sigma), stats.norm(0, 1)

    def integrand(z):
        return weight * q.pdf(z) * (math.log(weight / prior_weight) + q.logpdf(z) - p.logpdf(z))

    value, _ = integrate.quad(integrand, mu - 12 * sigma, mu + 12 * sigma, epsabs=1e-12, limit=200)
    return value


@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_gaussian_kl_is_the_integral_by_quadrature(mu, sigma):
    assert gaussian(mu, sigma).kl().item() == pytest.approx(slab_integral(mu, sigma, 1, 1), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_spike_and_slab_kl_is_the_spike_exactly_and_the_slab_by_quadrature(mu, sigma, logit, alpha):
    gamma = 1 / (1 + math.exp(-logit))
    off = (1 - gamma) * math.log((1 - gamma) / (1 - alpha))
    expected = off + slab_integral(mu, sigma, gamma, alpha)
    assert spike_slab(mu, sigma, logit, alpha=alpha).kl().item() == pytest.approx(expected, abs=1e-9)


def test_kl_is_zero_at_the_prior_and_only_there():
    assert gaussian(0, 1).kl().item() == 0
    logit = math.log(0.3 / 0.7)
    assert spike_slab(0, 1, logit).kl().item() == pytest.approx(0, abs=1e-15)
    for other in (spike_slab(0.1, 1, logit), spike_slab(0, 0.9, logit), spike_slab(0, 1, logit + 0.1)):
        assert other.kl().item() > 1e-4


@pytest.mark.parametrize("logit", [-60.0, -8.0, 8.0, 60.0])
def test_spike_kl_and_its_gradient_stay_finite_in_single_precision(logit):
    leaf = torch.full((1, 1), logit, requires_grad=True)
    zero = torch.zeros(1, 1)
    spike_slab_of(zero, zero, leaf, 0.01, TEMPERATURE).kl().sum().backward()
    expected = math.log(0.99 if logit < 0 else 0.01)
    kl = spike_slab_of(zero, zero, leaf.detach(), 0.01, TEMPERATURE).kl().item()
    assert kl == pytest.approx(-expected, abs=0.02)
    assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_gaussian_draws_have_the_moments_of_the_posterior(mu, sigma):
    posterior = gaussian(mu, sigma, N_DRAWS)
    z = posterior.rsample(generator()).numpy()
    assert posterior.mean[0].item() == mu
    assert_mean_near(z, mu)
    assert_mean_near(z**2, mu**2 + sigma**2)


@pytest.mark.parametrize("logit", [-2.0, 0.0, 3.0])
@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_spike_slab_draws_have_the_moments_of_the_posterior_and_exact_zeros(mu, sigma, logit):
    posterior = spike_slab(mu, sigma, logit, N_DRAWS)
    gamma = 1 / (1 + math.exp(-logit))
    z = posterior.rsample(generator()).numpy()
    assert posterior.gamma[0].item() == pytest.approx(gamma, rel=1e-12)
    assert posterior.mean[0].item() == pytest.approx(gamma * mu, rel=1e-12)
    assert_mean_near(z == 0, 1 - gamma)
    assert_mean_near(z, gamma * mu)
    assert_mean_near(z**2, gamma * (mu**2 + sigma**2))
    assert stats.kstest(z[z != 0][:20_000], stats.norm(mu, sigma).cdf).pvalue > 1e-4


def test_gaussian_gradients_average_to_the_gradient_of_the_expectation():
    """f(z) = sin z + z²: E f = sin(mu) exp(-sigma²/2) + mu² + sigma²."""
    mu, sigma = 0.7, 0.6
    posterior = gaussian(mu, sigma, N_DRAWS)
    for leaf in (posterior.mean, posterior.log_sigma):
        leaf.requires_grad_()
    z = posterior.rsample(generator())
    (z.sin() + z**2).sum().backward()
    damped = math.exp(-(sigma**2) / 2)
    assert_mean_near(posterior.mean.grad, math.cos(mu) * damped + 2 * mu)
    assert_mean_near(posterior.log_sigma.grad, sigma**2 * (2 - math.sin(mu) * damped))


def test_gaussian_gradients_pass_gradcheck():
    inputs = [column(0.7, 5).requires_grad_(), column(-0.4, 5).requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda mu, log_sigma: GaussianPosterior(mu, log_sigma).rsample(generator()), inputs
    )


def test_slab_gradients_average_to_the_gradient_of_the_expectation():
    """f(z) = z² : E f = gamma (mu² + sigma²); the gate's draw does not depend on the slab, so there is no bias."""
    mu, sigma, logit = 0.7, 0.6, 0.5
    posterior = spike_slab(mu, sigma, logit, N_DRAWS)
    for leaf in (posterior.mu, posterior.log_sigma):
        leaf.requires_grad_()
    posterior.rsample(generator()).square().sum().backward()
    gamma = 1 / (1 + math.exp(-logit))
    assert_mean_near(posterior.mu.grad, gamma * 2 * mu)
    assert_mean_near(posterior.log_sigma.grad, gamma * 2 * sigma**2)


@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_the_mean_log_ratio_of_gaussian_draws_is_the_kl(mu, sigma):
    posterior = gaussian(mu, sigma, N_DRAWS)
    assert_mean_near(posterior.log_ratio(posterior.sample(generator())), posterior.kl()[0].item())


@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_the_mean_log_ratio_of_spike_slab_draws_is_the_kl(mu, sigma, logit):
    posterior = spike_slab(mu, sigma, logit, N_DRAWS)
    assert_mean_near(posterior.log_ratio(posterior.sample(generator())), posterior.kl()[0].item())


def test_log_ratios_add_up_over_latents():
    wide = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    for many, one in (
        (GaussianPosterior(wide, wide - 1), lambda k: GaussianPosterior(wide[:, k], wide[:, k] - 1)),
        (
            spike_slab_of(wide, wide - 1, wide, 0.3, 0.5),
            lambda k: spike_slab_of(wide[:, k], wide[:, k] - 1, wide[:, k], 0.3, 0.5),
        ),
    ):
        z = torch.tensor([[0.4, 0.0, -1.0]], dtype=torch.float64)
        parts = [one(slice(k, k + 1)).log_ratio(z[:, k : k + 1]) for k in range(3)]
        torch.testing.assert_close(many.log_ratio(z), sum(parts))
        assert many.log_ratio(z).shape == (1,)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("logit", [-2.0, 0.0, 3.0])
@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_sample_draws_from_the_posterior_whatever_the_gate(mu, sigma, logit, gate):
    values = [column(value, N_DRAWS) for value in (mu, math.log(sigma), logit)]
    posterior = spike_slab_of(*values, 0.3, 2 / 3, gate)
    z, gamma = posterior.sample(generator()).numpy(), special.expit(logit)
    assert_mean_near(z == 0, 1 - gamma)
    assert_mean_near(z, gamma * mu)
    assert_mean_near(z**2, gamma * (mu**2 + sigma**2))
    assert stats.kstest(z[z != 0][:20_000], stats.norm(mu, sigma).cdf).pvalue > 1e-4
