"""The bounds against the truth: log p(x) and the KL to the true posterior by quadrature over the code.

Suffixes: n cells, g genes, k latents, m nodes of the quadrature, u components of the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import special, stats

from helpers.cells import cells
from sparcell.config.model import LikelihoodConfig
from sparcell.data.schema import Schema
from sparcell.likelihoods import Gaussian
from sparcell.models import MODELS
from sparcell.models.beta_vae import GaussianPosterior
from sparcell.models.beta_vsc import SLABS
from sparcell.models.fitted import Model
from sparcell.protocols import Output
from sparcell.training.objective import negative_elbo

N_DRAWS = 60_000
SIZES = {"encoder_widths": (5, 4), "head_width": 3, "decoder_widths": (3, 4)}
PLAIN = {"normalization": "none", "dropout": 0.0, "input_dropout": 0.0, "standardize_input": False}
TINY = {**SIZES, **PLAIN}
ONE = {"gate": "straight-through", "n_prior_components": 1}
"""A gate whose draws are those of the posterior, and a prior under which the KL is exact."""
CASES = {
    "beta-vae, one latent": ("beta-vae", {"n_latent": 1}, 3),
    "beta-vae, two latents": ("beta-vae", {"n_latent": 2, "gaussian_variance": 1.3}, 5),
    "beta-vae, counts": ("beta-vae", {"n_latent": 1, "likelihood": "nb"}, 4),
    "beta-vsc, one latent": ("beta-vsc", {"n_latent": 1, "alpha": 0.3, **ONE}, 3),
    "beta-vsc, rarely on": ("beta-vsc", {"n_latent": 1, "alpha": 0.02, "gaussian_variance": 0.3, **ONE}, 4),
    "beta-vsc, two latents": ("beta-vsc", {"n_latent": 2, "alpha": 0.6, **ONE}, 4),
    "beta-vsc, counts": ("beta-vsc", {"n_latent": 2, "likelihood": "nb", **ONE}, 4),
    "beta-vsc, positive": (
        "beta-vsc",
        {"n_latent": 1, "gaussian_variance": 0.6, "slab": "softplus-normal", **ONE},
        4,
    ),
    "beta-vsc, readable": (
        "beta-vsc",
        {
            "n_latent": 2,
            "likelihood": "nb",
            "slab": "softplus-normal",
            "decoder_type": "nonnegative-linear",
            **ONE,
        },
        4,
    ),
}
MIXED = {
    "beta-vsc, three components, positive": (
        "beta-vsc",
        {"n_latent": 1, "gaussian_variance": 2.0, "slab": "softplus-normal", **ONE, "n_prior_components": 3},
        4,
    ),
    "beta-vsc, three components": (
        "beta-vsc",
        {"n_latent": 1, "gaussian_variance": 2.0, **ONE, "n_prior_components": 3},
        4,
    ),
    "beta-vsc, three components, counts": (
        "beta-vsc",
        {"n_latent": 2, "likelihood": "nb", **ONE, "n_prior_components": 3},
        4,
    ),
}


def network_of(name, settings, n_genes):
    """A tiny network in double precision whose weights are large enough to matter, and one cell."""
    estimator = settings_of(name, settings)
    network = estimator.network(n_genes).double()
    source = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            parameter.mul_(0.3 if "log_sigma" in parameter_name else 1.7)  # a narrow q needs many draws
            if "prior" in parameter_name or "log_r" in parameter_name:
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    rng = np.random.default_rng(4)
    if network.likelihood.counts:
        with torch.no_grad():
            next(network.encoder.parameters()).mul_(0.1)  # it sees values around 8
        return network, rng.poisson(4.0, size=n_genes).astype(float)
    return network, rng.normal(0.5, 1.0, size=n_genes)


def settings_of(name, settings):
    return MODELS[name](**{"likelihood": "gaussian", **TINY, **settings}, seed=3)


def copies(x_g, n_cells):
    return cells(torch.from_numpy(np.tile(x_g, (n_cells, 1))))


def decoded(network, z_mk):
    """The head's output in plain numpy: ReLU after every layer but the head."""
    weights = [parameter.detach().numpy() for parameter in network.decoder.parameters()]
    h = z_mk
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        h = np.maximum(h @ weight.T + bias, 0)
    head = network.likelihood.head
    return h @ head.weight.detach().numpy().T + head.bias.detach().numpy()


def log_likelihood(network, z_mk, x_g):
    """log p(x|z), (m,), also where scipy's would be infinite by rounding."""
    out_mg = decoded(network, z_mk)
    if not network.likelihood.counts:
        return stats.norm(out_mg, math.sqrt(network.likelihood.variance)).logpdf(x_g).sum(axis=1)
    log_mean_mg = math.log(x_g.sum()) + special.log_softmax(out_mg, axis=1)
    log_r = network.likelihood.log_r.detach().numpy()
    chosen_g = -np.log(x_g + np.exp(log_r)) - special.betaln(np.exp(log_r), x_g + 1)  # log C(x + r - 1, x)
    log_off, log_on = log_r - np.logaddexp(log_r, log_mean_mg), log_mean_mg - np.logaddexp(log_r, log_mean_mg)
    return (chosen_g + np.exp(log_r) * log_off + x_g * log_on).sum(axis=1)


@dataclass
class Truth:
    """log p(x), and KL(q ‖ p(z|x)), of one cell."""

    log_evidence: float
    kl_to_posterior: float
    kl_to_prior: float


def truth(network, x_g, *, n_nodes=801, reach=14.0):
    """Sum over a grid of codes; a latent with spikes has one node more, the spike at 0, which weighs by itself.

    The grid of a positive slab is that of its Gaussian, which the code is one to one with.
    """
    with torch.no_grad():
        posterior = network.posterior(copies(x_g, 1))
    grid = np.linspace(-reach, reach, n_nodes)
    grid += 1e-9  # so that no node of the slab is exactly 0
    step = grid[1] - grid[0]
    sigma_k = posterior.log_sigma[0].exp().numpy()
    n_latent = len(sigma_k)
    if posterior.gamma is None:
        gamma_k, mu_k = [None] * n_latent, posterior.mean[0].numpy()
        nodes, weights = grid, np.full(n_nodes, step)
        priors = [(0.0, [(0.0, 1.0, None)] * n_latent)]
    else:
        gamma_k, mu_k = posterior.gamma[0].numpy(), posterior.mu[0].numpy()
        prior = posterior.prior
        values = np.logaddexp(0, grid) if prior.slab is SLABS["positive"] else grid
        nodes, weights = np.append(values, 0.0), np.append(np.full(n_nodes, step), 1.0)
        priors = [
            (log_weight, list(zip(mu, np.exp(log_sigma), special.expit(logit), strict=True)))
            for log_weight, mu, log_sigma, logit in zip(
                *(
                    value.detach().numpy()
                    for value in (prior.log_weight, prior.mu, prior.log_sigma, prior.logit)
                ),
                strict=True,
            )
        ]

    def log_density(mu, sigma, on):
        slab = stats.norm(mu, sigma).logpdf(grid)
        return slab if on is None else np.append(math.log(on) + slab, math.log1p(-on))

    log_q_m = outer([log_density(*latent) for latent in zip(mu_k, sigma_k, gamma_k, strict=True)])
    log_p_m = np.logaddexp.reduce(
        [log_weight + outer([log_density(*latent) for latent in latents]) for log_weight, latents in priors]
    )
    z_mk = np.stack([axis.ravel() for axis in np.meshgrid(*[nodes] * n_latent, indexing="ij")], axis=1)
    weight_m = outer([np.log(weights)] * n_latent)
    log_joint_m = log_p_m + log_likelihood(network, z_mk, x_g)
    q_m = np.exp(log_q_m + weight_m)
    assert q_m.sum() == pytest.approx(1, abs=1e-6)
    assert np.exp(log_p_m + weight_m).sum() == pytest.approx(1, abs=1e-6)
    log_evidence = np.logaddexp.reduce(log_joint_m + weight_m)
    kl_to_posterior = mean(q_m, log_q_m - log_joint_m + log_evidence)
    return Truth(float(log_evidence), kl_to_posterior, mean(q_m, log_q_m - log_p_m))


def mean(q_m, values_m):
    """Where q is 0 a value may be infinite."""
    return float((q_m * np.where(q_m > 0, values_m, 0)).sum())


def outer(logs):
    """Log of the product over all combinations of nodes, flattened."""
    total = logs[0]
    for more in logs[1:]:
        total = np.add.outer(total, more)
    return total.ravel()


@pytest.mark.parametrize("case", CASES)
def test_the_mean_of_one_draw_bounds_is_the_evidence_less_the_kl_to_the_true_posterior(case):
    name, settings, n_genes = CASES[case]
    network, x_g = network_of(name, settings, n_genes)
    exact = truth(network, x_g)
    batch = copies(x_g, N_DRAWS)
    with torch.no_grad():
        output = network(batch, torch.Generator().manual_seed(0))
        loss = negative_elbo(output, network.likelihood, batch, beta=1.0)
        error = network.likelihood.nll(output.h_nh, batch).std().item() / math.sqrt(N_DRAWS)
    gap = exact.log_evidence + loss.total.item()
    assert abs(gap - exact.kl_to_posterior) < 4 * error + 1e-4
    assert exact.kl_to_posterior > 10 * error  # else the draws could not tell the bound from the evidence
    assert loss.kl.item() == pytest.approx(exact.kl_to_prior, abs=1e-6)


@pytest.mark.parametrize("case", MIXED)
def test_with_several_components_the_bound_stays_a_bound(case):
    """It lies below the evidence by the KL to the true posterior, and by what its KL to the prior is above the exact one."""
    name, settings, n_genes = MIXED[case]
    network, x_g = network_of(name, settings, n_genes)
    exact = truth(network, x_g)
    batch = copies(x_g, N_DRAWS)
    with torch.no_grad():
        output = network(batch, torch.Generator().manual_seed(0))
        loss = negative_elbo(output, network.likelihood, batch, beta=1.0)
        error = network.likelihood.nll(output.h_nh, batch).std().item() / math.sqrt(N_DRAWS)
    excess = loss.kl.item() - exact.kl_to_prior
    assert excess > 1e-4
    gap = exact.log_evidence + loss.total.item()
    assert abs(gap - exact.kl_to_posterior - excess) < 4 * error + 1e-4


def fitted(case, n_cells):
    """A model, in single precision, that holds the network of a case, and its cell `n_cells` times."""
    name, settings, n_genes = {**CASES, **MIXED}[case]
    network, x_g = network_of(name, settings, n_genes)
    if not network.likelihood.counts:
        x_g = np.abs(x_g).round(3) + 0.123
    genes = tuple(f"gene{number}" for number in range(n_genes))
    counts = network.likelihood.counts
    schema = Schema(genes, None, counts=counts, log_normalize=False)
    model = Model(settings_of(name, settings), schema, network.float(), [])
    values = pd.DataFrame(np.tile(x_g, (n_cells, 1)), columns=genes, dtype=np.float32)
    values.index = values.index.astype(str)
    if not counts:  # or all cells would have one total, as those have that were not logged
        values.iloc[-1] *= 1.5
    network, _ = network_of(name, settings, n_genes)
    return model, ad.AnnData(values), truth(network, x_g.astype(np.float32).astype(float))


BOUNDED = [
    "beta-vae, two latents",
    "beta-vae, counts",
    "beta-vsc, two latents",
    "beta-vsc, counts",
    "beta-vsc, readable",
    *MIXED,
]


@pytest.mark.parametrize("case", BOUNDED)
def test_the_importance_weighted_bound_comes_to_the_evidence(case):
    model, adata, exact = fitted(case, 21)
    found_n = model.marginal_log_likelihood(adata, n_samples=3000, seed=2)[:20]
    assert exact.kl_to_posterior > 0.05  # so far does the ELBO lie below
    error = found_n.std() / math.sqrt(len(found_n))
    assert found_n.mean() == pytest.approx(exact.log_evidence, abs=4 * error + 0.01)
    assert error < 0.03


@pytest.mark.parametrize("case", BOUNDED)
def test_the_importance_weighted_bound_rises_from_the_elbo_to_the_evidence_with_the_draws(case):
    """With one draw its mean is the ELBO, under the exact KL to the prior; with more it rises, and stays below the evidence."""
    model, adata, exact = fitted(case, 3001)
    means, errors = [], []
    for n_samples in (1, 4, 16):
        found_n = model.marginal_log_likelihood(adata, n_samples=n_samples)[:3000]
        means.append(found_n.mean())
        errors.append(4 * found_n.std() / math.sqrt(3000))
    assert means[0] == pytest.approx(exact.log_evidence - exact.kl_to_posterior, abs=errors[0])
    assert means[0] < means[1] < means[2] < exact.log_evidence + errors[2]


@pytest.mark.parametrize("case", ["beta-vae, counts", "beta-vsc, counts"])
def test_the_score_is_the_mean_of_one_draw_bounds(case):
    model, adata, exact = fitted(case, 3000)
    error = model.marginal_log_likelihood(adata, n_samples=1).std() / math.sqrt(3000)
    expected = exact.log_evidence - exact.kl_to_posterior
    assert model.score(adata) == pytest.approx(expected, abs=4 * error)


def test_a_decoder_that_ignores_the_code_leaves_the_prior_as_the_best_posterior():
    """Then log p(x) is the density itself, and the KL to the true posterior is the KL to the prior."""
    network, x_g = network_of(*CASES["beta-vsc, one latent"])
    with torch.no_grad():
        next(network.decoder.parameters()).zero_()
        exact = truth(network, x_g)
        posterior = network.posterior(copies(x_g, 1))
        nll = network.likelihood.nll(network.decode(posterior.mean, copies(x_g, 1)), copies(x_g, 1)).item()
    assert exact.log_evidence == pytest.approx(-nll, abs=1e-6)
    assert exact.kl_to_posterior == pytest.approx(posterior.kl().item(), abs=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_the_mean_nll_plus_beta_times_the_mean_kl(name, beta):
    network = MODELS[name](**TINY, likelihood="gaussian").network(4)
    batch = cells(torch.randn(7, 4, generator=torch.Generator().manual_seed(1)))
    output = network(batch, torch.Generator().manual_seed(0))
    loss = negative_elbo(output, network.likelihood, batch, beta)
    kl_n = output.posterior.kl().sum(dim=1)
    assert loss.nll.item() == pytest.approx(network.likelihood.nll(output.h_nh, batch).mean().item())
    assert loss.kl.item() == pytest.approx(kl_n.mean().item())
    assert loss.total.item() == pytest.approx(loss.nll.item() + beta * loss.kl.item(), rel=1e-6)
    assert (loss.kl.item() == 0) == (not MODELS[name].generative)


def test_the_kl_is_summed_over_latents_and_averaged_over_cells():
    mean_nk = torch.tensor([[1.0, 2.0], [0.0, 3.0], [0.0, 0.0]])
    posterior = GaussianPosterior(mean_nk, torch.zeros(3, 2))
    likelihood = Gaussian(2, 4, 0, LikelihoodConfig())
    batch = cells(torch.zeros(3, 4))
    loss = negative_elbo(Output(posterior, mean_nk), likelihood, batch, 1.0)
    assert loss.kl.item() == pytest.approx((0.5 + 2.0 + 4.5) / 3)


def gaussian(n_hidden, n_genes, variance):
    likelihood = Gaussian(n_hidden, n_genes, 0, LikelihoodConfig(gaussian_variance=variance)).double()
    source = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source, dtype=torch.float64))
    h_nh = torch.randn(6, n_hidden, generator=source, dtype=torch.float64)
    x_ng = torch.randn(6, n_genes, generator=source, dtype=torch.float64) * 3
    return likelihood, h_nh, x_ng


@pytest.mark.parametrize("variance", [0.5, 0.01, 7.0])
def test_gaussian_nll_is_scipy_s_and_its_own_distribution_s(variance):
    likelihood, h_nh, x_ng = gaussian(3, 4, variance)
    with torch.no_grad():
        nll_n = likelihood.nll(h_nh, cells(x_ng)).numpy()
        distribution = likelihood.distribution(h_nh, cells(x_ng))
        mean_ng = h_nh.numpy() @ likelihood.head.weight.numpy().T + likelihood.head.bias.numpy()
    log_prob_ng = stats.norm(mean_ng, math.sqrt(variance)).logpdf(x_ng.numpy())
    np.testing.assert_allclose(distribution.mean.numpy(), mean_ng, rtol=1e-12)
    np.testing.assert_allclose(distribution.log_prob(x_ng).numpy(), log_prob_ng, rtol=1e-10)
    np.testing.assert_allclose(nll_n, -log_prob_ng.sum(axis=1), rtol=1e-10)


def test_gaussian_density_integrates_to_one():
    likelihood, h_nh, _ = gaussian(3, 1, 0.7)
    grid = torch.linspace(-40, 40, 80_001, dtype=torch.float64)
    with torch.no_grad():
        nll = likelihood.nll(h_nh[:1].expand(len(grid), 3), cells(grid[:, None]))
    assert torch.trapezoid((-nll).exp(), grid).item() == pytest.approx(1, abs=1e-9)


def test_gaussian_gradients_are_those_of_finite_differences():
    likelihood, h_nh, x_ng = gaussian(3, 4, 0.7)
    weight, bias = likelihood.head.weight, likelihood.head.bias
    assert torch.autograd.gradcheck(
        lambda h, *_: likelihood.nll(h, cells(x_ng)), (h_nh.requires_grad_(), weight, bias)
    )


def test_with_variance_one_half_the_nll_is_the_sum_of_squares_and_a_constant():
    likelihood, h_nh, x_ng = gaussian(3, 4, LikelihoodConfig().variance)
    with torch.no_grad():
        nll_n = likelihood.nll(h_nh, cells(x_ng))
        squares_n = (likelihood.head(h_nh) - x_ng).square().sum(dim=1)
    np.testing.assert_allclose((nll_n - squares_n).numpy(), 4 * 0.5 * math.log(math.pi), rtol=1e-9)


def test_gaussian_draws_have_the_distribution_s_moments_and_come_from_the_generator():
    likelihood, h_nh, x_ng = gaussian(3, 2, 0.7)
    with torch.no_grad():
        many = likelihood.distribution(h_nh[:1].expand(100_000, 3), cells(x_ng))
        state = torch.get_rng_state()
        x_ng = many.sample(torch.Generator().manual_seed(0))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.equal(x_ng, many.sample(torch.Generator().manual_seed(0)))
    for gene in range(2):
        expected = stats.norm(many.mean[0, gene].item(), math.sqrt(0.7))
        assert stats.kstest(x_ng[:, gene].numpy(), expected.cdf).pvalue > 1e-4
