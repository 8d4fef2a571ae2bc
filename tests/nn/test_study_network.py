"""The networks of the 2019 study: widths, activations and the number of parameters, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.cells import cells, generator
from helpers.kinds import study_2019
from sparcell.config.model import NetworkConfig
from sparcell.models import MODELS
from sparcell.nn.mlp import MLP

N_GENES = 13_714
"""Genes of the 2019 study."""


ENCODER = [(N_GENES, 128, None), (128, 32, "ReLU")]


DECODER = [(6, 16, "ReLU"), (16, 32, "ReLU"), (32, 128, "ReLU")]


HEAD = [(32, 16, "ReLU"), (16, 6, None)]


HEADS = {
    "autoencoder": {"code": [(32, 16, "ReLU"), (16, 6, "ReLU")]},
    "beta-vae": {"mu": HEAD, "log_sigma": HEAD},
    "beta-vsc": {"mu": HEAD, "log_sigma": HEAD, "logit": HEAD},
}


PARAMETERS = {
    # encoder 13,714·128 + 128 + 128·32 + 32, a posterior head 32·16 + 16 + 16·6 + 6 = 630, decoder 6·16 + 16 + 16·32 + 32 + 32·128 + 128,
    # output head 128·13,714 + 13,714
    "autoencoder": 1_755_520 + 4_128 + 1 * 630 + 4_880 + 1_769_106,
    "beta-vae": 1_755_520 + 4_128 + 2 * 630 + 4_880 + 1_769_106,
    "beta-vsc": 1_755_520 + 4_128 + 3 * 630 + 4_880 + 1_769_106,
}


@pytest.fixture(scope="module", params=list(PARAMETERS))
def study(request):
    """Return name, settings and network of a model with the preset study-2019."""
    settings = study_2019(request.param)
    return request.param, settings, settings.network(N_GENES)


def layers_of(module):
    """Return (inputs, outputs, activation or None) of the linear layers, in order."""
    layers = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layers.append((layer.in_features, layer.out_features, None))
        elif isinstance(layer, nn.ReLU):
            n_in, n_out, before = layers.pop()
            assert before is None
            layers.append((n_in, n_out, "ReLU"))
        elif not isinstance(layer, nn.Sequential | nn.ModuleList | nn.Identity | MLP):
            raise TypeError(f"{layer} is not a layer of the 2019 study")
    return layers


def test_the_study_2019_preset_has_the_studys_layers(study):
    name, _, network = study
    assert layers_of(network.encoder) == ENCODER
    assert {key: layers_of(part) for key, part in network.latent_encoder.named_children()} == HEADS[name]
    assert layers_of(network.decoder) == DECODER
    assert layers_of(network.likelihood.head) == [(128, N_GENES, None)]


def test_the_study_2019_network_has_the_number_of_parameters_counted_by_hand(study):
    name, _, network = study
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_study_2019_preset_trains_as_the_study_did(study):
    _, settings, _ = study
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (200, 256, 1e-3)
    assert (settings.lr_schedule, settings.validation_fraction, settings.kl_warmup_fraction) == (
        "constant",
        0,
        0,
    )
    assert settings.gaussian_variance == 0.5  # the loss is the plain sum of squares
    if settings.generative:
        assert settings.kl_weight == 2


def test_without_normalization_the_first_encoder_layer_is_linear():
    """Without a ReLU between them the first two layers are one affine map; the output is its positive part."""
    config = NetworkConfig(normalization="none", dropout=0.0)
    encoder = MLP((5, 4, 3), config, n_covariates=0, linear_first=True).double()
    first, second = (layer for layer in encoder.modules() if isinstance(layer, nn.Linear))
    x_ng = torch.randn(20, 5, dtype=torch.float64, generator=generator())
    affine = x_ng @ (second.weight @ first.weight).T + second.weight @ first.bias + second.bias
    torch.testing.assert_close(encoder(x_ng, x_ng[:, :0]), affine.clamp(min=0))


@pytest.mark.parametrize(("activation", "negative"), [("relu", False), ("linear", True)])
def test_latent_activation_relu_cuts_the_autoencoders_latents_at_zero(activation, negative):
    network = study_2019("autoencoder", latent_activation=activation).network(50)
    x_ng = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)) * 5
    mean = network.posterior(cells(x_ng)).mean
    assert bool((mean < 0).any()) == negative


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("widths", [(7,), (9, 8, 7)])
def test_widths_of_encoder_and_decoder_are_as_set(widths, name):
    settings = study_2019(name, n_latent=2, encoder_widths=widths, head_width=5, decoder_widths=widths)
    network = settings.network(11)
    assert [n_out for _, n_out, _ in layers_of(network.encoder)] == list(widths)
    assert [layer[1:] for layer in layers_of(network.decoder)] == [(width, "ReLU") for width in widths]
    output = network(cells(torch.zeros(3, 11)), generator())
    assert output.h_nh.shape == (3, widths[-1])
    assert output.posterior.mean.shape == (3, 2)


def test_forward_encodes_draws_and_decodes():
    network = study_2019("beta-vae", n_latent=2).network(11)
    batch = cells(torch.randn(3, 11, generator=generator(1)))
    output = network(batch, generator())
    z_nk = output.posterior.rsample(generator())
    torch.testing.assert_close(output.h_nh, network.decode(z_nk, batch))


@pytest.mark.parametrize("name", MODELS)
def test_initial_weights_depend_on_the_seed_and_not_on_the_global_generator(name):
    state = torch.get_rng_state()
    first, again, other = (study_2019(name, seed=seed).network(20) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), state)
    for one, two, three in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
