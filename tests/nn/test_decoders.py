"""Latents whose effects add up: what the head gives, what stays at 0 or above, and where batches and covariates join."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from helpers.cells import cells, generator
from helpers.planted import COUNTS, planted, two_batches
from sparcell.models import MODELS

ADDITIVE = ["additive", "nonnegative-linear"]
SMALL = {"likelihood": "nb", "n_latent": 3, "encoder_widths": (7,), "normalization": "none", "dropout": 0.0}


def counted(n_genes=5, n_batches=2, n_others=1, **changes):
    return MODELS["beta-vae"](**{**SMALL, **changes}).network(n_genes, n_batches, n_others).eval()


def some(n_cells=6, n_genes=5):
    x_ng = torch.poisson(torch.full((n_cells, n_genes), 3.0), generator=generator())
    batch_nb = torch.eye(2).repeat(n_cells // 2, 1)
    return cells(x_ng, batch_nb, torch.linspace(-1, 1, n_cells)[:, None])


@pytest.mark.parametrize("effects", ADDITIVE)
def test_effects_of_latents_covariates_and_batches_add_up(effects):
    network, batch = counted(decoder_type=effects), some()
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


@pytest.mark.parametrize("effects", ADDITIVE)
def test_batches_begin_with_their_own_shares(effects):
    network, batch = counted(decoder_type=effects), some()
    before = network.likelihood.head.weight.detach().clone()
    network.begin([batch])
    head, x_ng = network.likelihood.head, batch.x_ng
    of_first = (x_ng[::2].sum(dim=0) + 1) / (x_ng[::2].sum(dim=0) + 1).sum()
    torch.testing.assert_close((head.bias + head.weight[:, 4]).exp(), of_first)
    assert torch.equal(head.weight[:, :4], before[:, :4])


def test_effects_that_must_not_be_negative_begin_small_and_others_at_0():
    weight = counted(n_genes=500, decoder_type="nonnegative-linear").likelihood.head.weight.detach()
    assert (weight[:, :3] >= 0).all()
    assert weight[:, :3].max() < 0.05
    assert (weight[:, 3:] == 0).all()


def test_an_effect_that_is_zero_can_rise():
    head = counted(decoder_type="nonnegative-linear").likelihood.head
    trained = dict(head.named_parameters())["parametrizations.weight.original"]
    with torch.no_grad():
        trained[:, :3] = torch.tensor([0.0, -0.2, 0.2])
    torch.testing.assert_close(head.weight[:, :3], torch.tensor([0.0, 0.2, 0.2]).expand(5, 3))
    head.weight.sum().backward()
    torch.testing.assert_close(trained.grad[:, :3].abs(), torch.tensor([0.0, 1.0, 1.0]).expand(5, 3))


@pytest.mark.parametrize("name", ["beta-vae", "beta-vsc"])
def test_after_training_no_effect_is_negative_and_the_types_are_told_apart(name):
    settings = {key: value for key, value in COUNTS.items() if key != "components" or name == "beta-vsc"}
    model = MODELS[name](likelihood="nb", **{**settings, "decoder_type": "nonnegative-linear"}).fit(
        planted(), silent=True
    )
    weight = model.network.likelihood.head.weight.detach().numpy()
    assert (weight >= 0).all()
    restored, types = model.reconstruct(planted()), planted().obs["type"]
    markers = restored[(types == "type 1").to_numpy()][:, 15:30].mean()
    assert markers > 2 * restored[(types == "type 0").to_numpy()][:, 15:30].mean()


def test_a_model_with_batches_is_saved_whole(tmp_path):
    adata = two_batches()
    settings = {**COUNTS, "epochs": 5, "decoder_type": "nonnegative-linear", "slab": "softplus-normal"}
    model = MODELS["beta-vsc"](likelihood="nb", **settings).fit(adata, batch_key="batch", silent=True)
    model.save(tmp_path / "model")
    from sparcell.models import load

    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.reconstruct(adata, batch="a"), model.reconstruct(adata, batch="a"))
