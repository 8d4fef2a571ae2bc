"""The scIB metrics, computed by the optional package scib-metrics: arrays in, named numbers out.

Suffixes: n cells, k latents, d principal components, b batches of one type, m neighbors.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcell.metrics.kbet import kbet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Integers = NDArray[np.integer]

PACKAGE = "scib-metrics"

N_NEIGHBORS = 90
"""Neighbors of the LISI metrics, the cell itself included."""

KBET_NEIGHBORS, CONNECTIVITY_NEIGHBORS = 50, 15
"""The first of them, which kBET and graph connectivity use."""

MAX_EXACT = 50_000
"""Up to this number of cells the neighbors are exact, which is also faster; beyond, scib-metrics' approximate search finds them."""

MEMORY_MIB = 128
"""Working memory of the distances between cells."""


def scib_scores(
    latent_nk: Floats,
    labels_n: NDArray[np.str_],
    batches_n: NDArray[np.str_] | None,
    pca_nd: Floats,
    on_metric: Callable[[str], None] = lambda name: None,
) -> dict[str, float]:
    """Return the scores of scib-metrics for a latent representation, by the package's own names.

    Nearest neighbors are computed once, and so is the silhouette of the types, which two metrics use. Silhouettes, BRAS and kBET follow the
    definitions of scib-metrics without its compiled programs, and up to 50,000 cells the neighbors are exact, where scib-metrics'
    Benchmarker approximates them. All scores agree with its own (a test compares them).

    Parameters
    ----------
    latent_nk
        Latent representation of cells that have a label, (n, k).
    labels_n, batches_n
        Cell type and batch of each cell, (n,). Without batches only the bio-conservation metrics that need none are computed.
    pca_nd
        Principal components of the normalized counts, (n, d): the unintegrated data that the PCR comparison uses.
    on_metric
        Called with the name of each step after it is done: see `metric_names`.

    Returns
    -------
    Score by name, unscaled; NaN where a metric is undefined for the data.

    Examples
    --------
    ::

        sp.metrics.scib_scores(model.transform(adata), adata.obs["cell_type"], adata.obs["donor"], adata.obsm["X_pca"])
    """
    import scib_metrics

    scib_metrics.settings.verbosity = logging.ERROR
    cells = Cells(np.asarray(latent_nk, dtype=np.float32), np.asarray(labels_n), batches_n, pca_nd)
    scores: dict[str, float] = {}
    with _no_warnings():
        for name, compute in _steps(cells):
            scores |= {key: float(value) for key, value in compute().items()}
            on_metric(name)
    return scores | aggregate(scores)


def metric_names(*, batches: bool) -> list[str]:
    """Return the names of the steps of `scib_scores`, in order."""
    return [name for name in BIO_STEPS if batches or name not in NEED_BATCHES] + list(BATCH_STEPS) * batches


def aggregate(scores: dict[str, float]) -> dict[str, float]:
    """Return scIB's aggregates (Luecken et al. 2022): means of both groups, NaN left out, and .6 of bio + .4 of batch."""
    bio = float(np.nanmean([scores[name] for name in BIO_SCORES if name in scores]))
    if not set(BATCH_STEPS) & set(scores):
        return {"Bio conservation": bio}
    batch = float(np.nanmean([scores[name] for name in BATCH_STEPS]))
    return {"Bio conservation": bio, "Batch correction": batch, "Total": 0.6 * bio + 0.4 * batch}


@dataclass(frozen=True)
class Cells:
    """One latent representation and what it is scored against; shared intermediate results are computed once."""

    latent_nk: Floats
    labels_n: NDArray[np.str_]
    batches_n: NDArray[np.str_] | None
    pca_nd: Floats

    @cached_property
    def label_n(self) -> Integers:
        """Number of the type of each cell."""
        return np.unique(np.asarray(self.labels_n), return_inverse=True)[1]

    @cached_property
    def batch_n(self) -> Integers:
        """Number of the batch of each cell."""
        return np.unique(np.asarray(self.batches_n, dtype=np.str_), return_inverse=True)[1]

    @cached_property
    def silhouette_n(self) -> Floats:
        """Silhouette of each cell and the types, scaled from (-1, 1) to (0, 1)."""
        from sklearn import config_context
        from sklearn.metrics import silhouette_samples

        with config_context(working_memory=MEMORY_MIB):
            return np.asarray(silhouette_samples(self.latent_nk, self.label_n) + 1) / 2

    @cached_property
    def neighbors(self) -> Any:
        """NeighborsResults of scib-metrics: the N_NEIGHBORS nearest cells of each cell, itself first."""
        from scib_metrics.nearest_neighbors import NeighborsResults

        if len(self.latent_nk) > MAX_EXACT:
            from scib_metrics.nearest_neighbors import pynndescent

            return pynndescent(self.latent_nk, n_neighbors=N_NEIGHBORS, random_state=0, n_jobs=1)
        from sklearn import config_context
        from sklearn.neighbors import NearestNeighbors

        with config_context(working_memory=MEMORY_MIB):
            search = NearestNeighbors(n_neighbors=N_NEIGHBORS, algorithm="brute").fit(self.latent_nk)
            distances_nm, indices_nm = search.kneighbors(self.latent_nk)
        return NeighborsResults(indices=indices_nm, distances=distances_nm.astype(np.float32))


def _isolated_labels(cells: Cells) -> float:
    """Return the mean silhouette of the types that occur in the fewest batches."""
    n_batches = np.array(
        [len(np.unique(cells.batch_n[cells.label_n == label])) for label in range(cells.label_n.max() + 1)]
    )
    isolated = np.flatnonzero(n_batches == n_batches.min())
    return float(np.mean([cells.silhouette_n[cells.label_n == label].mean() for label in isolated]))


def _kmeans(cells: Cells) -> dict[str, float]:
    import scib_metrics

    scores = scib_metrics.nmi_ari_cluster_labels_kmeans(cells.latent_nk.copy(), cells.labels_n)
    return {"KMeans NMI": scores["nmi"], "KMeans ARI": scores["ari"]}


def bras(latent_nk: Floats, label_n: Integers, batch_n: Integers) -> float:
    """Return the batch-removal-adapted silhouette (Rautenstrauch & Ohler 2025) with cosine distances, as scib-metrics defines it.

    The mean cosine distance of a cell to a group is 1 minus the product of its unit vector and the group's mean unit vector. The cost is
    therefore linear in the cells, where distances of all pairs are quadratic.
    """
    unit_nk = latent_nk.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit_nk /= np.linalg.norm(unit_nk, axis=1, keepdims=True)
        scores = [
            _bras_of_type(unit_nk[label_n == label], batch_n[label_n == label])
            for label in range(label_n.max() + 1)
        ]
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")


def _bras_of_type(unit_nk: Floats, batch_n: Integers) -> float:
    batches_b, batch_n = np.unique(batch_n, return_inverse=True)
    n_cells = len(unit_nk)
    if len(batches_b) in (1, n_cells):
        return float("nan")
    size_n = np.bincount(batch_n)[batch_n]
    sums_bk = np.stack([unit_nk[batch_n == batch].sum(axis=0) for batch in range(len(batches_b))])
    own_n = size_n - np.einsum("nk,nk->n", unit_nk, sums_bk[batch_n])  # the distance to itself is 0
    all_n = n_cells - unit_nk @ sums_bk.sum(axis=0)
    within_n, between_n = own_n / (size_n - 1), (all_n - own_n) / (n_cells - size_n)
    silhouette_n = (between_n - within_n) / np.maximum(within_n, between_n)
    return float(np.mean(1 - np.abs(np.nan_to_num(silhouette_n, posinf=0, neginf=0))))


def _knn_metric(name: str, n_neighbors: int, *labels: str) -> Callable[[Cells], float]:
    """Return a metric of scib-metrics that takes nearest neighbors and labels."""

    def compute(cells: Cells) -> float:
        import scib_metrics

        neighbors = cells.neighbors.subset_neighbors(n=n_neighbors)
        return float(getattr(scib_metrics, name)(neighbors, *(getattr(cells, of) for of in labels)))

    return compute


def _kbet(cells: Cells) -> float:
    graph = cells.neighbors.subset_neighbors(n=KBET_NEIGHBORS).knn_graph_connectivities
    return kbet(graph, cells.label_n, cells.batch_n)


def _pc_regression(cells: Cells) -> float:
    import scib_metrics

    return float(
        scib_metrics.pcr_comparison(cells.pca_nd, cells.latent_nk, cells.batches_n, categorical=True)
    )


BIO_STEPS: dict[str, Callable[[Cells], Any]] = {
    "Isolated labels": _isolated_labels,
    "KMeans": _kmeans,
    "Silhouette label": lambda cells: cells.silhouette_n.mean(),
    "cLISI": _knn_metric("clisi_knn", N_NEIGHBORS, "labels_n"),
}
BATCH_STEPS: dict[str, Callable[[Cells], Any]] = {
    "BRAS": lambda cells: bras(cells.latent_nk, cells.label_n, cells.batch_n),
    "iLISI": _knn_metric("ilisi_knn", N_NEIGHBORS, "batches_n"),
    "KBET": _kbet,
    "Graph connectivity": _knn_metric("graph_connectivity", CONNECTIVITY_NEIGHBORS, "labels_n"),
    "PCR comparison": _pc_regression,
}
NEED_BATCHES = ("Isolated labels",)
"""Metrics of bio conservation that need batches."""

BIO_SCORES = ("Isolated labels", "KMeans NMI", "KMeans ARI", "Silhouette label", "cLISI")


def _steps(cells: Cells) -> Iterator[tuple[str, Callable[[], dict[str, float]]]]:
    """Yield the name of each step, and a function that returns its scores."""
    for name in metric_names(batches=cells.batches_n is not None):
        compute = (BIO_STEPS | BATCH_STEPS)[name]

        def step(name: str = name, compute: Callable[[Cells], Any] = compute) -> dict[str, float]:
            value = compute(cells)
            return value if isinstance(value, dict) else {name: value}

        yield name, step


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Hide warnings of jax and pandas, and scib-metrics' that a negative PCR comparison counts as 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
