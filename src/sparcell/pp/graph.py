"""Neighbour graph and communities as Seurat finds them: arrays in, arrays out.

Suffixes: n cells, d dimensions, k neighbours.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.data.validation import Matrix

REFINEMENTS = 10
"""Rounds of local moves after each start; Seurat's optimiser also repeats its pass 10 times (`n.iter`)."""


def nearest_neighbors(x_nd: NDArray[np.floating], n_neighbors: int) -> NDArray[np.int64]:
    """Find the exact Euclidean neighbours of each cell, the cell itself first, as Seurat counts them.

    Parameters
    ----------
    x_nd
        Coordinates, n × d.
    n_neighbors
        k, the cell itself included; no more than n are given.

    Returns
    -------
    Indices n × k; column 0 is the cell itself, also where other cells lie on the same spot.
    """
    from sklearn.neighbors import NearestNeighbors

    n_cells = len(x_nd)
    self_n1 = np.arange(n_cells, dtype=np.int64)[:, None]
    k = min(n_neighbors, n_cells)
    if k < 2:
        return self_n1
    # Asked without a query, scikit-learn leaves each cell itself out, so ties cannot push it from its list.
    others = NearestNeighbors(n_neighbors=k - 1).fit(x_nd).kneighbors(return_distance=False)
    return np.hstack([self_n1, others.astype(np.int64)])


def shared_neighbors(neighbors_nk: NDArray[np.int64], prune: float = 1 / 15) -> Matrix:
    """Weigh pairs of cells by the overlap of their neighbourhoods (Jaccard index), as Seurat's FindNeighbors.

    With s shared neighbours of k each, the weight is s / (2k - s).

    Parameters
    ----------
    neighbors_nk
        From `nearest_neighbors`; each row holds k different cells.
    prune
        Weights below are dropped (Seurat: 1/15).

    Returns
    -------
    Symmetric CSR matrix n × n, float32, weights in [prune, 1]; the diagonal is empty.
    """
    n_cells, k = neighbors_nk.shape
    indptr = np.arange(0, n_cells * k + 1, k)
    member = sparse.csr_matrix(
        (np.ones(n_cells * k, dtype=np.float32), neighbors_nk.ravel(), indptr), shape=(n_cells, n_cells)
    )
    graph = (member @ member.T).tocoo()
    jaccard = graph.data / (2 * k - graph.data)
    keep = (jaccard >= np.float32(prune)) & (graph.row != graph.col)
    return sparse.csr_matrix(
        (jaccard[keep].astype(np.float32), (graph.row[keep], graph.col[keep])), shape=(n_cells, n_cells)
    )


def louvain(graph: Matrix, resolution: float = 0.5, n_starts: int = 10, seed: int = 0) -> NDArray[np.int64]:
    """Partition a weighted graph by modularity: Louvain from several random orders, the best one kept.

    Each start is refined by local moves of the same objective (igraph's Leiden started from that partition),
    which can only raise its modularity. One Louvain pass ends in optima that differ much from start to
    start; Seurat's optimiser repeats its pass for the same reason.

    Parameters
    ----------
    graph
        Symmetric sparse n × n weights ≥ 0; the diagonal is ignored.
    resolution
        Above 1 more, below 1 fewer communities (Reichardt & Bornholdt 2006).
    n_starts
        Random starts.
    seed
        Of igraph's generator during this call. Python's and numpy's global generators are not touched, and
        igraph gets Python's `random` back, its default.

    Returns
    -------
    Community of each node, numbered by size: 0 is the largest (of equals, the one with the first cell).
    """
    import igraph

    n_nodes = graph.shape[0]
    upper = sparse.triu(graph, k=1).tocoo()
    network = igraph.Graph(n=n_nodes, edges=np.column_stack([upper.row, upper.col]))
    weights = upper.data.astype(float).tolist()
    best, partition = -np.inf, list(range(n_nodes))
    igraph.set_random_number_generator(random.Random(seed))
    try:
        for _ in range(n_starts if weights else 0):
            start = network.community_multilevel(weights=weights, resolution=resolution)
            refined = network.community_leiden(
                "modularity",
                weights=weights,
                resolution=resolution,
                initial_membership=start.membership,
                n_iterations=REFINEMENTS,
            )
            score = network.modularity(refined.membership, weights=weights, resolution=resolution)
            if score > best:
                best, partition = score, refined.membership
    finally:
        igraph.set_random_number_generator(random)
    return number_by_size(np.asarray(partition, dtype=np.int64))


def number_by_size(partition_n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumber groups so that 0 is the largest; of equal groups, the one whose first cell comes first."""
    _, first, inverse, sizes = np.unique(
        partition_n, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[inverse]
