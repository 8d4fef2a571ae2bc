"""Maps and partitions: repeatable, and true to the clusters that were simulated.

Suffixes: n cells, k latents, d map dimensions.
"""

from __future__ import annotations

import logging
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist, squareform
from sklearn.metrics import adjusted_rand_score

from sparcell.errors import InputError
from sparcell.tl import embedding

N_CELLS, N_TYPES = 240, 4


@pytest.fixture(scope="module")
def clusters():
    """Latents of four clusters ten standard deviations apart, and the number of each cell's cluster."""
    rng = np.random.default_rng(0)
    types_n = np.arange(N_CELLS) % N_TYPES
    return rng.normal(size=(N_CELLS, 6)) + 10 * np.eye(N_TYPES, 6)[types_n], types_n


@pytest.fixture(scope="module")
def map_n2(clusters):
    return embedding.tsne(clusters[0], seed=1, extendable=True)


def test_the_same_seed_gives_the_same_map_to_the_bit(clusters, map_n2):
    np.testing.assert_array_equal(np.asarray(map_n2), np.asarray(embedding.tsne(clusters[0], seed=1)))


def test_the_number_of_threads_does_not_change_the_map(clusters, monkeypatch):
    monkeypatch.setattr(embedding, "MAX_SINGLE_THREAD_CELLS", 0)
    n_cells = 60  # many threads over few cells take their time
    several = np.asarray(embedding.tsne(clusters[0][:n_cells], perplexity=10))
    monkeypatch.undo()
    np.testing.assert_array_equal(several, np.asarray(embedding.tsne(clusters[0][:n_cells], perplexity=10)))


def test_latents_in_single_precision_are_mapped_and_not_changed(clusters):
    latent_nk = clusters[0].astype(np.float32)
    before = latent_nk.copy()
    assert np.asarray(embedding.tsne(latent_nk, perplexity=20)).shape == (N_CELLS, 2)
    np.testing.assert_array_equal(latent_nk, before)


def dense_kl_divergence(point_nd, p_nn):
    """KL(P ‖ Q) by the formula of van der Maaten & Hinton 2008, equations 3 and 4."""
    kernel_nn = squareform(1 / (1 + pdist(point_nd, "sqeuclidean")))
    rows, columns = p_nn.nonzero()
    return (
        p_nn[rows, columns] * np.log(p_nn[rows, columns] / (kernel_nn / kernel_nn.sum())[rows, columns])
    ).sum()


def random_affinities(n_points, draw):
    p_nn = draw.random((n_points, n_points)) * (draw.random((n_points, n_points)) < 0.2)
    p_nn = p_nn + p_nn.T
    np.fill_diagonal(p_nn, 0)
    return p_nn / p_nn.sum()


@pytest.mark.parametrize("n_dimensions", [1, 2, 3])
@pytest.mark.parametrize("width", [1e-4, 5])
def test_the_divergence_of_a_map_and_its_gradient_follow_the_formula(n_dimensions, width):
    draw = np.random.default_rng(n_dimensions)
    point_nd, p_nn = draw.normal(size=(300, n_dimensions)) * width, random_affinities(300, draw)
    divergence, grad_nd = embedding.kl_divergence(point_nd, sparse.csr_matrix(p_nn), should_eval_error=True)
    assert divergence == pytest.approx(dense_kl_divergence(point_nd, p_nn), rel=1e-6)
    step = 1e-5
    for n, d in ((0, 0), (17, n_dimensions - 1), (299, 0)):
        forward, backward = point_nd.copy(), point_nd.copy()
        forward[n, d] += step
        backward[n, d] -= step
        numerical = (dense_kl_divergence(forward, p_nn) - dense_kl_divergence(backward, p_nn)) / (2 * step)
        assert 4 * grad_nd[n, d] == pytest.approx(numerical, rel=1e-4, abs=1e-4 * np.abs(4 * grad_nd).max())


@pytest.mark.parametrize(("n_cells", "perplexity"), [(None, 12.5), (8, 2.0)])
def test_neighbors_and_affinities_equal_those_of_opentsne(clusters, n_cells, perplexity):
    from openTSNE.affinity import PerplexityBasedNN

    latent_nk = np.asarray(clusters[0][:n_cells], dtype=np.float64)
    affinities = embedding._exact_affinities(latent_nk, perplexity, 1)
    expected = PerplexityBasedNN(latent_nk, perplexity, method="exact")
    np.testing.assert_array_equal(affinities.P.toarray(), expected.P.toarray())


def test_exact_neighbors_do_not_import_pynndescent():
    """Pynndescent compiles for many seconds when it is first imported."""
    code = (
        "import sys, numpy; from sparcell.tl import embedding as embed; "
        "embed.tsne(numpy.random.default_rng(0).normal(size=(50, 4)), perplexity=5); assert 'pynndescent' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_forces_equal_those_of_a_tree_without_approximation():
    from openTSNE.tsne import kl_divergence_bh

    draw = np.random.default_rng(3)
    point_nd, p_nn = draw.normal(size=(700, 2)) * 20, sparse.csr_matrix(random_affinities(700, draw))
    divergence, grad_nd = embedding.kl_divergence(point_nd, p_nn, should_eval_error=True)
    expected, by_tree_nd = kl_divergence_bh(point_nd, p_nn, 1, {"theta": 0.0}, should_eval_error=True)
    assert divergence == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(grad_nd, by_tree_nd, atol=1e-5 * np.abs(by_tree_nd).max())


def test_the_number_of_threads_does_not_change_the_forces():
    import torch

    draw = np.random.default_rng(4)
    point_nd, p_nn = draw.normal(size=(1000, 3)), sparse.csr_matrix(random_affinities(1000, draw))
    n_before, grads = torch.get_num_threads(), []
    try:
        for n_threads in (1, 2, 5):
            torch.set_num_threads(n_threads)
            grads.append(embedding.kl_divergence(point_nd, p_nn)[1])
    finally:
        torch.set_num_threads(n_before)
    np.testing.assert_array_equal(grads[0], grads[1])
    np.testing.assert_array_equal(grads[0], grads[2])


def test_more_cells_than_are_exact_are_mapped_by_approximation(clusters, monkeypatch):
    """Both ways keep the clusters apart; openTSNE computes the approximate forces."""
    monkeypatch.setattr(embedding, "MAX_EXACT_CELLS", 100)
    monkeypatch.setattr(embedding, "kl_divergence", None)
    map_n3 = np.asarray(embedding.tsne(clusters[0], n_components=3, perplexity=20))
    _, near = cKDTree(map_n3).query(map_n3, k=6)
    assert (clusters[1][near] == clusters[1][:, None]).all()


def test_separate_clusters_stay_separate_on_the_map(clusters, map_n2):
    """Each cell's ten nearest cells on the map are of its own cluster."""
    _, types_n = clusters
    _, near = cKDTree(np.asarray(map_n2)).query(np.asarray(map_n2), k=11)
    assert (types_n[near[:, 1:]] == types_n[:, None]).all()


def test_k_means_on_the_map_finds_the_clusters(clusters, map_n2):
    partition, _ = embedding.kmeans(np.asarray(map_n2), N_TYPES)
    assert adjusted_rand_score(clusters[1], partition) == 1


def test_maps_have_three_dimensions_where_asked(clusters):
    map_n3 = np.asarray(embedding.tsne(clusters[0], n_components=3, perplexity=20))
    assert map_n3.shape == (N_CELLS, 3)
    assert np.isfinite(map_n3).all()
    assert (map_n3.std(axis=0) > 0.1 * map_n3.std()).all()


def test_a_perplexity_too_large_for_the_cells_is_lowered_with_a_warning(clusters, caplog):
    with caplog.at_level(logging.WARNING, logger="sparcell"):
        few = embedding.tsne(clusters[0][:31], perplexity=40)
    assert caplog.messages == ["perplexity 40 needs more than 31 cells; 10 is used"]
    np.testing.assert_array_equal(
        np.asarray(few), np.asarray(embedding.tsne(clusters[0][:31], perplexity=10))
    )


def test_a_lowered_perplexity_is_logged_once(caplog):
    with caplog.at_level(logging.WARNING, "sparcell"):
        lowered = embedding.cap_perplexity(40, 31)
        assert embedding.cap_perplexity(lowered, 31) == lowered == 10
    assert len(caplog.messages) == 1
    assert embedding.cap_perplexity(40, 2) == 1


def test_a_perplexity_that_fits_is_not_logged(clusters, caplog):
    with caplog.at_level(logging.WARNING, logger="sparcell"):
        embedding.tsne(clusters[0][:40], perplexity=13)
    assert caplog.messages == []


def test_cells_of_the_map_are_placed_near_themselves(clusters, map_n2):
    """Within a tenth of the map's width of where they are, and in their own cluster."""
    before = np.array(map_n2)
    placed = embedding.tsne_transform(map_n2, clusters[0][:60])
    assert placed.shape == (60, 2)
    moved = np.linalg.norm(placed - before[:60], axis=1)
    assert np.median(moved) < 0.1 * np.ptp(before)
    _, near = cKDTree(before).query(placed)
    assert (clusters[1][near] == clusters[1][:60]).all()


def test_a_map_can_be_written_into_a_file_and_cannot_be_extended(clusters, map_n2, tmp_path):
    array_n2 = embedding.tsne(clusters[0], seed=1)
    np.testing.assert_array_equal(array_n2, np.asarray(map_n2))
    adata = AnnData(obs=pd.DataFrame(index=[str(n) for n in range(len(array_n2))]), obsm={"X_tsne": array_n2})
    adata.write_h5ad(tmp_path / "map.h5ad")
    np.testing.assert_array_equal(read_h5ad(tmp_path / "map.h5ad").obsm["X_tsne"], array_n2)
    with pytest.raises(InputError, match="extendable=True"):
        embedding.tsne_transform(array_n2, clusters[0][:3])


def test_placing_leaves_the_map_as_it_is_and_repeats(clusters, map_n2):
    before = np.array(map_n2)
    first, again = (
        embedding.tsne_transform(map_n2, clusters[0][:20] + 0.1),
        embedding.tsne_transform(map_n2, clusters[0][:20] + 0.1),
    )
    np.testing.assert_array_equal(np.asarray(map_n2), before)
    np.testing.assert_array_equal(first, again)


def test_k_means_repeats_to_the_bit_and_returns_the_centroids_of_its_clusters(clusters):
    latent_nk, types_n = clusters
    partition, centroids = embedding.kmeans(latent_nk, N_TYPES, seed=3)
    again, centroids_again = embedding.kmeans(latent_nk, N_TYPES, seed=3)
    np.testing.assert_array_equal(partition, again)
    np.testing.assert_array_equal(centroids, centroids_again)
    assert adjusted_rand_score(types_n, partition) == 1
    for number, centroid in enumerate(centroids):
        np.testing.assert_allclose(latent_nk[partition == number].mean(axis=0), centroid)


def test_more_starts_of_k_means_are_never_worse():
    points = np.random.default_rng(1).normal(size=(400, 2))

    def sum_of_squares(n_init):
        partition, centroids = embedding.kmeans(points, 12, n_init=n_init)
        return ((points - centroids[partition]) ** 2).sum()

    assert sum_of_squares(20) <= sum_of_squares(1)


def test_one_latent_has_a_map(clusters):
    map_n2 = np.asarray(embedding.tsne(clusters[0][:60, :1], perplexity=5))
    assert map_n2.shape == (60, 2)
    assert np.isfinite(map_n2).all()
    np.testing.assert_array_equal(map_n2, np.asarray(embedding.tsne(clusters[0][:60, :1], perplexity=5)))
