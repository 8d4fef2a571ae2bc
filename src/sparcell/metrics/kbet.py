"""kBET within cell types, as scib-metrics defines it: without compilation of one program for each size of a type.

Suffixes: n cells of a type, m neighbors, b batches, d components of the diffusion map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse, stats
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Integers = NDArray[np.integer]

ALPHA = 0.05
"""Significance level of the test of a cell's neighborhood."""

MIN_CELLS, MIN_NEIGHBORS, MAX_NEIGHBORS = 10, 10, 70
"""Smallest type that is tested; bounds of the number of neighbors, which is a quarter of the mean number of cells of a batch."""

N_COMPONENTS = 100
"""Components of the diffusion map in which the neighbors within a type are found."""

MIN_CONNECTED = 0.75
"""A type scores 0 if a smaller fraction of its cells lies in pieces of the graph with three times the neighbors."""

NEARLY_ONE = 1e-6
"""Eigenvalues this close to 1 belong to the stationary distribution, which says nothing about the places of cells."""


def kbet(graph: sparse.spmatrix, label_n: Integers, batch_n: Integers) -> float:
    """Return the mean over types of the fraction of cells whose neighbors have the batches in the type's proportions.

    Neighbors are found within the type, in a diffusion map of the neighbor graph (Büttner et al. 2019; Luecken et al. 2022), and a
    chi-square test compares their batches with the type's. Types with fewer than 10 cells or with a single batch are left out.

    Parameters
    ----------
    graph
        Connectivities of all cells, symmetric.
    label_n, batch_n
        Number of the type and of the batch of each cell.

    Returns
    -------
    A number between 0 and 1; NaN if no type can be tested.
    """
    graph = sparse.csr_matrix(graph)
    scores = []
    for label in np.unique(label_n):
        rows = np.flatnonzero(label_n == label)
        scores.append(_kbet_of_type(graph[rows][:, rows], batch_n[rows]))
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")


def _kbet_of_type(graph: sparse.csr_matrix, batch_n: Integers) -> float:
    sizes_b = np.unique(batch_n, return_counts=True)[1]
    n_cells = len(batch_n)
    if n_cells < MIN_CELLS or len(sizes_b) == 1:
        return float("nan")
    n_neighbors = min(MAX_NEIGHBORS, max(MIN_NEIGHBORS, int(sizes_b.mean() // 4)))
    n_pieces, piece_n = connected_components(graph, connection="strong")
    if n_pieces > 1:
        kept = np.flatnonzero((np.bincount(piece_n) >= 3 * n_neighbors)[piece_n])
        if len(kept) < MIN_CONNECTED * n_cells:
            return 0.0
        graph, batch_n = graph[kept][:, kept], batch_n[kept]
    n_neighbors = min(n_neighbors + 1, len(batch_n))  # the cell itself counts, as in scib-metrics
    return acceptance(_nearest(diffusion_map(graph), n_neighbors), batch_n)


def diffusion_map(graph: sparse.csr_matrix) -> Floats:
    """Return the diffusion map of a connected graph, (n, d): eigenvectors of the transition matrix, summed over all numbers of steps."""
    from scipy.sparse import diags

    density_n = np.asarray(graph.sum(axis=0)).ravel()
    kernel = diags(1 / density_n) @ graph @ diags(1 / density_n)
    scale_n = 1 / np.sqrt(np.asarray(kernel.sum(axis=0)).ravel())
    transitions = (diags(scale_n) @ kernel @ diags(scale_n)).astype(np.float64)
    n_components = min(N_COMPONENTS, graph.shape[0] - 1)
    start_n = np.random.default_rng(0).normal(size=graph.shape[0])
    values_d, vectors_nd = eigsh(transitions, k=n_components, which="LM", v0=start_n)
    with np.errstate(divide="ignore"):
        weights_d = np.where(np.abs(1 - values_d) < NEARLY_ONE, 1.0, values_d / (1 - values_d))
    return np.asarray(vectors_nd * weights_d)


def _nearest(place_nd: Floats, n_neighbors: int) -> Integers:
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute").fit(place_nd)
    return np.asarray(search.kneighbors(place_nd, return_distance=False))


def acceptance(neighbor_nm: Integers, batch_n: Integers) -> float:
    """Return the fraction of cells for which a chi-square test does not tell the neighbors' batches from those of all cells."""
    number_n = np.unique(batch_n, return_inverse=True)[1]
    member_nb = np.eye(number_n.max() + 1)[number_n]
    observed_nb = member_nb[neighbor_nm].sum(axis=1)
    expected_b = member_nb.mean(axis=0) * neighbor_nm.shape[1]
    statistic_n = ((observed_nb - expected_b) ** 2 / expected_b).sum(axis=1)
    return float((stats.chi2.sf(statistic_n, len(expected_b) - 1) >= ALPHA).mean())
