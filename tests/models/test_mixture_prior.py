"""Spike-and-slab priors with several components: density, draws and the bound on the KL."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from helpers.cells import generator
from helpers.posteriors import N_DRAWS, assert_mean_near, column
from sparcell.models.spike_slab import GATES, Prior, SpikeSlab


def mixture(n_latent=1):
    """Return a prior of three components that differ in every parameter."""
    source = generator(3)
    mu, log_sigma, logit = (
        torch.randn(3, n_latent, generator=source, dtype=torch.float64) * scale for scale in (1.5, 0.4, 1.0)
    )
    return Prior(mu, log_sigma, logit, torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64).log())


def under(prior, mu, sigma, logit, n_cells=1):
    n_latent = prior.mu.shape[1]
    values = [column(value, n_cells).expand(-1, n_latent) for value in (mu, math.log(sigma), logit)]
    return SpikeSlab(*values, prior, lambda at, source: GATES["straight-through"](at, 0.2, 1.0, source))


def prior_parts(prior, latent=0):
    """Return weights, slabs and alphas of the components, in numpy and scipy."""
    slabs = [
        stats.norm(float(mu), math.exp(float(s)))
        for mu, s in zip(prior.mu[:, latent], prior.log_sigma[:, latent], strict=True)
    ]
    return prior.log_weight.exp().numpy(), slabs, special.expit(prior.logit[:, latent].numpy())


def test_the_mixture_density_is_the_weighted_sum_and_integrates_to_one():
    prior = mixture()
    weights, slabs, alphas = prior_parts(prior)
    grid = np.linspace(-15, 15, 6001)
    with_zero = torch.from_numpy(np.append(grid + 1e-9, 0.0)[:, None])
    density = prior.log_density(with_zero).exp().numpy()
    expected = sum(w * a * slab.pdf(grid + 1e-9) for w, slab, a in zip(weights, slabs, alphas, strict=True))
    np.testing.assert_allclose(density[:-1], expected, rtol=1e-9)
    assert density[-1] == pytest.approx((weights * (1 - alphas)).sum(), rel=1e-12)
    assert density[:-1].sum() * (grid[1] - grid[0]) + density[-1] == pytest.approx(1, abs=1e-8)


def test_a_component_is_drawn_for_all_latents_of_a_cell_together():
    """The density of two latents is a sum of products; draws have its moments, the one between latents included."""
    prior = mixture(2)
    z = prior.sample(N_DRAWS, generator()).numpy()
    weights = prior.log_weight.exp().numpy()
    means = special.expit(prior.logit.numpy()) * prior.mu.numpy()
    assert_mean_near(z[:, 0], weights @ means[:, 0])
    assert_mean_near(z[:, 0] * z[:, 1], weights @ (means[:, 0] * means[:, 1]))
    off = 1 - special.expit(prior.logit.numpy())
    assert_mean_near((z == 0).all(axis=1), weights @ off.prod(axis=1))
    assert_mean_near((z == 0).any(axis=1), weights @ (off[:, 0] + off[:, 1] - off.prod(axis=1)))
    zs = torch.tensor([[0.3, -0.2], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    by_component = np.ones((3, 3))
    for latent in (0, 1):
        _, slabs, alphas = prior_parts(prior, latent)
        for number, value in enumerate(zs[:, latent].tolist()):
            density = [slab.pdf(value) for slab in slabs]
            by_component[number] *= (1 - alphas) if value == 0 else alphas * density
    np.testing.assert_allclose(prior.log_density(zs).exp().numpy(), by_component @ weights, rtol=1e-9)


def exact_kl(prior, mu, sigma, logit):
    """Return KL(q ‖ mixture) of one latent: the spike exactly, the slab by quadrature."""
    weights, slabs, alphas = prior_parts(prior)
    gamma, q = special.expit(logit), stats.norm(mu, sigma)
    spike = (1 - gamma) * math.log((1 - gamma) / (weights * (1 - alphas)).sum())

    def integrand(z):
        density = sum(w * a * slab.pdf(z) for w, slab, a in zip(weights, slabs, alphas, strict=True))
        return gamma * q.pdf(z) * (math.log(gamma) + q.logpdf(z) - math.log(density))

    return spike + integrate.quad(integrand, mu - 10 * sigma, mu + 10 * sigma, epsabs=1e-11, limit=300)[0]


@pytest.mark.parametrize("logit", [-2.0, 0.8, 6.0])
@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (0.7, 0.4), (-2.5, 0.6)])
def test_the_mixture_kl_is_an_upper_bound_and_the_mean_log_ratio_is_the_exact_kl(mu, sigma, logit):
    prior = mixture()
    exact = exact_kl(prior, mu, sigma, logit)
    posterior = under(prior, mu, sigma, logit, N_DRAWS)
    assert_mean_near(posterior.log_ratio(posterior.sample(generator())), exact)
    assert exact <= posterior.kl()[0].item() < exact + math.log(3)


def test_the_bound_on_the_mixture_kl_uses_the_optimal_component_weights():
    """Against all other weights of the components: Σ_u w_u KL_u + KL(w ‖ weight), the KLs one by one from priors of one component."""
    prior = mixture(2)
    bound = under(prior, 0.5, 0.7, 0.4).kl().sum().item()
    parts = [
        Prior(
            *(value[u : u + 1] for value in (prior.mu, prior.log_sigma, prior.logit)),
            torch.zeros(1, dtype=torch.float64),
        )
        for u in range(3)
    ]
    kl_u = np.array([under(part, 0.5, 0.7, 0.4).kl().sum().item() for part in parts])
    weight_u = prior.log_weight.exp().numpy()
    assert bound == pytest.approx(-math.log((weight_u * np.exp(-kl_u)).sum()), rel=1e-10)
    others = np.random.default_rng(0).dirichlet(np.ones(3), size=200)
    bounds = others @ kl_u + (others * np.log(others / weight_u)).sum(axis=1)
    assert (bounds >= bound - 1e-12).all()


def test_equal_components_are_one_component():
    one = mixture()
    same = Prior(*(value[:1].expand(3, -1) for value in (one.mu, one.log_sigma, one.logit)), one.log_weight)
    alone = Prior(one.mu[:1], one.log_sigma[:1], one.logit[:1], torch.zeros(1, dtype=torch.float64))
    z = torch.tensor([[0.0], [0.4]], dtype=torch.float64)
    torch.testing.assert_close(same.log_density(z), alone.log_density(z))
    torch.testing.assert_close(under(same, 0.5, 0.7, 0.4).kl(), under(alone, 0.5, 0.7, 0.4).kl())
