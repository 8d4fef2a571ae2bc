"""Shared-nearest-neighbor graph and Louvain communities, as in Seurat. Takes and returns arrays.

Suffixes: n cells, d dimensions, k neighbors.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.data.blocks import Matrix

N_REFINEMENTS = 10
"""Iterations of local moves after each start. Seurat's optimizer also repeats its pass 10 times (`n.iter`)."""


def nearest_neighbors(x_nd: NDArray[np.floating], n_neighbors: int) -> NDArray[np.int64]:
    """Return the exact Euclidean nearest neighbors of each cell. The first one is the cell itself, as in Seurat.

    Parameters
    ----------
    x_nd
        Coordinates, n × d.
    n_neighbors
        k, which includes the cell itself; n if there are fewer cells than k.

    Returns
    -------
    Row numbers, n × k. Column 0 is the cell itself, even if other cells have the same coordinates.
    """
    from sklearn.neighbors import NearestNeighbors

    n_cells = len(x_nd)
    self_n1 = np.arange(n_cells, dtype=np.int64)[:, None]
    k = min(n_neighbors, n_cells)
    if k < 2:
        return self_n1
    # Without a query, scikit-learn leaves out each cell itself, so ties cannot push the cell out of its own list.
    others = NearestNeighbors(n_neighbors=k - 1).fit(x_nd).kneighbors(return_distance=False)
    return np.hstack([self_n1, others.astype(np.int64)])


def shared_neighbors(neighbors_nk: NDArray[np.int64], prune: float = 1 / 15) -> Matrix:
    """Return the graph of cells weighted by the Jaccard index of their neighborhoods, as Seurat's FindNeighbors does.

    Two cells with k neighbors each and s shared neighbors have the weight s / (2k - s).

    Parameters
    ----------
    neighbors_nk
        From `nearest_neighbors`. Each row holds k different cells.
    prune
        Smaller weights are dropped.

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
    """Return the Louvain communities of a weighted graph: of several random starts, those with the highest modularity.

    The partition of each start is refined by igraph's Leiden algorithm with the same objective, which can only raise
    the modularity. Local optima of a single Louvain pass differ much between starts.

    Parameters
    ----------
    graph
        Symmetric sparse weights ≥ 0, n × n. The diagonal is ignored.
    resolution
        Above 1: more communities; below 1: fewer (Reichardt & Bornholdt 2006).
    n_starts
        Number of random starts.
    seed
        Seed of igraph's generator during this call. Python's and numpy's global generators do not change. Afterwards
        igraph uses Python's `random` again, its default.

    Returns
    -------
    Community of each node, (n,), numbered by size: 0 is the largest; of equal ones, the one with the first cell.
    """
    import igraph

    n_nodes = graph.shape[0]
    upper = sparse.triu(graph, k=1).tocoo()
    network = igraph.Graph(n=n_nodes, edges=np.column_stack([upper.row, upper.col]))
    weights = upper.data.astype(float).tolist()
    best_modularity, partition = -np.inf, list(range(n_nodes))
    igraph.set_random_number_generator(random.Random(seed))
    try:
        for _ in range(n_starts if weights else 0):
            start = network.community_multilevel(weights=weights, resolution=resolution)
            refined = network.community_leiden(
                "modularity",
                weights=weights,
                resolution=resolution,
                initial_membership=start.membership,
                n_iterations=N_REFINEMENTS,
            )
            modularity = network.modularity(refined.membership, weights=weights, resolution=resolution)
            if modularity > best_modularity:
                best_modularity, partition = modularity, refined.membership
    finally:
        igraph.set_random_number_generator(random)
    return number_by_size(np.asarray(partition, dtype=np.int64))


def number_by_size(partition_n: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return group numbers so that 0 is the largest group; of equal groups, the one with the first cell."""
    _, first, inverse, sizes = np.unique(
        partition_n, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((first, -sizes))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[inverse]
