"""Cells shown to the encoder in another batch.

Suffixes: n cells, g genes, h hidden units, b batches.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.cells import cells, generator, sparse_rows, with_x
from helpers.networks import count_settings, log_normalized, random_counts
from sparcell.likelihoods import LIKELIHOODS


def augmenting(likelihood, **changes):
    """Return a network whose batches differ, in training mode, and cells of three batches."""
    x_ng, batch_nb = random_counts(), torch.eye(3)[torch.arange(40) % 3]
    settings = {
        "batch_augmentation": True,
        "likelihood": likelihood,
        "encoder_widths": (7,),
        "decoder_widths": (6,),
        "head_width": 0,
    }
    network = count_settings(**settings | changes).network(5, 3)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator(3)))
    x_ng = x_ng if likelihood != "gaussian" else log_normalized(x_ng)
    return network.train(), cells(x_ng, batch_nb)


def softmax(logit_ng):
    exp_ng = np.exp(logit_ng - logit_ng.max(axis=1, keepdims=True))
    return exp_ng / exp_ng.sum(axis=1, keepdims=True)


def test_batch_augmentation_adds_the_decoders_difference_between_two_batches():
    """Both decodings are computed by numpy from the weights. A cell whose own batch is drawn is unchanged."""
    network, batch = augmenting("nb")
    x_ng = log_normalized(batch.x_ng)
    moved_ng, moved = network.augment_batch(x_ng, batch, generator(1), 1.0)
    draw = generator(1)
    with torch.no_grad():
        z_nk = network.latent_encoder(network.encoder(x_ng, x_ng[:, :0])).rsample(draw)
    batch_n = torch.randint(3, (40,), generator=draw)
    assert torch.equal(moved.batch_nb, torch.eye(3)[batch_n])
    hidden, head = network.decoder.first, network.likelihood.head
    expected_bng = []
    for batch_nb in (moved.batch_nb, batch.batch_nb):
        input_nh = torch.cat([z_nk, batch_nb], dim=1).numpy()
        h_nh = np.maximum(input_nh @ hidden.weight.detach().numpy().T + hidden.bias.detach().numpy(), 0)
        input_nh = np.concatenate([h_nh, batch_nb.numpy()], axis=1)
        logit_ng = input_nh @ head.weight.detach().numpy().T + head.bias.detach().numpy()
        expected_bng.append(np.log1p(1e4 * softmax(logit_ng.astype(np.float64))))
    expected_ng = x_ng + torch.from_numpy(expected_bng[0] - expected_bng[1]).float()
    torch.testing.assert_close(moved_ng, expected_ng, rtol=1e-4, atol=1e-4)
    stays_n = batch_n == torch.arange(40) % 3
    assert 0 < stays_n.sum() < 40
    torch.testing.assert_close(moved_ng[stays_n], x_ng[stays_n])
    assert ((moved_ng[~stays_n] - x_ng[~stays_n]).abs().max(dim=1).values > 1e-2).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_batch_augmentation_of_sparse_cells_equals_that_of_dense_ones(likelihood):
    network, dense = augmenting(likelihood)
    sparse = with_x(dense, sparse_rows(dense.x_ng.numpy()))
    dense_ng, moved = network.augment_batch(network.encoder_input(dense), dense, generator(1), 1.0)
    rows, also_moved = network.augment_batch(
        network.sparse_encoder_input(sparse.sparse, sparse.library_size_n1), sparse, generator(1), 1.0
    )
    assert torch.equal(moved.batch_n, also_moved.batch_n)
    assert torch.equal(rows.index_m, (moved.batch_n != dense.batch_n).nonzero().squeeze(1))
    sparse_ng = rows.cells.dense().index_add(0, rows.index_m, rows.delta_mg)
    torch.testing.assert_close(sparse_ng, dense_ng, rtol=1e-4, atol=1e-4)
    of_dense, of_sparse = (network.posterior(batch, generator(2)).mean for batch in (dense, sparse))
    torch.testing.assert_close(of_sparse, of_dense, rtol=1e-3, atol=1e-3)
    assert "x_ng" not in vars(sparse)  # the dense matrix was never made


def test_sparse_cells_that_all_stay_in_their_batch_are_returned_unchanged():
    """The last step of an epoch may have a single cell."""
    network, dense = augmenting("nb")
    batch = with_x(dense, sparse_rows(dense.x_ng.numpy())).take(torch.tensor([4]))
    x = network.sparse_encoder_input(batch.sparse, batch.library_size_n1)
    augmented = [network.augment_batch(x, batch, generator(seed), 1.0) for seed in range(20)]
    stays = [torch.equal(moved.batch_n, batch.batch_n) for _, moved in augmented]
    assert 0 < sum(stays) < 20
    assert [rows is x for rows, _ in augmented] == stays
    assert network.posterior(batch, generator(stays.index(True))).mean.isfinite().all()


def test_batch_augmentation_applies_in_training_only_and_needs_several_batches():
    network, batch = augmenting("nb")
    with torch.no_grad():
        in_evaluation = network.eval().posterior(batch, generator(1)).mean
        assert not torch.equal(network.train().posterior(batch, generator(1)).mean, in_evaluation)
        network.batch_augmentation = False
        assert torch.equal(network.posterior(batch, generator(1)).mean, in_evaluation)
        network.batch_augmentation = True
        one = count_settings(batch_augmentation=True).network(5, 1).train()
        alone = cells(random_counts(), torch.ones(40, 1))
        assert torch.equal(one.posterior(alone, generator(1)).mean, one.eval().posterior(alone).mean)
