"""Where nonnegative effects begin: the floor, which every kind of cell expresses, and parts of the data above it.

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
"""So many of the cells that train are looked at."""
MAX_COMPONENTS, N_STARTS = 20, 10
"""Principal components in which cells are clustered, and starts of k-means."""
MIN_CELLS, MIN_FRACTION = 10, 0.005
"""A cluster of fewer cells says nothing of the floor: its means are noise."""
N_ITERATIONS = 50
"""Of the matrix factorisation: enough to begin from."""
SEED = 0
"""Of cells looked at, clusters and factorisation. Not the model's: so the start depends on the data alone, and programs of several seeds
differ by what training makes of them."""
ON_THRESHOLD = 0.2
"""A part is on in a cell from this share of its 99th percentile on."""
MEAN_ON = 1.3
"""The code that a latent begins with where its part is on, in the mean: half a standard deviation above the mean of a positive slab."""


class NMFInit(NamedTuple):
    """A decoder to begin with."""

    floor_g: Floats
    """Expression of each gene in the kind of cell that has least of it."""
    effect_gk: Floats
    """What a latent of 1 adds; 0 or more. There are no more columns than cells or genes."""


def floor_and_factors(x_ng: sparse.csr_matrix, n_latent: int) -> NMFInit:
    """Find the floor and as many parts above it as there are latents.

    The floor of a gene is its least mean over clusters of cells (k-means of principal components, as many clusters as latents). Each
    kind of cell then differs from it by what it has more: were it the mean of all cells, the commonest kind would need no program, and
    the others would be described by what they are not. The parts are a nonnegative matrix factorisation of what lies above the floor
    (Lee & Seung 1999; initial values by Boutsidis & Gallopoulos 2008), scaled so that a part's mean amount where it is on is MEAN_ON.

    `x_ng` is log-normalised expression, (n, g). One thread, so that the same data give the same bits.
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
    """Cluster cells roughly, (n,)."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    n_axes = min(MAX_COMPONENTS, min(x_ng.shape) - 1)
    if n_axes < 1:
        return np.zeros(x_ng.shape[0], dtype=np.int64)
    axes_nk = PCA(n_axes, svd_solver="arpack", random_state=SEED).fit_transform(x_ng)
    distinct = len(np.unique(axes_nk, axis=0))
    found = KMeans(min(n_clusters, distinct), n_init=N_STARTS, random_state=SEED).fit(axes_nk)
    return np.asarray(found.labels_)


def minimum_cluster_mean(x_ng: sparse.csr_matrix, cluster_n: NDArray[np.integer]) -> Floats:
    """Give each gene's least mean over the clusters that have enough cells, or over all cells where none has, (g,)."""
    size_c = np.bincount(cluster_n)
    enough_c = np.flatnonzero(size_c >= max(MIN_CELLS, MIN_FRACTION * len(cluster_n)))
    if not len(enough_c):
        return np.asarray(x_ng.mean(axis=0)).ravel()
    mean_cg = [np.asarray(x_ng[cluster_n == c].mean(axis=0)).ravel() for c in enough_c]
    return np.asarray(np.min(mean_cg, axis=0))


def above_floor(x_ng: sparse.csr_matrix, floor_g: Floats) -> sparse.csr_matrix:
    """Give what of each value lies above the floor, (n, g)."""
    if (floor_g < 0).any():  # of scaled expression, where a 0 lies above the floor
        return sparse.csr_matrix(np.maximum(x_ng.toarray() - floor_g, 0))
    rest_ng = x_ng.copy()
    rest_ng.data = np.maximum(rest_ng.data - floor_g[rest_ng.indices].astype(rest_ng.dtype), 0)
    rest_ng.eliminate_zeros()
    return rest_ng


def mean_where_on(amount_nk: Floats) -> Floats:
    """Give the mean amount of each part over the cells in which it is on, (k,); 0 for a part that is on nowhere."""
    on_nk = amount_nk > ON_THRESHOLD * np.quantile(amount_nk, 0.99, axis=0)
    return np.asarray((amount_nk * on_nk).sum(axis=0) / np.maximum(on_nk.sum(axis=0), 1))
