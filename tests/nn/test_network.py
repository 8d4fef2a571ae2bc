"""The networks of the seed study to the letter: widths, activations and the number of parameters, counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from helpers.cells import cells, generator, sparse_rows
from sparcell.config.model import NetworkConfig
from sparcell.likelihoods import LIKELIHOODS
from sparcell.models import MODELS
from sparcell.nn.network import MLP, MOST_SDS, Network, drop

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
        elif not isinstance(layer, nn.Sequential | nn.ModuleList | nn.Identity | MLP):
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
    assert settings.gaussian_variance == 0.5  # the plain sum of squares
    if settings.generative:
        assert settings.kl_weight == 2


def test_the_first_layer_is_linear():
    """Without a ReLU between them the first two layers are one affine map; the output is its positive part."""
    config = NetworkConfig(normalization="none", dropout=0.0)
    encoder = MLP((5, 4, 3), config, n_known=0, linear_first=True).double()
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
        settings = kind(
            likelihood="gaussian", n_latent=2, encoder_widths=widths, head_width=5, decoder_widths=widths
        )
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


# Counts: what the encoder sees, and how a network begins


def counted(**changes):
    """Settings of a small network for counts, in which nothing is left out, normalised or standardised unless asked for."""
    plain = {"normalization": "none", "dropout": 0.0, "input_dropout": 0.0, "standardize_input": False}
    sizes = {"encoder_widths": (7,), "decoder_widths": (6,), "n_latent": 3}
    return MODELS["beta-vae"](**{"likelihood": "nb", **sizes, **plain, **changes})


def some_counts(n_cells=40, n_genes=5, seed=0):
    rng = np.random.default_rng(seed)
    rate_ng = rng.gamma(1.0, 4.0, size=(n_cells, 1)) * rng.gamma(1.0, 2.0, size=n_genes)
    return torch.from_numpy(rng.poisson(rate_ng).astype(np.float32))


def logs_of(x_ng):
    """LogNormalize in numpy; a cell without a count stays at 0."""
    counts_ng = x_ng.double().numpy()
    return torch.from_numpy(
        np.log1p(counts_ng / np.maximum(counts_ng.sum(axis=1, keepdims=True), 1) * 1e4)
    ).float()


def test_the_encoder_of_counts_sees_logs_of_cells_scaled_to_10000():
    x_ng = some_counts()
    network = counted().network(5)
    torch.testing.assert_close(network.input(cells(x_ng)), logs_of(x_ng))
    torch.testing.assert_close(network.posterior(cells(x_ng)).mean, network.posterior(cells(3 * x_ng)).mean)


def test_the_encoder_of_expression_sees_it_as_it_is():
    x_ng = some_counts() / 7
    network = MODELS["beta-vae"](likelihood="gaussian").network(5)
    assert torch.equal(network.input(cells(x_ng)), x_ng)
    network.begin([cells(x_ng)])
    assert torch.equal(network.input(cells(x_ng)), x_ng)


@pytest.mark.parametrize("sizes", [(40,), (1, 39), (13, 13, 14)])
def test_standardised_genes_have_mean_0_and_variance_1_over_the_cells_that_train(sizes):
    """However the cells come; a gene that never varies stays at 0."""
    x_ng = some_counts()
    x_ng[:, 2] = 0
    network = counted(standardize_input=True).network(5)
    network.begin([cells(part) for part in x_ng.split(sizes)])
    seen = network.input(cells(x_ng))
    torch.testing.assert_close(network.input_mean, logs_of(x_ng).mean(dim=0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen.mean(dim=0), torch.zeros(5), rtol=0, atol=1e-4)
    expected = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(seen.var(dim=0, unbiased=False), expected, rtol=1e-3, atol=1e-3)


def test_standardised_values_are_cut_at_ten_standard_deviations():
    x_ng = torch.full((200, 3), 5.0)
    x_ng[0, 0] = 6
    network = counted(standardize_input=True).network(3)
    network.begin([cells(x_ng)])
    seen = network.input(cells(torch.tensor([[100.0, 0.0, 1.0], [0.0, 5.0, 5.0]])))
    assert seen.max() == MOST_SDS == 10
    assert seen.min() == -MOST_SDS


def test_the_constants_of_the_input_are_saved_with_the_weights_and_are_no_parameters():
    network = counted(standardize_input=True).network(5)
    network.begin([cells(some_counts())])
    assert {"input_mean", "input_sd"} <= set(network.state_dict())
    assert not [name for name, _ in network.named_parameters() if name.startswith("input")]
    other = counted(standardize_input=True, seed=3).network(5)
    other.load_state_dict(network.state_dict())
    batch = cells(some_counts(seed=1))
    assert torch.equal(other.input(batch), network.input(batch))
    assert not [name for name in counted().network(5).state_dict() if name.startswith("input")]


@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb"])
def test_a_head_of_counts_begins_with_the_genes_shares(likelihood):
    """Where the decoder says nothing, each cell is restored as the average cell of its size."""
    x_ng = some_counts()
    x_ng[:, 2] = 0
    network = counted(likelihood=likelihood).network(5)
    network.begin([cells(x_ng[:15]), cells(x_ng[15:])])
    with torch.no_grad():
        if likelihood == "zinb":
            network.likelihood.drop.bias.fill_(-50)
        mean_ng = network.likelihood.distribution(torch.zeros(40, 6), cells(x_ng)).mean
    total_g = x_ng.sum(dim=0) + 1
    expected = x_ng.sum(dim=1, keepdim=True).clamp_min(1) * total_g / total_g.sum()
    torch.testing.assert_close(mean_ng, expected, rtol=1e-4, atol=1e-5)
    assert (mean_ng > 0).all()


def test_a_network_of_counts_begins_alike_with_sparse_cells():
    """Shares of the genes, those of each batch, and the constants of the input."""
    x_ng, batch_nb = some_counts(), torch.eye(2)[torch.arange(40) % 2]
    plain = cells(x_ng, batch_nb)
    begun = []
    for batch in (plain, replace(plain, x=sparse_rows(x_ng.numpy()))):
        network = counted(standardize_input=True).network(5, 2)
        network.begin([batch])
        begun.append(network.state_dict())
    for name, value in begun[0].items():
        torch.testing.assert_close(begun[1][name], value, rtol=1e-5, atol=1e-6)


def test_a_head_of_expression_keeps_its_initial_weights():
    network = MODELS["beta-vae"](likelihood="gaussian").network(5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.begin([cells(some_counts())])
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


# Dropout, norm, covariates


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_sets_its_share_to_zero_and_raises_the_others(share):
    x = torch.rand(500, 400, generator=generator()) + 0.5
    dropped = drop(x, share, generator(1))
    assert torch.equal(dropped, drop(x, share, generator(1)))
    assert not torch.equal(dropped, drop(x, share, generator(2)))
    left_out = (dropped == 0).double().mean().item()
    assert left_out == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / x.numel()))
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], x[kept] / (1 - share))
    assert torch.equal(drop(x, share, None), x)
    assert torch.equal(drop(x, 0.0, generator(1)), x)


@pytest.mark.parametrize("setting", ["dropout", "input_dropout"])
def test_dropout_is_drawn_in_training_only(setting):
    network = counted(**{setting: 0.4}).network(5)
    batch = cells(some_counts())
    with torch.no_grad():
        whole = network.eval().posterior(batch, generator(1)).mean
        assert torch.equal(whole, network.posterior(batch).mean)
        first = network.train().posterior(batch, generator(1)).mean
        assert torch.equal(first, network.posterior(batch, generator(1)).mean)
        assert not torch.equal(first, network.posterior(batch, generator(2)).mean)
        assert not torch.equal(first, whole)
        assert torch.equal(counted().network(5).train().posterior(batch, generator(1)).mean, whole)


def test_dropout_of_the_input_leaves_out_genes_of_the_encoder_and_not_of_the_likelihood():
    network = counted(input_dropout=0.999).network(5).train()
    batch = cells(some_counts())
    nothing = network.posterior(cells(torch.zeros(1, 5)), None).mean
    found = network.posterior(batch, generator(1)).mean
    assert (found == nothing).all(dim=1).double().mean() > 0.9
    assert torch.equal(batch.x_ng, some_counts())


# Cells shown in other batches


def moving(likelihood, **changes):
    """A network whose batches differ, in training, and cells of three batches."""
    x_ng, batch_nb = some_counts(), torch.eye(3)[torch.arange(40) % 3]
    settings = {
        "batch_augmentation": True,
        "likelihood": likelihood,
        "encoder_widths": (7,),
        "decoder_widths": (6,),
        "head_width": 0,
    }
    network = counted(**settings | changes).network(5, 3)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator(3)))
    x_ng = x_ng if likelihood != "gaussian" else logs_of(x_ng)
    return network.train(), cells(x_ng, batch_nb)


def softmax(logit_ng):
    share_ng = np.exp(logit_ng - logit_ng.max(axis=1, keepdims=True))
    return share_ng / share_ng.sum(axis=1, keepdims=True)


def test_a_cell_shown_in_another_batch_gets_the_difference_the_decoder_makes():
    """Of both decodings, by numpy from the weights; a cell of the batch that was drawn stays as it is."""
    network, batch = moving("nb")
    x_ng = logs_of(batch.x_ng)
    moved_ng, moved = network.augment_batch(x_ng, batch, generator(1), 1.0)
    draw = generator(1)
    with torch.no_grad():
        z_nk = network.latent(network.encoder(x_ng, x_ng[:, :0])).rsample(draw)
    drawn_n = torch.randint(3, (40,), generator=draw)
    assert torch.equal(moved.batch_nb, torch.eye(3)[drawn_n])
    hidden, head = network.decoder.first, network.likelihood.head
    seen = []
    for batch_nb in (moved.batch_nb, batch.batch_nb):
        told_n = torch.cat([z_nk, batch_nb], dim=1).numpy()
        h_nh = np.maximum(told_n @ hidden.weight.detach().numpy().T + hidden.bias.detach().numpy(), 0)
        told_n = np.concatenate([h_nh, batch_nb.numpy()], axis=1)
        logit_ng = told_n @ head.weight.detach().numpy().T + head.bias.detach().numpy()
        seen.append(np.log1p(1e4 * softmax(logit_ng.astype(np.float64))))
    expected_ng = x_ng + torch.from_numpy(seen[0] - seen[1]).float()
    torch.testing.assert_close(moved_ng, expected_ng, rtol=1e-4, atol=1e-4)
    stays_n = drawn_n == torch.arange(40) % 3
    assert 0 < stays_n.sum() < 40
    torch.testing.assert_close(moved_ng[stays_n], x_ng[stays_n])
    assert ((moved_ng[~stays_n] - x_ng[~stays_n]).abs().max(dim=1).values > 1e-2).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_sparse_cells_are_shown_in_the_same_batches_as_dense_ones(likelihood):
    network, plain = moving(likelihood)
    sparse = replace(plain, x=sparse_rows(plain.x_ng.numpy()))
    dense_ng, there = network.augment_batch(network.input(plain), plain, generator(1), 1.0)
    shifted, also_there = network.augment_batch(
        network.sparse_input(sparse.sparse, sparse.library_size_n1), sparse, generator(1), 1.0
    )
    assert torch.equal(there.batch_nb, also_there.batch_nb)
    moved_n = (there.batch_nb != plain.batch_nb).any(dim=1)
    assert torch.equal(shifted.index_m, moved_n.nonzero().squeeze(1))
    sparse_ng = shifted.cells.dense().index_add(0, shifted.index_m, shifted.shift_mg)
    torch.testing.assert_close(sparse_ng, dense_ng, rtol=1e-4, atol=1e-4)
    of_dense, of_sparse = (network.posterior(batch, generator(2)).mean for batch in (plain, sparse))
    torch.testing.assert_close(of_sparse, of_dense, rtol=1e-3, atol=1e-3)
    assert "x_ng" not in vars(sparse)


def test_sparse_cells_of_which_none_is_moved_stay_as_they_are():
    """As a last step of one cell may have it."""
    network, plain = moving("nb")
    batch = replace(plain, x=sparse_rows(plain.x_ng.numpy())).take(torch.tensor([4]))
    x = network.sparse_input(batch.sparse, batch.library_size_n1)
    seen = [network.augment_batch(x, batch, generator(seed), 1.0) for seed in range(20)]
    stays = [torch.equal(moved.batch_nb, batch.batch_nb) for _, moved in seen]
    assert 0 < sum(stays) < 20
    assert [found is x for found, _ in seen] == stays
    assert network.posterior(batch, generator(stays.index(True))).mean.isfinite().all()


def test_cells_are_shown_in_other_batches_in_training_only_and_only_if_there_are_several():
    network, batch = moving("nb")
    with torch.no_grad():
        whole = network.eval().posterior(batch, generator(1)).mean
        assert not torch.equal(network.train().posterior(batch, generator(1)).mean, whole)
        network.translate = False
        assert torch.equal(network.posterior(batch, generator(1)).mean, whole)
        network.translate = True
        one = counted(batch_augmentation=True).network(5, 1).train()
        alone = cells(some_counts(), torch.ones(40, 1))
        assert torch.equal(one.posterior(alone, generator(1)).mean, one.eval().posterior(alone).mean)


def test_a_norm_gives_every_hidden_layer_mean_0_and_variance_1_before_its_relu():
    network = counted(normalization="layer", encoder_widths=(50, 40), decoder_widths=(30,)).network(5)
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert [norm.normalized_shape[0] for norm in norms] == [50, 40, 30]
    parts = [part for layer in network.encoder.layers for part in layer]
    kinds = [nn.Linear, nn.LayerNorm, nn.ReLU] * 2  # no layer is linear
    assert all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True))
    hidden = network.encoder.layers[0][:2](torch.randn(9, 5, generator=generator()))
    torch.testing.assert_close(hidden.mean(dim=1), torch.zeros(9), rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden.var(dim=1, unbiased=False), torch.ones(9), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("encode", [False, True], ids=["decoder told", "encoder told too"])
def test_covariates_join_every_layer_that_is_told_them(encode):
    network = counted(encode_covariates=encode, encoder_widths=(7, 8), decoder_widths=(6, 9)).network(5, 2, 1)
    told = 3 if encode else 0
    assert [(n_in, n_out) for n_in, n_out, _ in read(network.encoder)] == [(5 + told, 7), (7 + told, 8)]
    assert [(n_in, n_out) for n_in, n_out, _ in read(network.decoder)] == [(3 + 3, 6), (6 + 3, 9)]
    x_ng = some_counts(4)
    one, other = (
        cells(x_ng, torch.tensor([row]).expand(4, -1), torch.zeros(4, 1)) for row in ([1.0, 0.0], [0.0, 1.0])
    )
    same_code = torch.equal(network.posterior(one).mean, network.posterior(other).mean)
    assert same_code == (not encode)
    z_nk = torch.zeros(4, 3)
    assert not torch.equal(network.decode(z_nk, one), network.decode(z_nk, other))
