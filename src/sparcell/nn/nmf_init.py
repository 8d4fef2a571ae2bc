"""Initial values of nonnegative decoders: a floor that all cell types express, and NMF factors of the expression above the floor.

Suffixes: n cells, g genes, k latents, c clusters.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

MAX_CELLS = 5000
"""Number of training cells that the initial values are computed from."""
MAX_COMPONENTS, N_STARTS = 20, 10
"""Number of principal components that cells are clustered in, and number of k-means starts."""
MIN_CELLS, MIN_FRACTION = 10, 0.005
"""Smallest cluster that the floor is computed from, in cells and as a fraction of the cells. Means of smaller ones are noise."""
N_ITERATIONS = 50
"""Iterations of the matrix factorization. Initial values need not have converged."""
SEED = 0
"""Seed of the choice of cells, the clusters and the factorization. It is not the model's seed, so the initial values depend on the data
only, and programs of several seeds differ by training only."""
ON_THRESHOLD = 0.2
"""A factor is on in a cell if its amount is above this fraction of the factor's 99th percentile."""
MEAN_ON = 1.3
"""Initial mean of a latent over the cells where its factor is on: half a standard deviation above the mean of a softplus-normal slab."""


class NMFInit(NamedTuple):
    """Initial bias and weights of a decoder."""

    floor_g: Floats
    """Smallest mean expression of each gene over clusters of cells."""
    effect_gk: Floats
    """Expression that a latent of 1 adds, ≥ 0. At most as many columns as cells or genes."""


def floor_and_factors(x_ng: sparse.csr_matrix, n_latent: int) -> NMFInit:
    """Return the floor of each gene and the NMF factors of the expression above the floor, at most one for each latent.

    The floor of a gene is its smallest mean over clusters of cells (k-means of principal components, as many clusters as latents). Each
    cell type then differs from the floor by what it expresses more. With the mean of all cells as the floor, the most frequent type would
    need no program, and the other types would be described by what they lack. The factors are a nonnegative matrix factorization of the
    expression above the floor (Lee & Seung 1999; initial values by Boutsidis & Gallopoulos 2008). They are scaled so that the mean amount
    of a factor is MEAN_ON over the cells where the factor is on.

    `x_ng` is log-normalized expression, (n, g). The computation uses one thread, so that the same data give the same bits.
    """
    from sklearn.decomposition import NMF
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        floor_g = minimum_cluster_mean(x_ng, clusters(x_ng, n_latent))
        above_ng = above_floor(x_ng, floor_g)
        n_factors = min(n_latent, *x_ng.shape)
        method = NMF(n_factors, init="nndsvda", random_state=SEED, max_iter=N_ITERATIONS)
        amount_nk = method.fit_transform(above_ng)
    return NMFInit(floor_g, method.components_.T * mean_where_on(amount_nk) / MEAN_ON)


def clusters(x_ng: sparse.csr_matrix, n_clusters: int) -> NDArray[np.integer]:
    """Return the cluster number of each cell, (n,), by k-means of principal components."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    n_axes = min(MAX_COMPONENTS, min(x_ng.shape) - 1)
    if n_axes < 1:
        return np.zeros(x_ng.shape[0], dtype=np.int64)
    axes_nk = PCA(n_axes, svd_solver="arpack", random_state=SEED).fit_transform(x_ng)
    distinct = len(np.unique(axes_nk, axis=0))
    kmeans = KMeans(min(n_clusters, distinct), n_init=N_STARTS, random_state=SEED).fit(axes_nk)
    return np.asarray(kmeans.labels_)


def minimum_cluster_mean(x_ng: sparse.csr_matrix, cluster_n: NDArray[np.integer]) -> Floats:
    """Return the smallest mean of each gene over clusters with enough cells, (g,); the mean of all cells if no cluster has enough."""
    size_c = np.bincount(cluster_n)
    enough_c = np.flatnonzero(size_c >= max(MIN_CELLS, MIN_FRACTION * len(cluster_n)))
    if not len(enough_c):
        return np.asarray(x_ng.mean(axis=0)).ravel()
    mean_cg = [np.asarray(x_ng[cluster_n == c].mean(axis=0)).ravel() for c in enough_c]
    return np.asarray(np.min(mean_cg, axis=0))


def above_floor(x_ng: sparse.csr_matrix, floor_g: Floats) -> sparse.csr_matrix:
    """Return max(x - floor, 0), (n, g)."""
    if (floor_g < 0).any():  # scaled expression: here a 0 is above the floor
        return sparse.csr_matrix(np.maximum(x_ng.toarray() - floor_g, 0))
    rest_ng = x_ng.copy()
    rest_ng.data = np.maximum(rest_ng.data - floor_g[rest_ng.indices].astype(rest_ng.dtype), 0)
    rest_ng.eliminate_zeros()
    return rest_ng


def mean_where_on(amount_nk: Floats) -> Floats:
    """Return the mean amount of each factor over the cells where the factor is on, (k,); 0 for a factor that is on nowhere."""
    on_nk = amount_nk > ON_THRESHOLD * np.quantile(amount_nk, 0.99, axis=0)
    return np.asarray((amount_nk * on_nk).sum(axis=0) / np.maximum(on_nk.sum(axis=0), 1))
