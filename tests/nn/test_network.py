"""What the encoder reads, how a network is initialized, dropout, normalization and covariates.

Suffixes: n cells, g genes, k latents, b batches.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from helpers.cells import cells, generator, sparse_rows, with_x
from helpers.kinds import study_2019
from helpers.networks import count_settings, log_normalized, random_counts
from sparcell.nn.mlp import dropout
from sparcell.nn.network import MAX_ZSCORE
from sparcell.protocols import AVERAGE_BATCH, Minibatch


def test_the_encoder_reads_counts_log_normalized_to_10000():
    x_ng = random_counts()
    network = count_settings().network(5)
    torch.testing.assert_close(network.encoder_input(cells(x_ng)), log_normalized(x_ng))
    torch.testing.assert_close(network.posterior(cells(x_ng)).mean, network.posterior(cells(3 * x_ng)).mean)


def test_the_encoder_reads_expression_unchanged():
    x_ng = random_counts() / 7
    network = study_2019("beta-vae").network(5)
    assert torch.equal(network.encoder_input(cells(x_ng)), x_ng)
    network.init_from_data([cells(x_ng)])
    assert torch.equal(network.encoder_input(cells(x_ng)), x_ng)


@pytest.mark.parametrize("sizes", [(40,), (1, 39), (13, 13, 14)])
def test_standardized_input_has_mean_0_and_variance_1_over_the_training_cells(sizes):
    """The sizes of the minibatches do not matter. A gene that never varies stays at 0."""
    x_ng = random_counts()
    x_ng[:, 2] = 0
    network = count_settings(standardize_input=True).network(5)
    network.init_from_data([cells(part) for part in x_ng.split(sizes)])
    input_ng = network.encoder_input(cells(x_ng))
    torch.testing.assert_close(network.input_mean, log_normalized(x_ng).mean(dim=0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(input_ng.mean(dim=0), torch.zeros(5), rtol=0, atol=1e-4)
    expected = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    torch.testing.assert_close(input_ng.var(dim=0, unbiased=False), expected, rtol=1e-3, atol=1e-3)


def test_standardized_input_is_cut_at_ten_standard_deviations():
    x_ng = torch.full((200, 3), 5.0)
    x_ng[0, 0] = 6
    network = count_settings(standardize_input=True).network(3)
    network.init_from_data([cells(x_ng)])
    input_ng = network.encoder_input(cells(torch.tensor([[100.0, 0.0, 1.0], [0.0, 5.0, 5.0]])))
    assert input_ng.max() == MAX_ZSCORE == 10
    assert input_ng.min() == -MAX_ZSCORE


def test_input_mean_and_sd_are_buffers_saved_with_the_weights():
    network = count_settings(standardize_input=True).network(5)
    network.init_from_data([cells(random_counts())])
    assert {"input_mean", "input_sd"} <= set(network.state_dict())
    assert not [name for name, _ in network.named_parameters() if name.startswith("input")]
    other = count_settings(standardize_input=True, seed=3).network(5)
    other.load_state_dict(network.state_dict())
    batch = cells(random_counts(seed=1))
    assert torch.equal(other.encoder_input(batch), network.encoder_input(batch))
    assert not [name for name in count_settings().network(5).state_dict() if name.startswith("input")]


@pytest.mark.parametrize("likelihood", ["poisson", "nb", "zinb"])
def test_a_count_heads_bias_starts_at_log_gene_fractions(likelihood):
    """With a hidden layer of 0 each cell is decoded as the average cell of its library size."""
    x_ng = random_counts()
    x_ng[:, 2] = 0
    network = count_settings(likelihood=likelihood).network(5)
    network.init_from_data([cells(x_ng[:15]), cells(x_ng[15:])])
    with torch.no_grad():
        if likelihood == "zinb":
            network.likelihood.drop.bias.fill_(-50)
        mean_ng = network.likelihood.distribution(torch.zeros(40, 6), cells(x_ng)).mean
    total_g = x_ng.sum(dim=0) + 1
    expected = x_ng.sum(dim=1, keepdim=True).clamp_min(1) * total_g / total_g.sum()
    torch.testing.assert_close(mean_ng, expected, rtol=1e-4, atol=1e-5)
    assert (mean_ng > 0).all()


def test_sparse_and_dense_cells_initialize_a_network_alike():
    """This holds for the head's bias, the weights of each batch and the input mean and sd."""
    x_ng, batch_nb = random_counts(), torch.eye(2)[torch.arange(40) % 2]
    dense = cells(x_ng, batch_nb)
    states = []
    for batch in (dense, with_x(dense, sparse_rows(x_ng.numpy()))):
        network = count_settings(standardize_input=True).network(5, 2)
        network.init_from_data([batch])
        states.append(network.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-6)


def test_init_from_data_leaves_a_gaussian_head_unchanged():
    network = study_2019("beta-vae").network(5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.init_from_data([cells(random_counts())])
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_dropout_zeroes_its_fraction_and_scales_the_rest_up(fraction):
    x = torch.rand(500, 400, generator=generator()) + 0.5
    dropped = dropout(x, fraction, generator(1))
    assert torch.equal(dropped, dropout(x, fraction, generator(1)))
    assert not torch.equal(dropped, dropout(x, fraction, generator(2)))
    dropped_fraction = (dropped == 0).double().mean().item()
    assert dropped_fraction == pytest.approx(
        fraction, abs=5 * math.sqrt(fraction * (1 - fraction) / x.numel())
    )
    rest = dropped != 0
    torch.testing.assert_close(dropped[rest], x[rest] / (1 - fraction))
    assert torch.equal(dropout(x, fraction, None), x)
    assert torch.equal(dropout(x, 0.0, generator(1)), x)


@pytest.mark.parametrize("setting", ["dropout", "input_dropout"])
def test_dropout_applies_in_training_only(setting):
    network = count_settings(**{setting: 0.4}).network(5)
    batch = cells(random_counts())
    with torch.no_grad():
        in_evaluation = network.eval().posterior(batch, generator(1)).mean
        assert torch.equal(in_evaluation, network.posterior(batch).mean)
        first = network.train().posterior(batch, generator(1)).mean
        assert torch.equal(first, network.posterior(batch, generator(1)).mean)
        assert not torch.equal(first, network.posterior(batch, generator(2)).mean)
        assert not torch.equal(first, in_evaluation)
        assert torch.equal(
            count_settings().network(5).train().posterior(batch, generator(1)).mean, in_evaluation
        )


def test_input_dropout_hides_genes_from_the_encoder_and_not_from_the_likelihood():
    network = count_settings(input_dropout=0.999).network(5).train()
    batch = cells(random_counts())
    without_genes = network.posterior(cells(torch.zeros(1, 5)), None).mean
    mean_nk = network.posterior(batch, generator(1)).mean
    assert (mean_nk == without_genes).all(dim=1).double().mean() > 0.9
    assert torch.equal(batch.x_ng, random_counts())


def test_layer_normalization_gives_hidden_units_mean_0_and_variance_1_before_the_relu():
    network = count_settings(normalization="layer", encoder_widths=(50, 40), decoder_widths=(30,)).network(5)
    norms = [module for module in network.modules() if isinstance(module, nn.LayerNorm)]
    assert [norm.normalized_shape[0] for norm in norms] == [50, 40, 30]
    parts = [part for layer in network.encoder.layers for part in layer]
    kinds = [nn.Linear, nn.LayerNorm, nn.ReLU] * 2  # no layer is linear
    assert all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True))
    hidden = network.encoder.layers[0][:2](torch.randn(9, 5, generator=generator()))
    torch.testing.assert_close(hidden.mean(dim=1), torch.zeros(9), rtol=0, atol=1e-5)
    torch.testing.assert_close(hidden.var(dim=1, unbiased=False), torch.ones(9), rtol=1e-3, atol=1e-3)


def linear_sizes(module):
    """Return (inputs, outputs) of the linear layers, in order."""
    return [
        (layer.in_features, layer.out_features) for layer in module.modules() if isinstance(layer, nn.Linear)
    ]


@pytest.mark.parametrize("encode", [False, True], ids=["decoder only", "encoder too"])
def test_covariates_join_the_input_of_every_decoder_layer_and_optionally_of_the_encoder(encode):
    network = count_settings(encode_covariates=encode, encoder_widths=(7, 8), decoder_widths=(6, 9)).network(
        5, 2, 1
    )
    n_covariates = 3 if encode else 0
    assert linear_sizes(network.encoder) == [(5 + n_covariates, 7), (7 + n_covariates, 8)]
    assert linear_sizes(network.decoder) == [(3 + 3, 6), (6 + 3, 9)]
    x_ng = random_counts(4)
    one, other = (
        cells(x_ng, torch.tensor([row]).expand(4, -1), torch.zeros(4, 1)) for row in ([1.0, 0.0], [0.0, 1.0])
    )
    same_latents = torch.equal(network.posterior(one).mean, network.posterior(other).mean)
    assert same_latents == (not encode)
    z_nk = torch.zeros(4, 3)
    assert not torch.equal(network.decode(z_nk, one), network.decode(z_nk, other))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batch_nb_is_one_hot_and_holds_the_batch_proportions_for_an_average_cell(dtype):
    none = torch.zeros((4, 0), dtype=dtype)
    proportions_b = torch.tensor([0.2, 0.5, 0.3], dtype=dtype)
    batch = Minibatch(
        torch.ones((4, 5), dtype=dtype),
        torch.ones((4, 1), dtype=dtype),
        torch.tensor([2, AVERAGE_BATCH, 0, 1]),
        none,
        proportions_b,
    )
    one_hot_bb = torch.eye(3, dtype=dtype)
    expected_nb = torch.stack([one_hot_bb[2], proportions_b, one_hot_bb[0], one_hot_bb[1]])
    assert batch.n_batches == 3
    assert batch.batch_nb.dtype == dtype
    assert torch.equal(batch.batch_nb, expected_nb)
    assert torch.equal(batch.batch_and_covariates_nc, expected_nb)
    assert torch.equal(batch.take(torch.tensor([1, 3])).batch_nb, expected_nb[[1, 3]])
    assert torch.equal(replace(batch, covariates_nc=expected_nb).batch_and_covariates_nc[:, 3:], expected_nb)


def test_without_batches_batch_nb_has_no_columns():
    batch = cells(torch.ones(4, 5), covariates_nc=torch.ones(4, 2))
    assert batch.n_batches == 0
    assert batch.batch_nb.shape == (4, 0)
    assert torch.equal(batch.batch_and_covariates_nc, torch.ones(4, 2))
