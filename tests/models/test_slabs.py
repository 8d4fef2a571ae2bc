"""The positive slab of the beta-VSC, against scipy: its density, its KL by quadrature over z, its draws and its mean."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from sparcell.models import MODELS
from sparcell.models.beta_vsc import GATES, SLABS, Prior, SpikeSlab

POSITIVE = SLABS["positive"]
DRAWS = 400_000
GAUSSIANS = [(0.0, 1.0), (0.7, 0.4), (-2.5, 1.2), (3.0, 0.05)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def column(value, n_cells=1):
    return torch.full((n_cells, 1), float(value), dtype=torch.float64)


def posterior(
    mu, sigma, logit, n_cells=1, *, alpha=0.3, prior_mu=0.0, prior_sigma=1.0, gate="straight-through"
):
    values = (prior_mu, math.log(prior_sigma), special.logit(alpha))
    prior = Prior(*map(column, values), torch.zeros(1, dtype=torch.float64), POSITIVE)
    return SpikeSlab(
        *(column(value, n_cells) for value in (mu, math.log(sigma), logit)),
        prior,
        lambda at, source: GATES[gate](at, 0.2, 1.0, source),
    )


def pdf(z, mu, sigma):
    """Density of softplus(v), v ~ N(mu, sigma²), written out: v = log(e^z - 1), dv/dz = 1 / (1 - e^-z)."""
    return stats.norm(mu, sigma).pdf(np.log(np.expm1(z))) / -np.expm1(-z)


def over_z(function, mu, sigma):
    """∫ function(z) dz over where the slab has its mass."""
    ends = [float(np.logaddexp(0, mu + reach * sigma)) for reach in (-9, -3, 0, 3, 9)]
    return sum(integrate.quad(function, *part, epsabs=1e-12, limit=200)[0] for part in pairwise(ends))


def assert_mean_near(sample, expected):
    sample = np.asarray(sample, dtype=np.float64).ravel()
    error = sample.std() / math.sqrt(sample.size)
    assert abs(sample.mean() - expected) < 5 * error + 1e-12, (sample.mean(), expected, error)


@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_the_density_is_that_of_softplus_of_a_gaussian(mu, sigma):
    prior = posterior(0, 1, 0, prior_mu=mu, prior_sigma=sigma).prior
    z = np.logaddexp(0, mu + sigma * np.linspace(-4, 4, 41))
    found = prior.log_density(torch.from_numpy(z)[:, None]).exp().numpy()
    np.testing.assert_allclose(found, 0.3 * pdf(z, mu, sigma), rtol=1e-8)
    assert over_z(lambda at: pdf(at, mu, sigma), mu, sigma) == pytest.approx(1, abs=1e-9)
    assert prior.log_density(column(0)).exp().item() == pytest.approx(0.7, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.02, 0.5])
@pytest.mark.parametrize("logit", [-2.0, 0.8, 6.0])
@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_the_kl_is_the_spike_exactly_and_the_slab_by_quadrature_over_z(mu, sigma, logit, alpha):
    gamma, p = special.expit(logit), (0.4, 0.8)

    def integrand(z):
        q = gamma * pdf(z, mu, sigma)
        return q * (math.log(q) - math.log(alpha * pdf(z, *p))) if q > 0 else 0.0

    off = (1 - gamma) * math.log((1 - gamma) / (1 - alpha))
    given = posterior(mu, sigma, logit, alpha=alpha, prior_mu=p[0], prior_sigma=p[1])
    assert given.kl().item() == pytest.approx(off + over_z(integrand, mu, sigma), abs=1e-7)


@pytest.mark.parametrize("logit", [-1.0, 3.0])
@pytest.mark.parametrize(("mu", "sigma"), GAUSSIANS)
def test_the_mean_log_ratio_of_draws_is_the_kl_and_their_mean_is_the_reported_code(mu, sigma, logit):
    given = posterior(mu, sigma, logit, DRAWS)
    z, gamma = given.sample(generator()), special.expit(logit)
    assert_mean_near(given.log_ratio(z), given.kl()[0].item())
    expected = gamma * over_z(lambda at: at * pdf(at, mu, sigma), mu, sigma)
    assert given.mean[0].item() == pytest.approx(expected, rel=1e-6)
    assert_mean_near(z, expected)
    assert_mean_near(given.rsample(generator(1)), expected)
    assert_mean_near(z.numpy() == 0, 1 - gamma)
    on = z[z > 0].numpy()[:20_000]
    assert stats.kstest(on, lambda at: stats.norm(mu, sigma).cdf(np.log(np.expm1(at)))).pvalue > 1e-4


def test_prior_draws_are_off_as_often_as_claimed_and_softplus_of_a_normal_elsewhere():
    latent = MODELS["beta-vsc"](
        likelihood="nb", n_latent=3, alpha=0.2, n_prior_components=1, slab="softplus-normal"
    ).latent(8)
    for z_n in latent.prior(50_000, generator()).numpy().T:
        assert_mean_near(z_n == 0, 0.8)
        assert (z_n >= 0).all()
        on = z_n[z_n > 0].astype(np.float64)
        assert stats.kstest(on, lambda at: stats.norm.cdf(np.log(np.expm1(at)))).pvalue > 1e-4


def test_a_latent_that_is_on_is_never_exactly_zero_in_single_precision():
    v = torch.tensor([-200.0, -90.0, -20.0, 0.0, 40.0], requires_grad=True)
    z = POSITIVE.value(v)
    assert (z > 0).all()
    z.sum().backward()
    assert torch.isfinite(v.grad).all()
    back, log_slope = POSITIVE.gaussian(z.detach())
    torch.testing.assert_close(back[2:], v.detach()[2:], rtol=1e-5, atol=1e-5)
    assert torch.isfinite(log_slope).all()


def test_gradients_are_those_of_each_draw():
    inputs = [column(0.7, 5).requires_grad_(), column(-0.4, 5).requires_grad_()]

    def drawn(mu, log_sigma):
        base = posterior(0, 1, 30, 5)
        return SpikeSlab(mu, log_sigma, base.logit, base.prior, base.draw_gate).rsample(generator())

    assert torch.autograd.gradcheck(drawn, inputs)


def test_training_begins_with_narrow_posteriors():
    build = MODELS["beta-vsc"]
    positive = build(likelihood="nb", n_latent=3, slab="softplus-normal").latent(8)
    features_nh = torch.zeros(4, 8)
    assert torch.equal(positive(features_nh).log_sigma, torch.full((4, 3), -1.0))
    assert not torch.equal(
        build(likelihood="nb", n_latent=3).latent(8)(features_nh).log_sigma, torch.full((4, 3), -1.0)
    )
