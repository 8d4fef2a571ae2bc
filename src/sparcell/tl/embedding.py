"""Maps and partitions of codes: t-SNE by openTSNE, k-means by scikit-learn.

Suffixes: n cells, k latents, c clusters, d map dimensions.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

PERPLEXITY = 40.0
"""The seed study's."""
EXACT_CELLS = 20_000
"""Up to this many cells neighbours are found and forces are computed exactly, which is quicker there than an index and a tree."""

FEW_CELLS = 1_000
"""Up to this many cells one thread maps them: more would mostly wait for each other, on a busy machine for many times as long."""
TINY = float(np.finfo(np.float64).tiny)
MOST_STARTS, FEWEST_STARTS, CELL_STARTS = 300, 10, 800_000
"""Starts of k-means, and how many cells all starts together may visit. On a map of some thousand cells the best partitions lie
within .01 % of each other and score up to .005 apart; with 300 starts every seed finds one whose scores agree to the third digit
(with 10, half of the seeds do not). On many cells it matters less and costs more."""

logger = logging.getLogger("sparcell")


def tsne(latent_nk: Floats, *, n_components: int = 2, perplexity: float = PERPLEXITY, seed: int = 0) -> Any:
    """Map codes to 2 or 3 dimensions.

    Returns openTSNE's embedding, an (n, d) array that can also `place` new cells. Started from PCA; learning rate and
    exaggeration as openTSNE sets them. Forces are exact up to 20,000 cells, then interpolated (2 dimensions) or by a tree (3). A
    perplexity above (n - 1) / 3 is lowered to it.
    """
    import openTSNE
    from joblib import effective_n_jobs

    n_cells = len(latent_nk)
    exact = n_cells <= EXACT_CELLS
    n_jobs = 1 if n_cells <= FEW_CELLS else effective_n_jobs(-1)  # the same map to the bit either way
    latent_nk = np.asarray(latent_nk, dtype=np.float64)
    perplexity = affordable_perplexity(perplexity, n_cells)
    return openTSNE.TSNE(
        n_components=n_components,
        perplexity=perplexity,
        negative_gradient_method=divergence if exact else "fft" if n_components == 2 else "bh",
        initialization="pca" if np.ptp(latent_nk, axis=0).any() else "random",  # PCA divides by the spread
        random_state=seed,
        n_jobs=n_jobs,
    ).fit(latent_nk, _exact_affinities(latent_nk, perplexity, n_jobs) if exact else None)


def _exact_affinities(latent_nk: Floats, perplexity: float, n_jobs: int) -> Any:
    """What openTSNE makes itself with `neighbors="exact"`, but only after it has imported pynndescent to see whether it is there.

    In a new environment that compiles for 12 seconds.
    """
    from openTSNE.affinity import PerplexityBasedNN
    from openTSNE.nearest_neighbors import Sklearn

    n_neighbours = min(len(latent_nk) - 1, int(3 * perplexity))
    nearest = Sklearn(latent_nk, n_neighbours, metric="euclidean", n_jobs=n_jobs)
    return PerplexityBasedNN(knn_index=nearest, perplexity=perplexity, n_jobs=n_jobs)


def divergence(
    point_nd: Any,
    p_nn: Any,
    *,
    reference_embedding: Any = None,
    should_eval_error: bool = False,
    **options: Any,
) -> tuple[float, Floats]:
    """KL(P ‖ Q) of a map and its slope in the points as openTSNE takes it: without the factor 4, and the former only where asked for."""
    if reference_embedding is not None:  # cells are placed on a map that stays
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
    slope_nd, total = forces.gradient(points, p_nn)
    if not should_eval_error:
        return 0.0, slope_nd
    of = np.repeat(np.arange(len(points)), np.diff(p_nn.indptr))
    apart = 1 + ((points[of] - points[p_nn.indices]) ** 2).sum(axis=1)  # 1/q
    return float((p_nn.data * np.log(np.maximum(p_nn.data, TINY) * apart * total)).sum()), slope_nd


def affordable_perplexity(perplexity: float, n_cells: int) -> float:
    """Lower a perplexity to (n - 1) / 3, the most that so many cells allow, and say so in the log."""
    most = max(1.0, (n_cells - 1) / 3)
    if perplexity > most:
        logger.warning("perplexity %g needs more than %d cells; %g is used", perplexity, n_cells, most)
    return min(perplexity, most)


def tsne_transform(embedding: Any, latent_nk: Floats) -> Floats:
    """Place new codes on a map that `tsne` made, leaving the map as it is, (n, d)."""
    before = np.array(embedding)
    placed = np.array(embedding.transform(np.asarray(latent_nk, dtype=np.float64)))
    # openTSNE centres the map it is asked to place cells on, in place: the map goes back, and the new cells with it
    shift = (before - np.asarray(embedding)).mean(axis=0)
    np.asarray(embedding)[:] = before
    return np.asarray(placed + shift)


def kmeans(
    points_nd: Floats, n_clusters: int, *, seed: int = 0, n_starts: int | None = None
) -> tuple[NDArray[np.integer], Floats]:
    """Partition points; the best of `n_starts`, 10 to 300 by the number of cells. Returns the partition (n,) and the centroids (c, d)."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    starts = n_starts or int(np.clip(CELL_STARTS // len(points_nd), FEWEST_STARTS, MOST_STARTS))
    points_nd = np.asarray(points_nd, dtype=np.float64)
    with threadpool_limits(
        1
    ):  # sums over threads come in no fixed order; the same seed must give the same bits
        fitted = KMeans(n_clusters, n_init=starts, random_state=seed).fit(points_nd)
    return fitted.labels_, fitted.cluster_centers_
