"""The methods work: types that were planted are found again in the codes."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.simulated import N_TYPES, QUICK, simulated_cells
from sparcell.metrics.clustering import clustering_scores
from sparcell.models import MODELS
from sparcell.tl import embedding


@pytest.fixture(scope="module")
def adata():
    return simulated_cells(seed=5)


@pytest.mark.parametrize("name", MODELS)
def test_k_means_on_the_codes_finds_the_planted_types(name, adata):
    """The median of three seeds: with one, the seed study's ReLU on the autoencoder's code may leave too few latents alive."""
    found = []
    for seed in range(3):
        model = MODELS[name](**QUICK, seed=seed).fit(adata, layer="lognorm", silent=True)
        partition, _ = embedding.kmeans(model.transform(adata), N_TYPES, seed=0)
        found.append(clustering_scores(adata.obs["type"], partition)["ari"])
    assert np.median(found) >= 0.9


@pytest.mark.parametrize("name", MODELS)
def test_cells_never_seen_are_placed_with_their_type(name):
    """Of 600 cells 300 train; the others lie nearest to the centroid of their own type.

    The median of three seeds: in one of ten the β-VSC gives two of the types one code, whatever the rounding of its arithmetic.
    """
    adata = simulated_cells(n_cells=600, seed=5)
    types = adata.obs["type"].cat.codes.to_numpy()
    placed = []
    for seed in range(3):
        model = MODELS[name](**QUICK, seed=seed).fit(adata[:300].copy(), layer="lognorm", silent=True)
        codes = model.transform(adata)
        centroids = np.stack([codes[:300][types[:300] == kind].mean(axis=0) for kind in range(N_TYPES)])
        nearest = np.linalg.norm(codes[300:, None] - centroids, axis=2).argmin(axis=1)
        placed.append((nearest == types[300:]).mean())
    assert np.median(placed) >= 0.9


def test_noise_without_types_switches_latents_off():
    """Nothing to tell: the KL of both generative models goes to zero, and no latent is live."""
    adata = simulated_cells(seed=6)
    shuffle = np.random.default_rng(0)
    x_ng = adata.layers["lognorm"].toarray()
    adata.layers["noise"] = np.stack([shuffle.permutation(column) for column in x_ng.T], axis=1)
    for name in ("beta-vae", "beta-vsc"):
        settings = MODELS[name](**QUICK, gaussian_variance=20.0)
        codes = settings.fit(adata, layer="noise", silent=True).codes(adata)
        assert codes.kl_k.sum() < 0.05
        assert not codes.active_k.any()
