"""Initial values of a nonnegative decoder: the floor of the data and the factors above it.

Suffixes: n cells, g genes, k latents, p simulated factors.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from helpers.cells import cells
from helpers.simulated import simulated_cells
from sparcell.models import MODELS, load
from sparcell.nn.nmf_init import MEAN_ON, above_floor, floor_and_factors, mean_where_on, minimum_cluster_mean

N_FACTORS, N_CLUSTERS, N_CELLS_PER_CLUSTER = 4, 4, 60


def clustered_cells(noise=0.05, seed=0):
    """Return cells of four clusters, the floor, the factors and the clusters: 8 shared genes, 5 genes of each cluster, 4 unexpressed."""
    generator = np.random.default_rng(seed)
    factor_pg = np.zeros((N_FACTORS, 32))
    for factor in range(N_FACTORS):
        factor_pg[factor, 8 + 5 * factor : 13 + 5 * factor] = generator.uniform(1, 2, 5)
    cluster_n = np.repeat(np.arange(N_CLUSTERS), N_CELLS_PER_CLUSTER)
    floor_g = np.where(np.arange(32) < 8, 1.5, 0.0)
    x_ng = floor_g + factor_pg[cluster_n] + noise * generator.standard_normal((len(cluster_n), 32))
    return sparse.csr_matrix(np.maximum(x_ng, 0).astype(np.float32)), floor_g, factor_pg, cluster_n


def test_the_floor_is_the_shared_expression_and_factors_are_what_each_cluster_adds():
    x_ng, floor_g, factor_pg, _ = clustered_cells()
    init = floor_and_factors(x_ng, N_FACTORS)
    np.testing.assert_allclose(init.floor_g, floor_g, atol=0.05)
    assert (init.effect_gk >= 0).all()
    r_pk = np.corrcoef(factor_pg, init.effect_gk.T)[:N_FACTORS, N_FACTORS:]
    assert r_pk[linear_sum_assignment(-r_pk)].min() > 0.95
    init_pg = MEAN_ON * init.effect_gk.T[linear_sum_assignment(-r_pk)[1]]
    np.testing.assert_allclose(init_pg.sum(axis=1), factor_pg.sum(axis=1), rtol=0.1)


def test_floor_and_factors_are_deterministic():
    x_ng, *_ = clustered_cells()
    one, two = floor_and_factors(x_ng, 6), floor_and_factors(x_ng, 6)
    np.testing.assert_array_equal(one.floor_g, two.floor_g)
    np.testing.assert_array_equal(one.effect_gk, two.effect_gk)


def test_small_clusters_do_not_lower_the_floor():
    x_ng = sparse.csr_matrix(np.array([[3.0, 1.0]] * 20 + [[2.0, 4.0]] * 20 + [[0.0, 0.0]] * 9))
    cluster_n = np.repeat([0, 1, 2], [20, 20, 9])
    np.testing.assert_allclose(minimum_cluster_mean(x_ng, cluster_n), [2.0, 1.0])
    np.testing.assert_allclose(minimum_cluster_mean(x_ng[40:], cluster_n[40:]), [0.0, 0.0])


@pytest.mark.parametrize("least", [-1.0, 0.0])
def test_above_floor_is_the_difference_cut_at_0(least):
    generator = np.random.default_rng(0)
    x_ng = np.round(generator.standard_normal((12, 7)), 1)
    x_ng = x_ng if least < 0 else np.maximum(x_ng, 0)
    floor_g = generator.uniform(least, 0.5, 7)
    above_ng = above_floor(sparse.csr_matrix(x_ng), floor_g)
    np.testing.assert_allclose(above_ng.toarray(), np.maximum(x_ng - floor_g, 0))


def test_mean_where_on_averages_over_the_cells_in_which_a_factor_is_on():
    amount_nk = np.zeros((200, 3))
    amount_nk[:50, 0] = 2.0
    amount_nk[50:60, 0] = 0.1
    amount_nk[:, 1] = 3.0
    np.testing.assert_allclose(mean_where_on(amount_nk), [2.0, 3.0, 0.0])


@pytest.mark.parametrize("n_cells", [1, 2, 15])
def test_there_are_no_more_factors_than_cells_or_genes(n_cells):
    x_ng = clustered_cells()[0][:n_cells]
    init = floor_and_factors(x_ng, 40)
    assert init.effect_gk.shape == (32, min(n_cells, 32))
    assert np.isfinite(init.effect_gk).all()


@pytest.mark.parametrize("likelihood", ["gaussian", "nb"])
def test_a_network_with_every_latent_at_zero_decodes_the_floor(likelihood):
    """For counts each gene's fraction is that of the floor, up to one factor per cell."""
    x_ng, *_ = clustered_cells()
    counts = likelihood == "nb"
    values = torch.poisson(torch.from_numpy(np.expm1(x_ng.toarray()) * 10)) if counts else x_ng.toarray()
    batch = cells(torch.as_tensor(values))
    settings = {
        "likelihood": likelihood,
        "n_latent": 6,
        "decoder_type": "nonnegative-linear",
        "normalization": "none",
    }
    network = MODELS["beta-vae"](**settings).network(32).eval()
    network.init_from_data([batch], [batch])
    assert not network.likelihood.head.bias.requires_grad
    expression_ng = sparse.csr_matrix(network.log_expression(batch).numpy())
    init = floor_and_factors(expression_ng, 6)
    with torch.no_grad():
        mean_g = network.likelihood.distribution(torch.zeros(1, 6), cells(batch.x_ng[:1])).mean[0].numpy()
    expected = np.expm1(init.floor_g) / 1e4 + 1e-6 if counts else init.floor_g
    if counts:
        mean_g, expected = mean_g / mean_g.sum(), expected / expected.sum()
    np.testing.assert_allclose(mean_g, expected, rtol=1e-3, atol=1e-6)
    effect_gk = network.likelihood.head.weight.detach().numpy()
    assert (effect_gk >= 0).all()
    assert np.sort(effect_gk.max(axis=0))[-N_CLUSTERS:].min() > 0.5


def test_the_floor_is_not_trained_and_is_saved(tmp_path):
    settings = {"n_latent": 5, "batch_size": 64}
    model, longer = (
        MODELS["beta-vsc"].for_programs(epochs=epochs, **settings).fit(simulated_cells(), silent=True)
        for epochs in (2, 6)
    )
    floor_g = model.network.likelihood.head.bias.detach().numpy()
    np.testing.assert_array_equal(floor_g, longer.network.likelihood.head.bias.detach().numpy())
    assert (floor_g > 0).any()
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.network.likelihood.head.bias.detach().numpy(), floor_g)
