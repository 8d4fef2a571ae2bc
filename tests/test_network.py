"""The networks of the seed study to the letter: widths, activations and the number of parameters, counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cells import cells
from sparcell.config import NetworkConfig
from sparcell.models import MODELS
from sparcell.network import Layers, Network

N_GENES = 13_714
"""Genes of the seed study."""
ENCODER = [(N_GENES, 128, None), (128, 32, "ReLU")]
DECODER = [(6, 16, "ReLU"), (16, 32, "ReLU"), (32, 128, "ReLU")]
BRANCH = [(32, 16, "ReLU"), (16, 6, None)]
BRANCHES = {
    "autoencoder": {"code": [(32, 16, "ReLU"), (16, 6, "ReLU")]},
    "beta-vae": {"mu": BRANCH, "log_sigma": BRANCH},
    "beta-vsc": {"mu": BRANCH, "log_sigma": BRANCH, "logit": BRANCH},
}
PARAMETERS = {
    # encoder 13,714·128 + 128 + 128·32 + 32, a branch 32·16 + 16 + 16·6 + 6 = 630, decoder 6·16 + 16 + 16·32 + 32 + 32·128 + 128,
    # head 128·13,714 + 13,714
    "autoencoder": 1_755_520 + 4_128 + 1 * 630 + 4_880 + 1_769_106,
    "beta-vae": 1_755_520 + 4_128 + 2 * 630 + 4_880 + 1_769_106,
    "beta-vsc": 1_755_520 + 4_128 + 3 * 630 + 4_880 + 1_769_106,
}


@pytest.fixture(scope="module", params=list(PARAMETERS))
def seed(request):
    """Name and network of a model with nothing but defaults."""
    return request.param, MODELS[request.param](likelihood="gaussian").network(N_GENES)


def read(module):
    """Linear layers in order, each with the activation that follows it."""
    found = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            found.append((layer.in_features, layer.out_features, None))
        elif isinstance(layer, nn.ReLU):
            n_in, n_out, before = found.pop()
            assert before is None
            found.append((n_in, n_out, "ReLU"))
        elif not isinstance(layer, nn.Sequential | nn.ModuleList | nn.Identity | Layers):
            raise TypeError(f"{layer} has no place in the seed's network")
    return found


def test_layers_are_the_seed_s(seed):
    name, network = seed
    assert read(network.encoder) == ENCODER
    assert {key: read(part) for key, part in network.latent.named_children()} == BRANCHES[name]
    assert read(network.decoder) == DECODER
    assert read(network.likelihood.head) == [(128, N_GENES, None)]


def test_parameters_are_as_many_as_counted_by_hand(seed):
    name, network = seed
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_training_settings_are_the_seed_s(seed):
    name, _ = seed
    settings = MODELS[name](likelihood="gaussian")
    assert (settings.epochs, settings.batch_size, settings.learning_rate) == (200, 256, 1e-3)
    assert settings.variance == 0.5  # the plain sum of squares
    if settings.generative:
        assert settings.kl_weight == 2


def test_the_first_layer_is_linear():
    """Without a ReLU between them the first two layers are one affine map; the output is its positive part."""
    config = NetworkConfig(norm="none", dropout=0.0)
    encoder = Layers((5, 4, 3), config, n_known=0, linear_first=True).double()
    first, second = (layer for layer in encoder.modules() if isinstance(layer, nn.Linear))
    x_ng = torch.randn(20, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    affine = x_ng @ (second.weight @ first.weight).T + second.weight @ first.bias + second.bias
    torch.testing.assert_close(encoder(x_ng, x_ng[:, :0]), affine.clamp(min=0))


@pytest.mark.parametrize(("code", "negative"), [("relu", False), ("linear", True)])
def test_the_autoencoder_s_code_is_cut_at_zero_or_linear(code, negative):
    network = MODELS["autoencoder"](likelihood="gaussian", code=code).network(50)
    x_ng = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)) * 5
    mean = network.posterior(cells(x_ng)).mean
    assert bool((mean < 0).any()) == negative


@pytest.mark.parametrize("widths", [(7,), (9, 8, 7)])
def test_sizes_are_free(widths):
    for kind in MODELS.values():
        settings = kind(likelihood="gaussian", n_latent=2, encoder=widths, branch=5, decoder=widths)
        network = settings.network(11)
        assert [n_out for _, n_out, _ in read(network.encoder)] == list(widths)
        assert [(n_out, kind) for _, n_out, kind in read(network.decoder)] == [
            (width, "ReLU") for width in widths
        ]
        output = network(cells(torch.zeros(3, 11)), torch.Generator().manual_seed(0))
        assert output.h_nh.shape == (3, widths[-1])
        assert output.posterior.mean.shape == (3, 2)


def test_a_pass_encodes_draws_and_decodes():
    settings = MODELS["beta-vae"](likelihood="gaussian", n_latent=2)
    network = settings.network(11)
    assert isinstance(network, Network)
    batch = cells(torch.randn(3, 11, generator=torch.Generator().manual_seed(1)))
    output = network(batch, torch.Generator().manual_seed(0))
    z_nk = output.posterior.rsample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(output.h_nh, network.decode(z_nk, batch))


@pytest.mark.parametrize("name", MODELS)
def test_initial_weights_come_from_the_seed_and_leave_the_global_generator_alone(name):
    state = torch.get_rng_state()
    first, again = (
        MODELS[name](likelihood="gaussian", seed=4).network(20),
        MODELS[name](likelihood="gaussian", seed=4).network(20),
    )
    other = MODELS[name](likelihood="gaussian", seed=5).network(20)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(first.parameters(), again.parameters(), other.parameters(), strict=True)
    for one, two, three in pairs:
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
