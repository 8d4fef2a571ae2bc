"""Latent encoders and priors of the models: spike warm-up, learned alpha, draws from the prior."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from helpers.cells import generator
from helpers.kinds import study_2019
from helpers.posteriors import assert_mean_near
from helpers.simulated import COUNTS, simulated_cells
from sparcell.models import MODELS
from sparcell.models.spike_slab import GATES


def encoder_with(**settings):
    """Return a latent encoder of the beta-VSC in double precision, and features."""
    encoder = MODELS["beta-vsc"](likelihood="nb", n_latent=3, **settings).latent_encoder(8).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator(2), dtype=torch.float64) * 0.5)
    return encoder, torch.randn(50, 8, generator=generator(4), dtype=torch.float64)


def test_in_a_spike_warmup_the_slab_starts_as_the_standard_normal():
    encoder, features_nh = encoder_with(spike_warmup=True, n_prior_components=1)
    with torch.no_grad():
        first, half, last = (encoder(features_nh, progress) for progress in (0.0, 0.5, 1.0))
        plain = encoder_with(spike_warmup=False, n_prior_components=1)[0](features_nh, 0.0)
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
def test_the_gate_gets_temperature_and_progress(gate, progress):
    encoder, features_nh = encoder_with(gate=gate, temperature=0.7, n_prior_components=1)
    with torch.no_grad():
        posterior = encoder(features_nh, progress)
        source = generator(9)
        gate = GATES[gate](posterior.logit, 0.7, progress, source)
        noise = torch.randn(posterior.mu.shape, generator=source)
        expected = gate * (posterior.mu + posterior.log_sigma.exp() * noise)
        torch.testing.assert_close(posterior.rsample(generator(9)), expected, rtol=1e-12, atol=0)


def test_a_learned_alpha_is_optimal_at_the_mean_inclusion_probability():
    """Each has one of its own, which gets a gradient; the KL is lowest where it is the mean gamma."""
    encoder, features_nh = encoder_with(alpha="learned", n_prior_components=1)
    gamma_k = encoder(features_nh).gamma.mean(dim=0).detach()
    encoder.zero_grad()
    encoder(features_nh).kl().sum().backward()
    assert (encoder.prior_logit.grad != 0).all()
    with torch.no_grad():
        encoder.prior_logit.copy_(torch.logit(gamma_k))
    encoder.zero_grad()
    encoder(features_nh).kl().sum().backward()
    torch.testing.assert_close(
        encoder.prior_logit.grad, torch.zeros_like(encoder.prior_logit), rtol=0, atol=1e-10
    )
    assert not [
        name
        for name, _ in encoder_with(alpha=0.3, n_prior_components=1)[0].named_parameters()
        if "prior" in name
    ]


def test_a_trained_alpha_ends_near_the_mean_inclusion_probability():
    adata = simulated_cells()
    settings = {**COUNTS, "likelihood": "poisson", "alpha": "learned", "n_prior_components": 1, "epochs": 60}
    model = MODELS["beta-vsc"](**settings).fit(adata, silent=True)
    alpha_k = model.network.latent_encoder.prior_logit.sigmoid().detach().numpy().ravel()
    inclusion_k = model.inclusion_probability(adata).mean(axis=0)
    np.testing.assert_allclose(alpha_k, inclusion_k, atol=0.1)
    assert np.ptp(inclusion_k) > 0.2  # else any alpha would do


def test_gaussian_prior_draws_are_standard_normal():
    z = study_2019("beta-vae", n_latent=3).latent_encoder(8).prior(50_000, generator()).numpy()
    assert z.shape == (50_000, 3)
    for z_n in z.T:
        assert stats.kstest(z_n, "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(z.T) - np.eye(3)).max() < 0.03


def test_spike_slab_prior_draws_are_0_with_probability_1_minus_alpha_and_normal_elsewhere():
    z = study_2019("beta-vsc", n_latent=3, alpha=0.2).latent_encoder(8).prior(50_000, generator()).numpy()
    assert z.shape == (50_000, 3)
    for z_n in z.T:
        assert_mean_near(z_n == 0, 0.8)
        assert_mean_near(z_n**2, 0.2)
        assert stats.kstest(z_n[z_n != 0], "norm").pvalue > 1e-4


def draws_of(name, seed):
    """Return draws from the posterior and the prior of a model."""
    settings = study_2019(name, n_latent=3)
    with torch.no_grad():
        encoder = settings.network(5).latent_encoder
        source = generator(seed)
        z = encoder(torch.ones(4, settings.encoder_widths[-1])).rsample(source)
        return z, encoder.prior(4, source) if settings.generative else z


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


def test_an_autoencoders_posterior_is_a_point_without_kl():
    encoder = study_2019("autoencoder", latent_activation="linear").network(5).latent_encoder
    posterior = encoder(torch.randn(4, 32, generator=generator()))
    assert torch.equal(posterior.rsample(generator()), posterior.mean)
    assert torch.equal(posterior.kl(), torch.zeros(4, 6))
    assert posterior.gamma is None
