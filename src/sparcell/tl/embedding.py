"""Embedding and clustering of latent representations: t-SNE by openTSNE, k-means by scikit-learn.

Suffixes: n cells, k latents, c clusters, d map dimensions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

PERPLEXITY = 40.0
"""Default perplexity: the value of the 2019 study."""
MAX_EXACT_CELLS = 20_000
"""Neighbors and forces are exact up to this many cells; exact computation is faster there than an index and a tree."""
MAX_SINGLE_THREAD_CELLS = 1_000
"""t-SNE uses one thread up to this many cells, because more threads mostly wait for each other there."""
TINY = float(np.finfo(np.float64).tiny)
MAX_STARTS, MIN_STARTS, CELL_STARTS = 300, 10, 800_000
"""Largest and smallest default number of k-means starts, and the number of cells that all starts together may visit.

On a map of some thousand cells the best partitions lie within 0.01 % of each other and their scores differ by up to 0.005. With 300 starts
every seed reaches scores that agree to the third digit; with 10 starts half of the seeds do not.
"""

logger = logging.getLogger("sparcell")


def tsne(
    latent_nk: Floats,
    *,
    n_components: int = 2,
    perplexity: float = PERPLEXITY,
    seed: int = 0,
    extendable: bool = False,
) -> Any:
    """Return a t-SNE map of a latent representation, (n, d).

    The map starts from PCA, or at random if there are fewer latents than dimensions. openTSNE sets learning rate and exaggeration. Forces
    are exact up to 20,000 cells; above that they are interpolated (2 dimensions) or approximated by a tree (3 dimensions).

    Parameters
    ----------
    latent_nk
        Latent representation, (n, k).
    n_components
        Dimensions of the map: 2 or 3.
    perplexity
        Effective number of neighbors. Values above (n - 1) / 3 are lowered to it, with a warning in the log.
    seed
        Random seed. The same seed gives the same map to the bit.
    extendable
        Return openTSNE's own kind of array, to which `tsne_transform` can add cells. An .h5ad file cannot hold it.

    Returns
    -------
    The positions of the cells, (n, d), float64.

    Examples
    --------
    >>> import numpy as np
    >>> z_nk = np.random.default_rng(0).normal(size=(50, 4))
    >>> sp.tl.tsne(z_nk, perplexity=10).shape
    (50, 2)
    """
    import openTSNE
    from joblib import effective_n_jobs

    n_cells = len(latent_nk)
    exact = n_cells <= MAX_EXACT_CELLS
    n_jobs = 1 if n_cells <= MAX_SINGLE_THREAD_CELLS else effective_n_jobs(-1)  # the map has the same bits
    latent_nk = np.asarray(latent_nk, dtype=np.float64)
    perplexity = cap_perplexity(perplexity, n_cells)
    fitted = openTSNE.TSNE(
        n_components=n_components,
        perplexity=perplexity,
        negative_gradient_method=kl_divergence if exact else "fft" if n_components == 2 else "bh",
        initialization=_initialization(latent_nk, n_components),
        random_state=seed,
        n_jobs=n_jobs,
    ).fit(latent_nk, _exact_affinities(latent_nk, perplexity, n_jobs) if exact else None)
    return fitted if extendable else np.array(fitted)


def _initialization(latent_nk: Floats, n_components: int) -> str:
    """Return how the map starts: from PCA, unless there are fewer latents than dimensions, or no spread to divide by."""
    has_axes = min(latent_nk.shape) >= n_components and bool(np.ptp(latent_nk, axis=0).any())
    return "pca" if has_axes else "random"


def _exact_affinities(latent_nk: Floats, perplexity: float, n_jobs: int) -> Any:
    """Return the affinities that openTSNE computes with `neighbors="exact"`, without importing pynndescent.

    openTSNE imports pynndescent to see whether it is installed. That import compiles for 12 seconds in a new environment.
    """
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import Sklearn

    n_neighbors = min(len(latent_nk) - 1, int(3 * perplexity))
    neighbors = Sklearn(latent_nk, n_neighbors, metric="euclidean", n_jobs=n_jobs)
    return PerplexityBasedNN(knn_index=neighbors, perplexity=perplexity, n_jobs=n_jobs)


def kl_divergence(
    point_nd: Any,
    p_nn: Any,
    *,
    reference_embedding: Any = None,
    should_eval_error: bool = False,
    **options: Any,
) -> tuple[float, Floats]:
    """Return KL(P ‖ Q) of a map and its gradient in the points, (n, d), in openTSNE's convention.

    The gradient lacks the factor 4. The divergence is 0 unless `should_eval_error` asks for it. With a `reference_embedding`, openTSNE
    itself computes both: cells are then added to a map that stays as it is.
    """
    if reference_embedding is not None:
        from openTSNE.tsne import kl_divergence_bh

        return kl_divergence_bh(  # type: ignore[no-any-return]
            point_nd,
            p_nn,
            reference_embedding=reference_embedding,
            should_eval_error=should_eval_error,
            **options,
        )
    from sparcell.kernels import forces

    points = np.asarray(point_nd)
    grad_nd, normalizer = forces.gradient(points, p_nn)
    if not should_eval_error:
        return 0.0, grad_nd
    rows = np.repeat(np.arange(len(points)), np.diff(p_nn.indptr))
    inverse_kernel = 1 + ((points[rows] - points[p_nn.indices]) ** 2).sum(axis=1)
    log_ratio = np.log(np.maximum(p_nn.data, TINY) * inverse_kernel * normalizer)
    return float((p_nn.data * log_ratio).sum()), grad_nd


def cap_perplexity(perplexity: float, n_cells: int) -> float:
    """Return the perplexity, lowered to (n - 1) / 3 if it is larger; the log then says so."""
    limit = max(1.0, (n_cells - 1) / 3)
    if perplexity > limit:
        logger.warning("perplexity %g needs more than %d cells; %g is used", perplexity, n_cells, limit)
    return min(perplexity, limit)


def tsne_transform(embedding: Any, latent_nk: Floats) -> Floats:
    """Return the positions of new cells on an existing t-SNE map, (n, d); the map itself does not change.

    Parameters
    ----------
    embedding
        Map returned by `tsne` with ``extendable=True``.
    latent_nk
        Latent representation of the new cells, (n, k).

    Raises
    ------
    InputError
        If the map is a plain array.

    Examples
    --------
    >>> import numpy as np
    >>> z_nk = np.random.default_rng(0).normal(size=(50, 4))
    >>> map_n2 = sp.tl.tsne(z_nk[:40], perplexity=10, extendable=True)
    >>> sp.tl.tsne_transform(map_n2, z_nk[40:]).shape
    (10, 2)
    """
    if not hasattr(embedding, "transform"):
        raise InputError(
            "the map is a plain array, which does not know how it was made; expected the map of sp.tl.tsne(..., extendable=True)."
        )
    before = np.array(embedding)
    placed = np.array(embedding.transform(np.asarray(latent_nk, dtype=np.float64)))
    # openTSNE centers the existing map in place; this restores the map and shifts the new cells alike
    shift = (before - np.asarray(embedding)).mean(axis=0)
    np.asarray(embedding)[:] = before
    return np.asarray(placed + shift)


def kmeans(
    points_nd: Floats, n_clusters: int, *, seed: int = 0, n_init: int | None = None
) -> tuple[NDArray[np.integer], Floats]:
    """Return the best of several k-means partitions, (n,), and its centroids, (c, d).

    Parameters
    ----------
    points_nd
        Points, (n, d): a latent representation or a map.
    n_clusters
        Number of clusters.
    seed
        Random seed. The same seed gives the same partition to the bit.
    n_init
        Number of starts. Default: 10 to 300, fewer for more cells.

    Examples
    --------
    >>> cluster_n, centroid_cd = sp.tl.kmeans([[0.0], [0.5], [8.0]], n_clusters=2)
    >>> sorted(centroid_cd.ravel().tolist())
    [0.25, 8.0]
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    starts = n_init or int(np.clip(CELL_STARTS // len(points_nd), MIN_STARTS, MAX_STARTS))
    points_nd = np.asarray(points_nd, dtype=np.float64)
    with threadpool_limits(1):  # threads sum in no fixed order, and the same seed must give the same bits
        fitted = KMeans(n_clusters, n_init=starts, random_state=seed).fit(points_nd)
    return fitted.labels_, fitted.cluster_centers_
