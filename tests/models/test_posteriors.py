"""What each posterior claims about itself, against quadrature, closed forms and many draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from helpers.simulated import COUNTS, simulated_cells
from sparcell.models import MODELS
from sparcell.models.beta_vae import GaussianPosterior
from sparcell.models.beta_vsc import GATES, SHRINK, STRETCH, Prior, SpikeSlab

SLABS = [(0.0, 1.0), (0.7, 0.4), (-2.5, 1.6), (4.0, 0.05)]
LOGITS = [-8.0, -2.0, 0.0, 0.8, 8.0]
DRAWS = 400_000
TEMPERATURE = MODELS["beta-vsc"](likelihood="gaussian").temperature
"""The default, for which the bias of the gate's gradient is stated."""


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def column(value, n_cells=1):
    return torch.full((n_cells, 1), float(value), dtype=torch.float64)


def gaussian(mu, sigma, n_cells=1):
    return GaussianPosterior(column(mu, n_cells), column(math.log(sigma), n_cells))


def spike_slab(mu, sigma, logit, n_cells=1, *, alpha=0.3, temperature=TEMPERATURE):
    logs = column(math.log(sigma), n_cells)
    return sparse(column(mu, n_cells), logs, column(logit, n_cells), alpha, temperature)


def sparse(mu, log_sigma, logit, alpha, temperature, gate="straight-through"):
    none = torch.zeros(1, 1, dtype=mu.dtype)
    prior = Prior(none, none, none + math.log(alpha / (1 - alpha)), none[0])
    return SpikeSlab(
        mu, log_sigma, logit, prior, lambda at, source: GATES[gate](at, temperature, 1.0, source)
    )


def slab_integral(mu, sigma, weight, prior_weight):
    """∫ w q log(w q / (w₀ p)) dz of the parts that have a density, by quadrature."""
    q, p = stats.norm(mu, sigma), stats.norm(0, 1)

    def integrand(z):
        return weight * q.pdf(z) * (math.log(weight / prior_weight) + q.logpdf(z) - p.logpdf(z))

    value, _ = integrate.quad(integrand, mu - 12 * sigma, mu + 12 * sigma, epsabs=1e-12, limit=200)
    return value


def assert_mean_near(sample, expected):
    """Within five standard errors of the mean of the draws."""
    sample = np.asarray(sample, dtype=np.float64).ravel()
    error = sample.std() / math.sqrt(sample.size)
    assert abs(sample.mean() - expected) < 5 * error + 1e-12, (sample.mean(), expected, error)


@pytest.mark.parametrize(("mu", "sigma"), SLABS)
def test_gaussian_kl_is_the_integral(mu, sigma):
    assert gaussian(mu, sigma).kl().item() == pytest.approx(slab_integral(mu, sigma, 1, 1), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize(("mu", "sigma"), SLABS)
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
    sparse(zero, zero, leaf, 0.01, TEMPERATURE).kl().sum().backward()
    expected = math.log(0.99 if logit < 0 else 0.01)
    kl = sparse(zero, zero, leaf.detach(), 0.01, TEMPERATURE).kl().item()
    assert kl == pytest.approx(-expected, abs=0.02)
    assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize(("mu", "sigma"), SLABS)
def test_gaussian_draws_have_the_posterior_s_moments(mu, sigma):
    posterior = gaussian(mu, sigma, DRAWS)
    z = posterior.rsample(generator()).numpy()
    assert posterior.mean[0].item() == mu
    assert_mean_near(z, mu)
    assert_mean_near(z**2, mu**2 + sigma**2)


@pytest.mark.parametrize("logit", [-2.0, 0.0, 3.0])
@pytest.mark.parametrize(("mu", "sigma"), SLABS)
def test_spike_and_slab_draws_have_the_posterior_s_moments_and_exact_zeros(mu, sigma, logit):
    posterior = spike_slab(mu, sigma, logit, DRAWS)
    gamma = 1 / (1 + math.exp(-logit))
    z = posterior.rsample(generator()).numpy()
    assert posterior.gamma[0].item() == pytest.approx(gamma, rel=1e-12)
    assert posterior.mean[0].item() == pytest.approx(gamma * mu, rel=1e-12)
    assert_mean_near(z == 0, 1 - gamma)
    assert_mean_near(z, gamma * mu)
    assert_mean_near(z**2, gamma * (mu**2 + sigma**2))
    assert stats.kstest(z[z != 0][:20_000], stats.norm(mu, sigma).cdf).pvalue > 1e-4


def test_gaussian_gradients_are_those_of_the_expectation():
    """f(z) = sin z + z²: E f = sin(mu) exp(-sigma²/2) + mu² + sigma²."""
    mu, sigma = 0.7, 0.6
    posterior = gaussian(mu, sigma, DRAWS)
    for leaf in (posterior.mean, posterior.log_sigma):
        leaf.requires_grad_()
    z = posterior.rsample(generator())
    (z.sin() + z**2).sum().backward()
    damped = math.exp(-(sigma**2) / 2)
    assert_mean_near(posterior.mean.grad, math.cos(mu) * damped + 2 * mu)
    assert_mean_near(posterior.log_sigma.grad, sigma**2 * (2 - math.sin(mu) * damped))


def test_gaussian_gradients_are_those_of_each_draw():
    inputs = [column(0.7, 5).requires_grad_(), column(-0.4, 5).requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda mu, log_sigma: GaussianPosterior(mu, log_sigma).rsample(generator()), inputs
    )


def test_slab_gradients_are_those_of_the_expectation():
    """f(z) = z² : E f = gamma (mu² + sigma²); the gate's draw does not depend on the slab, so there is no bias."""
    mu, sigma, logit = 0.7, 0.6, 0.5
    posterior = spike_slab(mu, sigma, logit, DRAWS)
    for leaf in (posterior.mu, posterior.log_sigma):
        leaf.requires_grad_()
    posterior.rsample(generator()).square().sum().backward()
    gamma = 1 / (1 + math.exp(-logit))
    assert_mean_near(posterior.mu.grad, gamma * 2 * mu)
    assert_mean_near(posterior.log_sigma.grad, gamma * 2 * sigma**2)


@pytest.mark.parametrize("logit", [-8.0, 8.0])
def test_every_latent_has_a_gate_gradient_in_an_epoch_even_where_a_gate_is_nearly_sure(logit):
    """In single precision and over 2,638 cells; its mean has the sign of the truth, which for f(z) = z and mu = 1 is +."""
    leaf = torch.full((2638, 6), logit, requires_grad=True)
    mu = torch.ones(2638, 6)
    sparse(mu, mu.log() - 9, leaf, 0.5, TEMPERATURE).rsample(generator()).sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert (leaf.grad.sum(dim=0) > 0).all()


def gate_gradient(f, mu, sigma, logit):
    """Mean and standard error of the gradient of f(z) to the logit, over draws."""
    posterior = spike_slab(mu, sigma, logit, DRAWS)
    posterior.logit.requires_grad_()
    f(posterior.rsample(generator())).sum().backward()
    draws = posterior.logit.grad.numpy()
    return draws.mean(), draws.std() / math.sqrt(DRAWS)


def analytic_gate_gradient(f, mu, sigma, logit):
    """d/dlogit E f(z) = gamma (1 - gamma) (E_slab f - f(0))."""
    gamma = 1 / (1 + math.exp(-logit))
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    values = f(torch.from_numpy(mu + sigma * nodes)).numpy()
    slab = float(values @ weights / weights.sum())
    return gamma * (1 - gamma) * (slab - f(torch.zeros(1, dtype=torch.float64)).item())


SMOOTH = {
    "a line": lambda z: z,
    "a parabola": lambda z: z**2,
    "an error to a target": lambda z: (z - 2).square(),
    "a sigmoid": lambda z: z.sigmoid(),
}


@pytest.mark.parametrize("logit", [-4.0, -1.5, 0.0, 1.5, 4.0])
@pytest.mark.parametrize("name", SMOOTH)
def test_the_gate_s_gradient_points_the_right_way_and_has_about_the_right_size(name, logit):
    """Straight-through is biased; tolerated: .8 to 1.25 of the true gradient, .7 to 1.45 where a gate is nearly sure."""
    f = SMOOTH[name]
    expected = analytic_gate_gradient(f, 1.2, 0.3, logit)
    found, error = gate_gradient(f, 1.2, 0.3, logit)
    assert 5 * error < 0.2 * abs(expected)
    low, high = (0.8, 1.25) if abs(logit) < 2 else (0.7, 1.45)
    assert low < found / expected < high


def test_the_gate_s_gradient_of_a_line_is_the_relaxation_s():
    """Bias in closed form: the logistic density smoothed at the temperature, π T / sin(π T) in the tail."""
    for logit in (0.0, 2.0, 4.0):

        def smoothed(noise, logit=logit):
            soft = special.expit((logit + noise) / TEMPERATURE)
            return soft * (1 - soft) / TEMPERATURE * stats.logistic.pdf(noise)

        expected, _ = integrate.quad(smoothed, -logit - 12, -logit + 12, points=[-logit])
        found, error = gate_gradient(lambda z: z, 1.0, 1e-6, logit)
        assert abs(found - expected) < 5 * error


LIMIT = math.log(-SHRINK / STRETCH)
"""Where a hard concrete gate leaves 0, on the scale of its logistic noise over the temperature; it reaches 1 at -LIMIT."""


def gates(name, logit, *, temperature=2 / 3, progress=1.0, n_cells=DRAWS):
    """Draws of a gate, and its logit."""
    leaf = column(logit, n_cells).requires_grad_()
    return GATES[name](leaf, temperature, progress, generator()), leaf


@pytest.mark.parametrize("temperature", [0.2, 2 / 3, 1.5])
@pytest.mark.parametrize("logit", [-4.0, -1.0, 0.0, 2.5])
def test_hard_concrete_gates_are_on_with_probability_gamma_and_exactly_zero_or_one_where_cut(
    logit, temperature
):
    """With the shift of Louizos et al.: P(gate > 0) = gamma, P(gate = 1) = sigmoid(logit - 2 T log 11)."""
    gate, leaf = gates("hard-concrete", logit, temperature=temperature)
    found = gate.detach().numpy()
    assert ((found >= 0) & (found <= 1)).all()
    assert_mean_near(found > 0, special.expit(logit))
    assert_mean_near(found == 1, special.expit(logit + 2 * temperature * LIMIT))
    gate.sum().backward()
    between = (found > 0) & (found < 1)
    gradient = leaf.grad.numpy()
    assert between.mean() > 0.01
    assert (gradient[between] > 0).all()
    assert (gradient[~between] == 0).all()


@pytest.mark.parametrize("logit", [-2.0, 1.0])
def test_a_hard_concrete_gate_between_its_cuts_is_the_stretched_sigmoid(logit):
    """Its noise, computed back from the gate, is logistic."""
    temperature = 0.5
    found = gates("hard-concrete", logit, temperature=temperature)[0].detach().numpy().ravel()
    between = found[(found > 0) & (found < 1)]
    noise = special.logit((between - SHRINK) / (STRETCH - SHRINK)) * temperature - (
        logit + temperature * LIMIT
    )
    low, high = (temperature * edge - (logit + temperature * LIMIT) for edge in (LIMIT, -LIMIT))
    inside = special.expit(high) - special.expit(low)
    assert (
        stats.kstest(noise[:50_000], lambda at: (special.expit(at) - special.expit(low)) / inside).pvalue
        > 1e-4
    )


@pytest.mark.parametrize(("progress", "steepness"), [(0.0, 50.0), (0.5, 125.0), (1.0, 200.0)])
@pytest.mark.parametrize("logit", [-3.0, 0.0, 1.5])
def test_steep_gates_are_the_paper_s_sigmoid_of_uniform_noise_the_steeper_the_later(
    logit, progress, steepness
):
    """Computed back from the gate the noise is uniform; the mean is the sigmoid's integral."""
    gamma = special.expit(logit)
    gate, leaf = gates("steep-sigmoid", logit, progress=progress)
    found = gate.detach().numpy().ravel()
    noise = special.logit(found[found < 0.999]) / steepness + 1 - gamma  # nearer to 1 double precision rounds
    reach = min(1.0, special.logit(0.999) / steepness + 1 - gamma)
    assert stats.kstest(noise[:50_000], stats.uniform(0, reach).cdf).pvalue > 1e-4
    mean = (np.logaddexp(0, steepness * gamma) - np.logaddexp(0, steepness * (gamma - 1))) / steepness
    assert_mean_near(found, mean)
    gate.sum().backward()
    expected = steepness * found * (1 - found) * gamma * (1 - gamma)
    np.testing.assert_allclose(leaf.grad.numpy().ravel(), expected, rtol=1e-6, atol=1e-12)


def test_steep_gates_leak_while_the_others_are_exactly_zero_where_off():
    """The share of gates between .01 and .99 is 2 log 99 / steepness: why the paper's gate is not the default."""
    for progress, steepness in ((0.0, 50.0), (1.0, 200.0)):
        found = gates("steep-sigmoid", 0.0, progress=progress)[0].detach().numpy()
        assert (found > 0).all()
        assert_mean_near((found > 0.01) & (found < 0.99), 2 * math.log(99) / steepness)
    for name in ("straight-through", "hard-concrete"):
        assert_mean_near(gates(name, 0.0)[0].detach().numpy() == 0, 0.5)


@pytest.mark.parametrize("logit", [-15.0, -3.0, 0.0, 3.0, 15.0])
@pytest.mark.parametrize("name", GATES)
def test_gates_draw_from_their_generator_only_and_have_finite_gradients(name, logit):
    leaf = torch.full((5000, 1), logit, requires_grad=True)
    state = torch.get_rng_state()
    first = GATES[name](leaf, 0.5, 1.0, generator(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, GATES[name](leaf, 0.5, 1.0, generator(1)))
    assert not torch.equal(first, GATES[name](leaf, 0.5, 1.0, generator(2))) or abs(logit) > 10
    first.sum().backward()
    assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("logit", [-2.0, 0.0, 3.0])
@pytest.mark.parametrize(("mu", "sigma"), SLABS)
def test_samples_are_of_the_posterior_itself_whatever_the_gate_in_training(mu, sigma, logit, gate):
    values = [column(value, DRAWS) for value in (mu, math.log(sigma), logit)]
    posterior = sparse(*values, 0.3, 2 / 3, gate)
    z, gamma = posterior.sample(generator()).numpy(), special.expit(logit)
    assert_mean_near(z == 0, 1 - gamma)
    assert_mean_near(z, gamma * mu)
    assert_mean_near(z**2, gamma * (mu**2 + sigma**2))
    assert stats.kstest(z[z != 0][:20_000], stats.norm(mu, sigma).cdf).pvalue > 1e-4


@pytest.mark.parametrize(("mu", "sigma"), SLABS)
def test_the_mean_log_ratio_of_gaussian_draws_is_the_kl(mu, sigma):
    posterior = gaussian(mu, sigma, DRAWS)
    assert_mean_near(posterior.log_ratio(posterior.sample(generator())), posterior.kl()[0].item())


@pytest.mark.parametrize("logit", LOGITS)
@pytest.mark.parametrize(("mu", "sigma"), SLABS)
def test_the_mean_log_ratio_of_spike_and_slab_draws_is_the_kl(mu, sigma, logit):
    posterior = spike_slab(mu, sigma, logit, DRAWS)
    assert_mean_near(posterior.log_ratio(posterior.sample(generator())), posterior.kl()[0].item())


def test_log_ratios_add_up_over_latents():
    wide = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    for many, one in (
        (GaussianPosterior(wide, wide - 1), lambda k: GaussianPosterior(wide[:, k], wide[:, k] - 1)),
        (
            sparse(wide, wide - 1, wide, 0.3, 0.5),
            lambda k: sparse(wide[:, k], wide[:, k] - 1, wide[:, k], 0.3, 0.5),
        ),
    ):
        z = torch.tensor([[0.4, 0.0, -1.0]], dtype=torch.float64)
        parts = [one(slice(k, k + 1)).log_ratio(z[:, k : k + 1]) for k in range(3)]
        torch.testing.assert_close(many.log_ratio(z), sum(parts))
        assert many.log_ratio(z).shape == (1,)


def mixture(n_latent=1):
    """A prior of three components that differ in everything."""
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
    """Weights, slabs and alphas of the components, in numpy."""
    slabs = [
        stats.norm(float(mu), math.exp(float(s)))
        for mu, s in zip(prior.mu[:, latent], prior.log_sigma[:, latent], strict=True)
    ]
    return prior.log_weight.exp().numpy(), slabs, special.expit(prior.logit[:, latent].numpy())


def test_the_density_of_a_prior_of_several_components_is_the_weighed_sum_and_adds_up_to_one():
    prior = mixture()
    weights, slabs, alphas = prior_parts(prior)
    grid = np.linspace(-15, 15, 6001)
    with_zero = torch.from_numpy(np.append(grid + 1e-9, 0.0)[:, None])
    density = prior.log_density(with_zero).exp().numpy()
    expected = sum(w * a * slab.pdf(grid + 1e-9) for w, slab, a in zip(weights, slabs, alphas, strict=True))
    np.testing.assert_allclose(density[:-1], expected, rtol=1e-9)
    assert density[-1] == pytest.approx((weights * (1 - alphas)).sum(), rel=1e-12)
    assert density[:-1].sum() * (grid[1] - grid[0]) + density[-1] == pytest.approx(1, abs=1e-8)


def test_components_are_drawn_as_a_whole_not_latent_by_latent():
    """The density of two latents is a sum of products; draws have its moments, the one between latents included."""
    prior = mixture(2)
    z = prior.sample(DRAWS, generator()).numpy()
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
    """KL(q ‖ mixture) of one latent: the spike exactly, the slab by quadrature."""
    weights, slabs, alphas = prior_parts(prior)
    gamma, q = special.expit(logit), stats.norm(mu, sigma)
    spike = (1 - gamma) * math.log((1 - gamma) / (weights * (1 - alphas)).sum())

    def integrand(z):
        density = sum(w * a * slab.pdf(z) for w, slab, a in zip(weights, slabs, alphas, strict=True))
        return gamma * q.pdf(z) * (math.log(gamma) + q.logpdf(z) - math.log(density))

    return spike + integrate.quad(integrand, mu - 10 * sigma, mu + 10 * sigma, epsabs=1e-11, limit=300)[0]


@pytest.mark.parametrize("logit", [-2.0, 0.8, 6.0])
@pytest.mark.parametrize(("mu", "sigma"), [(0.0, 1.0), (0.7, 0.4), (-2.5, 0.6)])
def test_under_several_components_the_kl_is_bounded_and_the_mean_log_ratio_is_the_kl(mu, sigma, logit):
    prior = mixture()
    exact = exact_kl(prior, mu, sigma, logit)
    posterior = under(prior, mu, sigma, logit, DRAWS)
    assert_mean_near(posterior.log_ratio(posterior.sample(generator())), exact)
    assert exact <= posterior.kl()[0].item() < exact + math.log(3)


def test_the_bound_on_the_kl_weighs_the_components_in_the_best_way():
    """Against all other weights of the components: Σ_u w_u KL_u + KL(w ‖ weight), the KLs one by one from priors of one component."""
    prior = mixture(2)
    found = under(prior, 0.5, 0.7, 0.4).kl().sum().item()
    parts = [
        Prior(
            *(value[u : u + 1] for value in (prior.mu, prior.log_sigma, prior.logit)),
            torch.zeros(1, dtype=torch.float64),
        )
        for u in range(3)
    ]
    kl_u = np.array([under(part, 0.5, 0.7, 0.4).kl().sum().item() for part in parts])
    weight_u = prior.log_weight.exp().numpy()
    assert found == pytest.approx(-math.log((weight_u * np.exp(-kl_u)).sum()), rel=1e-10)
    others = np.random.default_rng(0).dirichlet(np.ones(3), size=200)
    bounds = others @ kl_u + (others * np.log(others / weight_u)).sum(axis=1)
    assert (bounds >= found - 1e-12).all()


def test_several_equal_components_are_one():
    one = mixture()
    same = Prior(*(value[:1].expand(3, -1) for value in (one.mu, one.log_sigma, one.logit)), one.log_weight)
    alone = Prior(one.mu[:1], one.log_sigma[:1], one.logit[:1], torch.zeros(1, dtype=torch.float64))
    z = torch.tensor([[0.0], [0.4]], dtype=torch.float64)
    torch.testing.assert_close(same.log_density(z), alone.log_density(z))
    torch.testing.assert_close(under(same, 0.5, 0.7, 0.4).kl(), under(alone, 0.5, 0.7, 0.4).kl())


def latent_of(**settings):
    """A latent of the beta-VSC over features that vary, in double precision."""
    latent = MODELS["beta-vsc"](likelihood="nb", n_latent=3, **settings).latent(8).double()
    with torch.no_grad():
        for parameter in latent.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64) * 0.5)
    return latent, torch.randn(50, 8, generator=generator(4), dtype=torch.float64)


def test_in_a_spike_warm_up_the_slab_grows_out_of_the_standard_normal():
    latent, features_nh = latent_of(spike_warmup=True, n_prior_components=1)
    with torch.no_grad():
        first, half, last = (latent(features_nh, progress) for progress in (0.0, 0.5, 1.0))
        plain = latent_of(spike_warmup=False, n_prior_components=1)[0](features_nh, 0.0)
    torch.testing.assert_close(first.mu, torch.zeros_like(first.mu), rtol=0, atol=0)
    torch.testing.assert_close(first.log_sigma, torch.zeros_like(first.mu), rtol=0, atol=0)
    torch.testing.assert_close(half.mu, 0.5 * last.mu)
    torch.testing.assert_close((2 * half.log_sigma).exp(), 0.5 * (2 * last.log_sigma).exp() + 0.5)
    for posterior in (first, half, last):
        torch.testing.assert_close(posterior.logit, plain.logit)
    torch.testing.assert_close(last.mu, plain.mu)
    torch.testing.assert_close(last.log_sigma, plain.log_sigma)
    gamma = first.gamma
    only_spikes = gamma * (gamma / 0.5).log() + (1 - gamma) * ((1 - gamma) / 0.5).log()
    torch.testing.assert_close(first.kl(), only_spikes)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_a_latent_hands_its_gate_the_temperature_and_the_progress(gate, progress):
    latent, features_nh = latent_of(gate=gate, temperature=0.7, n_prior_components=1)
    with torch.no_grad():
        posterior = latent(features_nh, progress)
        source = generator(9)
        drawn = GATES[gate](posterior.logit, 0.7, progress, source)
        noise = torch.randn(posterior.mu.shape, generator=source)
        expected = drawn * (posterior.mu + posterior.log_sigma.exp() * noise)
        torch.testing.assert_close(posterior.rsample(generator(9)), expected, rtol=1e-12, atol=0)


def test_a_learned_alpha_follows_the_latents():
    """Each has one of its own, which gets a gradient; the KL is lowest where it is the mean gamma."""
    latent, features_nh = latent_of(alpha="learned", n_prior_components=1)
    gamma_k = latent(features_nh).gamma.mean(dim=0).detach()
    latent.zero_grad()
    latent(features_nh).kl().sum().backward()
    assert (latent.prior_logit.grad != 0).all()
    with torch.no_grad():
        latent.prior_logit.copy_(torch.logit(gamma_k))
    latent.zero_grad()
    latent(features_nh).kl().sum().backward()
    torch.testing.assert_close(
        latent.prior_logit.grad, torch.zeros_like(latent.prior_logit), rtol=0, atol=1e-10
    )
    assert not [
        name
        for name, _ in latent_of(alpha=0.3, n_prior_components=1)[0].named_parameters()
        if "prior" in name
    ]


def test_on_planted_cells_a_learned_alpha_ends_near_the_mean_gamma():
    adata = simulated_cells()
    settings = {**COUNTS, "likelihood": "poisson", "alpha": "learned", "n_prior_components": 1, "epochs": 80}
    model = MODELS["beta-vsc"](**settings).fit(adata, silent=True)
    alpha_k = model.network.latent.prior_logit.sigmoid().detach().numpy().ravel()
    gamma_k = model.gamma(adata).mean(axis=0)
    np.testing.assert_allclose(alpha_k, gamma_k, atol=0.1)
    assert np.ptp(gamma_k) > 0.2  # else any alpha would do


def test_gaussian_prior_draws_are_standard_normal():
    z = MODELS["beta-vae"](likelihood="gaussian", n_latent=3).latent(8).prior(50_000, generator()).numpy()
    assert z.shape == (50_000, 3)
    for z_n in z.T:
        assert stats.kstest(z_n, "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(z.T) - np.eye(3)).max() < 0.03


def test_spike_and_slab_prior_draws_are_off_as_often_as_claimed_and_normal_elsewhere():
    z = (
        MODELS["beta-vsc"](likelihood="gaussian", n_latent=3, alpha=0.2)
        .latent(8)
        .prior(50_000, generator())
        .numpy()
    )
    assert z.shape == (50_000, 3)
    for z_n in z.T:
        assert_mean_near(z_n == 0, 0.8)
        assert_mean_near(z_n**2, 0.2)
        assert stats.kstest(z_n[z_n != 0], "norm").pvalue > 1e-4


def draws_of(name, seed):
    """Draws from the posterior and the prior of a model."""
    estimator = MODELS[name](likelihood="gaussian", n_latent=3)
    with torch.no_grad():
        latent = estimator.network(5).latent
        source = generator(seed)
        z = latent(torch.ones(4, estimator.encoder_widths[-1])).rsample(source)
        return z, latent.prior(4, source) if estimator.generative else z


@pytest.mark.parametrize("name", MODELS)
def test_draws_depend_on_the_generator_only(name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = draws_of(name, 0)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = draws_of(name, 0), draws_of(name, 1)
    for one, two, three in zip(first, again, other, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, three) == (not MODELS[name].generative)


def test_an_autoencoder_s_code_is_a_point_that_costs_nothing():
    latent = MODELS["autoencoder"](likelihood="gaussian", latent_activation="linear").network(5).latent
    posterior = latent(torch.randn(4, 32, generator=generator()))
    assert torch.equal(posterior.rsample(generator()), posterior.mean)
    assert torch.equal(posterior.kl(), torch.zeros(4, 6))
    assert posterior.gamma is None
