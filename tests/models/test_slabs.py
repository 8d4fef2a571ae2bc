"""The softplus-normal slab against scipy: its density, its KL by quadrature, its draws and its mean."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from helpers.cells import generator
from helpers.posteriors import N_DRAWS, assert_mean_near, column
from sparcell.models import MODELS
from sparcell.models.spike_slab import GATES, SLABS, Prior, SpikeSlab

SOFTPLUS = SLABS["softplus-normal"]


SLAB_GAUSSIANS = [(0.0, 1.0), (0.7, 0.4), (-2.5, 1.2), (3.0, 0.05)]


def posterior(
    mu, sigma, logit, n_cells=1, *, alpha=0.3, prior_mu=0.0, prior_sigma=1.0, gate="straight-through"
):
    values = (prior_mu, math.log(prior_sigma), special.logit(alpha))
    prior = Prior(*map(column, values), torch.zeros(1, dtype=torch.float64), SOFTPLUS)
    return SpikeSlab(
        *(column(value, n_cells) for value in (mu, math.log(sigma), logit)),
        prior,
        lambda at, source: GATES[gate](at, 0.2, 1.0, source),
    )


def pdf(z, mu, sigma):
    """Return the density of softplus(v), v ~ N(mu, sigma²): v = log(e^z - 1), dv/dz = 1 / (1 - e^-z)."""
    return stats.norm(mu, sigma).pdf(np.log(np.expm1(z))) / -np.expm1(-z)


def over_z(function, mu, sigma):
    """Return ∫ function(z) dz over where the slab has its mass."""
    ends = [float(np.logaddexp(0, mu + reach * sigma)) for reach in (-9, -3, 0, 3, 9)]
    return sum(integrate.quad(function, *part, epsabs=1e-12, limit=200)[0] for part in pairwise(ends))


@pytest.mark.parametrize(("mu", "sigma"), SLAB_GAUSSIANS)
def test_the_density_is_that_of_the_softplus_of_a_normal(mu, sigma):
    prior = posterior(0, 1, 0, prior_mu=mu, prior_sigma=sigma).prior
    z = np.logaddexp(0, mu + sigma * np.linspace(-4, 4, 41))
    density = prior.log_density(torch.from_numpy(z)[:, None]).exp().numpy()
    np.testing.assert_allclose(density, 0.3 * pdf(z, mu, sigma), rtol=1e-8)
    assert over_z(lambda at: pdf(at, mu, sigma), mu, sigma) == pytest.approx(1, abs=1e-9)
    assert prior.log_density(column(0)).exp().item() == pytest.approx(0.7, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.02, 0.5])
@pytest.mark.parametrize("logit", [-2.0, 0.8, 6.0])
@pytest.mark.parametrize(("mu", "sigma"), SLAB_GAUSSIANS)
def test_the_kl_is_the_spike_exactly_and_the_slab_by_quadrature(mu, sigma, logit, alpha):
    gamma, p = special.expit(logit), (0.4, 0.8)

    def integrand(z):
        q = gamma * pdf(z, mu, sigma)
        return q * (math.log(q) - math.log(alpha * pdf(z, *p))) if q > 0 else 0.0

    off = (1 - gamma) * math.log((1 - gamma) / (1 - alpha))
    q_z = posterior(mu, sigma, logit, alpha=alpha, prior_mu=p[0], prior_sigma=p[1])
    assert q_z.kl().item() == pytest.approx(off + over_z(integrand, mu, sigma), abs=1e-7)


@pytest.mark.parametrize("logit", [-1.0, 3.0])
@pytest.mark.parametrize(("mu", "sigma"), SLAB_GAUSSIANS)
def test_the_mean_log_ratio_of_draws_is_the_kl_and_their_mean_is_the_posterior_mean(mu, sigma, logit):
    q_z = posterior(mu, sigma, logit, N_DRAWS)
    z, gamma = q_z.sample(generator()), special.expit(logit)
    assert_mean_near(q_z.log_ratio(z), q_z.kl()[0].item())
    expected = gamma * over_z(lambda at: at * pdf(at, mu, sigma), mu, sigma)
    assert q_z.mean[0].item() == pytest.approx(expected, rel=1e-6)
    assert_mean_near(z, expected)
    assert_mean_near(q_z.rsample(generator(1)), expected)
    assert_mean_near(z.numpy() == 0, 1 - gamma)
    on = z[z > 0].numpy()[:20_000]
    assert stats.kstest(on, lambda at: stats.norm(mu, sigma).cdf(np.log(np.expm1(at)))).pvalue > 1e-4


def test_prior_draws_are_0_with_probability_1_minus_alpha_and_softplus_normal_elsewhere():
    latent = MODELS["beta-vsc"](
        likelihood="nb", n_latent=3, alpha=0.2, n_prior_components=1, slab="softplus-normal"
    ).latent_encoder(8)
    for z_n in latent.prior(50_000, generator()).numpy().T:
        assert_mean_near(z_n == 0, 0.8)
        assert (z_n >= 0).all()
        on = z_n[z_n > 0].astype(np.float64)
        assert stats.kstest(on, lambda at: stats.norm.cdf(np.log(np.expm1(at)))).pvalue > 1e-4


def test_an_included_latent_is_never_exactly_0_in_single_precision():
    v = torch.tensor([-200.0, -90.0, -20.0, 0.0, 40.0], requires_grad=True)
    z = SOFTPLUS.transform(v)
    assert (z > 0).all()
    z.sum().backward()
    assert torch.isfinite(v.grad).all()
    back, log_det = SOFTPLUS.inverse_with_log_det(z.detach())
    torch.testing.assert_close(back[2:], v.detach()[2:], rtol=1e-5, atol=1e-5)
    assert torch.isfinite(log_det).all()


def test_gradients_of_draws_pass_gradcheck():
    inputs = [column(0.7, 5).requires_grad_(), column(-0.4, 5).requires_grad_()]

    def draw(mu, log_sigma):
        base = posterior(0, 1, 30, 5)
        return SpikeSlab(mu, log_sigma, base.logit, base.prior, base.draw_gate).rsample(generator())

    assert torch.autograd.gradcheck(draw, inputs)


def test_initial_posteriors_of_a_softplus_slab_are_narrow():
    features_nh, narrow = torch.zeros(4, 8), torch.full((4, 3), -1.0)
    softplus, normal = (
        MODELS["beta-vsc"](likelihood="nb", n_latent=3, slab=slab).latent_encoder(8)(features_nh)
        for slab in ("softplus-normal", "normal")
    )
    assert torch.equal(softplus.log_sigma, narrow)
    assert not torch.equal(normal.log_sigma, narrow)
