"""Linear and nonnegative-linear decoders: effects add up, stay nonnegative, and batches and covariates join.

Suffixes: n cells, g genes, k latents, b batches.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.cells import cells, generator
from helpers.kinds import fit, fitted
from helpers.simulated import simulated_cells, two_batches
from sparcell.models import MODELS, load

LINEAR = ["linear", "nonnegative-linear"]
SMALL = {"likelihood": "nb", "n_latent": 3, "encoder_widths": (7,), "normalization": "none", "dropout": 0.0}


def small_network(n_genes=5, n_batches=2, n_covariates=1, **changes):
    return MODELS["beta-vae"](**{**SMALL, **changes}).network(n_genes, n_batches, n_covariates).eval()


def random_cells(n_cells=6, n_genes=5):
    x_ng = torch.poisson(torch.full((n_cells, n_genes), 3.0), generator=generator())
    batch_nb = torch.eye(2).repeat(n_cells // 2, 1)
    return cells(x_ng, batch_nb, torch.linspace(-1, 1, n_cells)[:, None])


@pytest.mark.parametrize("decoder_type", LINEAR)
def test_effects_of_latents_covariates_and_batches_add_up(decoder_type):
    network, batch = small_network(decoder_type=decoder_type), random_cells()
    z_nk = torch.randn(6, 3, generator=generator(1))
    head = network.likelihood.head
    h_nh = network.decode(z_nk, batch)
    torch.testing.assert_close(h_nh, torch.cat([z_nk, batch.covariates_nc, batch.batch_nb], dim=1))
    assert head.weight.shape == (5, 3 + 1 + 2)
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    expected = z_nk.numpy() @ weight[:, :3].T + bias
    expected += batch.covariates_nc.numpy() @ weight[:, 3:4].T + batch.batch_nb.numpy() @ weight[:, 4:].T
    np.testing.assert_allclose(head(h_nh).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert not list(network.decoder.parameters())


@pytest.mark.parametrize("decoder_type", LINEAR)
def test_each_batch_starts_at_its_own_log_gene_fractions(decoder_type):
    network, batch = small_network(decoder_type=decoder_type), random_cells()
    before = network.likelihood.head.weight.detach().clone()
    network.init_from_data([batch])
    head, x_ng = network.likelihood.head, batch.x_ng
    fraction_of_first_g = (x_ng[::2].sum(dim=0) + 1) / (x_ng[::2].sum(dim=0) + 1).sum()
    torch.testing.assert_close((head.bias + head.weight[:, 4]).exp(), fraction_of_first_g)
    assert torch.equal(head.weight[:, :4], before[:, :4])


def test_nonnegative_effects_start_small_and_batch_effects_at_0():
    weight = small_network(n_genes=500, decoder_type="nonnegative-linear").likelihood.head.weight.detach()
    assert (weight[:, :3] >= 0).all()
    assert weight[:, :3].max() < 0.05
    assert (weight[:, 3:] == 0).all()


def test_a_nonnegative_effect_at_zero_has_a_gradient():
    head = small_network(decoder_type="nonnegative-linear").likelihood.head
    trained = dict(head.named_parameters())["parametrizations.weight.original"]
    with torch.no_grad():
        trained[:, :3] = torch.tensor([0.0, -0.2, 0.2])
    torch.testing.assert_close(head.weight[:, :3], torch.tensor([0.0, 0.2, 0.2]).expand(5, 3))
    head.weight.sum().backward()
    torch.testing.assert_close(trained.grad[:, :3].abs(), torch.tensor([0.0, 1.0, 1.0]).expand(5, 3))


@pytest.mark.parametrize("name", ["beta-vae", "beta-vsc"])
def test_a_trained_nonnegative_decoder_has_no_negative_effect_and_separates_the_types(name):
    model = fitted((name, "nb"), decoder_type="nonnegative-linear")
    weight = model.network.likelihood.head.weight.detach().numpy()
    assert (weight >= 0).all()
    mean_ng, types = model.reconstruct(simulated_cells()), simulated_cells().obs["type"]
    marker_mean = {name: mean_ng[(types == name).to_numpy(), 15:30].mean() for name in ("type 0", "type 1")}
    assert marker_mean["type 1"] > 2 * marker_mean["type 0"]


def test_a_saved_nonnegative_model_with_batches_reconstructs_the_same(tmp_path):
    adata = two_batches()
    model = fit(("beta-vsc", "nb", "programs"), adata, settings={"epochs": 2}, batch_key="batch")
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.reconstruct(adata, batch="a"), model.reconstruct(adata, batch="a"))
