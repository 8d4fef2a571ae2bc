"""Where nonnegative effects begin: the floor of the data and parts above it.

Suffixes: n cells, g genes, k latents, p planted parts.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from helpers.cells import cells
from helpers.planted import planted
from sparcell.models import MODELS
from sparcell.nn.nmf_init import AMOUNT, above, floor_and_parts, least_mean, typical

N_PARTS, N_KINDS, EACH = 4, 4, 60


def kinds(noise=0.05, seed=0):
    """Four kinds of cells: 8 genes that all express alike, 5 of each kind's own, 4 that none has."""
    generator = np.random.default_rng(seed)
    part_pg = np.zeros((N_PARTS, 32))
    for part in range(N_PARTS):
        part_pg[part, 8 + 5 * part : 13 + 5 * part] = generator.uniform(1, 2, 5)
    kind_n = np.repeat(np.arange(N_KINDS), EACH)
    floor_g = np.where(np.arange(32) < 8, 1.5, 0.0)
    x_ng = floor_g + part_pg[kind_n] + noise * generator.standard_normal((len(kind_n), 32))
    return sparse.csr_matrix(np.maximum(x_ng, 0).astype(np.float32)), floor_g, part_pg, kind_n


def test_the_floor_is_what_every_kind_expresses_and_the_parts_are_what_each_has_more():
    x_ng, floor_g, part_pg, _ = kinds()
    start = floor_and_parts(x_ng, N_PARTS)
    np.testing.assert_allclose(start.floor_g, floor_g, atol=0.05)
    assert (start.effect_gk >= 0).all()
    r_pk = np.corrcoef(part_pg, start.effect_gk.T)[:N_PARTS, N_PARTS:]
    assert r_pk[linear_sum_assignment(-r_pk)].min() > 0.95
    found_pg = AMOUNT * start.effect_gk.T[linear_sum_assignment(-r_pk)[1]]
    np.testing.assert_allclose(found_pg.sum(axis=1), part_pg.sum(axis=1), rtol=0.1)


def test_the_same_data_give_the_same_bits():
    x_ng, *_ = kinds()
    one, two = floor_and_parts(x_ng, 6), floor_and_parts(x_ng, 6)
    np.testing.assert_array_equal(one.floor_g, two.floor_g)
    np.testing.assert_array_equal(one.effect_gk, two.effect_gk)


def test_clusters_of_few_cells_say_nothing_of_the_floor():
    x_ng = sparse.csr_matrix(np.array([[3.0, 1.0]] * 20 + [[2.0, 4.0]] * 20 + [[0.0, 0.0]] * 9))
    cluster_n = np.repeat([0, 1, 2], [20, 20, 9])
    np.testing.assert_allclose(least_mean(x_ng, cluster_n), [2.0, 1.0])
    np.testing.assert_allclose(least_mean(x_ng[40:], cluster_n[40:]), [0.0, 0.0])


@pytest.mark.parametrize("least", [-1.0, 0.0])
def test_what_lies_above_the_floor_is_the_difference_cut_at_0(least):
    generator = np.random.default_rng(0)
    x_ng = np.round(generator.standard_normal((12, 7)), 1)
    x_ng = x_ng if least < 0 else np.maximum(x_ng, 0)
    floor_g = generator.uniform(least, 0.5, 7)
    found = above(sparse.csr_matrix(x_ng), floor_g)
    np.testing.assert_allclose(found.toarray(), np.maximum(x_ng - floor_g, 0))


def test_a_parts_typical_amount_is_that_of_the_cells_that_have_it():
    amount_nk = np.zeros((200, 3))
    amount_nk[:50, 0] = 2.0
    amount_nk[50:60, 0] = 0.1
    amount_nk[:, 1] = 3.0
    np.testing.assert_allclose(typical(amount_nk), [2.0, 3.0, 0.0])


@pytest.mark.parametrize("n_cells", [1, 2, 15])
def test_fewer_cells_or_genes_than_latents_leave_latents_as_they_are(n_cells):
    x_ng = kinds()[0][:n_cells]
    start = floor_and_parts(x_ng, 40)
    assert start.effect_gk.shape == (32, min(n_cells, 32))
    assert np.isfinite(start.effect_gk).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_a_network_with_every_latent_off_expresses_the_floor(likelihood):
    """Of counts in shares: each gene's is the floor's, up to one factor a cell."""
    x_ng, *_ = kinds()
    counts = likelihood == "nb"
    given = torch.poisson(torch.from_numpy(np.expm1(x_ng.toarray()) * 10)) if counts else x_ng.toarray()
    batch = cells(torch.as_tensor(given))
    settings = {
        "likelihood": likelihood,
        "n_latent": 6,
        "decoder_type": "nonnegative-linear",
        "normalization": "none",
    }
    network = MODELS["beta-vae"](**settings).network(32).eval()
    network.begin([batch], [batch])
    assert not network.likelihood.head.bias.requires_grad
    seen = sparse.csr_matrix(network.expression(batch).numpy())
    start = floor_and_parts(seen, 6)
    with torch.no_grad():
        mean_g = network.likelihood.distribution(torch.zeros(1, 6), cells(batch.x_ng[:1])).mean[0].numpy()
    expected = np.expm1(start.floor_g) / 1e4 + 1e-6 if counts else start.floor_g
    if counts:
        mean_g, expected = mean_g / mean_g.sum(), expected / expected.sum()
    np.testing.assert_allclose(mean_g, expected, rtol=1e-3, atol=1e-6)
    raised_gk = network.likelihood.head.weight.detach().numpy()
    assert (raised_gk >= 0).all()
    assert np.sort(raised_gk.max(axis=0))[-N_KINDS:].min() > 0.5


def test_the_floor_is_not_trained_and_is_saved(tmp_path):
    from sparcell.models import load

    model = MODELS["beta-vsc"].readable(max_steps=60, n_latent=5, batch_size=64).fit(planted(), silent=True)
    floor_g = model.network.likelihood.head.bias.detach().numpy()
    again = MODELS["beta-vsc"].readable(max_steps=120, n_latent=5, batch_size=64).fit(planted(), silent=True)
    np.testing.assert_array_equal(floor_g, again.network.likelihood.head.bias.detach().numpy())
    assert (floor_g > 0).any()
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.network.likelihood.head.bias.detach().numpy(), floor_g)
