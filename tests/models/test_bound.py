"""The bounds against exact values: log p(x) and the KL to the true posterior, by quadrature over the latents.

Suffixes: n cells, g genes, k latents, m nodes of the quadrature.
"""

from __future__ import annotations

import math

import pytest
import torch

from helpers.cells import cells, generator
from helpers.evidence import CASES, MIXTURES, copies, model_of, network_of, settings_of, truth
from sparcell.config.model import LikelihoodConfig
from sparcell.likelihoods import Gaussian
from sparcell.models import MODELS
from sparcell.models.beta_vae import GaussianPosterior
from sparcell.protocols import Output
from sparcell.training.objective import negative_elbo

N_DRAWS = 60_000


def elbo_of_draws(network, x_g):
    """Return the loss of many copies of a cell, beta = 1, and the standard error of its mean."""
    batch = copies(x_g, N_DRAWS)
    with torch.no_grad():
        output = network(batch, generator(0))
        loss = negative_elbo(output, network.likelihood, batch, beta=1.0)
        error = network.likelihood.nll(output.h_nh, batch).std().item() / math.sqrt(N_DRAWS)
    return loss, error


@pytest.mark.parametrize("case", CASES)
def test_the_mean_elbo_is_the_evidence_minus_the_kl_to_the_true_posterior(case):
    name, settings, n_genes = CASES[case]
    network, x_g = network_of(name, settings, n_genes)
    exact = truth(network, x_g)
    loss, error = elbo_of_draws(network, x_g)
    gap = exact.log_evidence + loss.total.item()
    assert abs(gap - exact.kl_to_posterior) < 4 * error + 1e-4
    assert exact.kl_to_posterior > 10 * error  # else the draws could not tell the bound from the evidence
    assert loss.kl.item() == pytest.approx(exact.kl_to_prior, abs=1e-6)


@pytest.mark.parametrize("case", MIXTURES)
def test_with_several_components_the_elbo_is_lower_by_the_excess_of_the_bound_on_the_kl(case):
    name, settings, n_genes = MIXTURES[case]
    network, x_g = network_of(name, settings, n_genes)
    exact = truth(network, x_g)
    loss, error = elbo_of_draws(network, x_g)
    excess = loss.kl.item() - exact.kl_to_prior
    assert excess > 1e-4
    gap = exact.log_evidence + loss.total.item()
    assert abs(gap - exact.kl_to_posterior - excess) < 4 * error + 1e-4


BOUNDED = [
    "beta-vae, two latents",
    "beta-vae, counts",
    "beta-vsc, two latents",
    "beta-vsc, counts",
    "beta-vsc, programs",
    *MIXTURES,
]


@pytest.mark.parametrize("case", BOUNDED)
def test_the_importance_weighted_bound_approaches_the_evidence(case):
    model, adata, exact = model_of(case, 61)
    bound_n = model.marginal_log_likelihood(adata, n_samples=1000, seed=2)[:60]
    assert exact.kl_to_posterior > 0.05  # so far does the ELBO lie below
    error = bound_n.std() / math.sqrt(len(bound_n))
    assert bound_n.mean() == pytest.approx(exact.log_evidence, abs=4 * error + 0.01)
    assert error < 0.03


@pytest.mark.parametrize("case", BOUNDED)
def test_the_importance_weighted_bound_rises_with_the_draws_from_the_elbo_to_the_evidence(case):
    """With one draw its mean is the ELBO, under the exact KL to the prior; with more it rises, and stays below the evidence."""
    model, adata, exact = model_of(case, 3001)
    means, errors = [], []
    for n_samples in (1, 4, 16):
        bound_n = model.marginal_log_likelihood(adata, n_samples=n_samples)[:3000]
        means.append(bound_n.mean())
        errors.append(4 * bound_n.std() / math.sqrt(3000))
    assert means[0] == pytest.approx(exact.log_evidence - exact.kl_to_posterior, abs=errors[0])
    assert means[0] < means[1] < means[2] < exact.log_evidence + errors[2]


@pytest.mark.parametrize("case", ["beta-vae, counts", "beta-vsc, counts"])
def test_the_score_is_the_mean_elbo(case):
    model, adata, exact = model_of(case, 3000)
    error = model.marginal_log_likelihood(adata, n_samples=1).std() / math.sqrt(3000)
    expected = exact.log_evidence - exact.kl_to_posterior
    assert model.score(adata) == pytest.approx(expected, abs=4 * error)


def test_with_a_decoder_that_ignores_the_latents_the_prior_is_the_true_posterior():
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
    network = settings_of(name, {"n_latent": 6}).network(4)
    batch = cells(torch.randn(7, 4, generator=generator(1)))
    output = network(batch, generator(0))
    loss = negative_elbo(output, network.likelihood, batch, beta)
    kl_n = output.posterior.kl().sum(dim=1)
    assert loss.reconstruction.item() == pytest.approx(
        network.likelihood.nll(output.h_nh, batch).mean().item()
    )
    assert loss.kl.item() == pytest.approx(kl_n.mean().item())
    assert loss.total.item() == pytest.approx(loss.reconstruction.item() + beta * loss.kl.item(), rel=1e-6)
    assert (loss.kl.item() == 0) == (not MODELS[name].generative)


def test_the_kl_is_summed_over_latents_and_averaged_over_cells():
    mean_nk = torch.tensor([[1.0, 2.0], [0.0, 3.0], [0.0, 0.0]])
    posterior = GaussianPosterior(mean_nk, torch.zeros(3, 2))
    likelihood = Gaussian(2, 4, 0, LikelihoodConfig())
    batch = cells(torch.zeros(3, 4))
    loss = negative_elbo(Output(posterior, mean_nk), likelihood, batch, 1.0)
    assert loss.kl.item() == pytest.approx((0.5 + 2.0 + 4.5) / 3)
