"""Clusters of cells as in Seurat, and their names.

Suffixes: n cells, g genes, h highly variable genes, d dimensions, c clusters, t cell types.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.errors import InputError, did_you_mean
from sparcell.pp.graph import louvain, nearest_neighbors, shared_neighbors
from sparcell.pp.markers import name_by_markers, read_markers, table_order
from sparcell.pp.slots import checked_matrix, free_column, record_in_uns

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray

log = logging.getLogger("sparcell")

N_COMPONENTS = 50
"""Number of principal components in obsm["X_pca"], if there are enough cells and genes."""

MAX_ZSCORE = 10.0
"""z-scores are cut here, as in Seurat's ScaleData."""


def cluster(
    adata: AnnData,
    *,
    n_pcs: int = 10,
    n_neighbors: int = 20,
    prune: float = 1 / 15,
    resolution: float = 0.5,
    n_starts: int = 10,
    seed: int = 0,
) -> None:
    """Cluster cells as Seurat does: z-scores, PCA, shared-nearest-neighbor graph, Louvain.

    Needs layers["lognorm"] and var["highly_variable"]. X and layers do not change. The same seed gives the same clusters.

    Parameters
    ----------
    n_pcs, n_neighbors
        Number of principal components, and of neighbors (with the cell itself) in their space.
    prune
        Smallest Jaccard index of an edge of the graph.
    resolution
        A higher value gives more clusters.
    n_starts, seed
        Number of random starts of Louvain, and their seed. The best start is taken.

    Returns
    -------
    None. Writes obsm["X_pca"], n × at most 50; obsp["snn"], CSR float32; obs["cluster"], categorical, "0" the largest;
    and settings in uns["sparcell_pp"]. If the user has a column "cluster", the new one is "sparcell_cluster".

    Raises
    ------
    InputError
        If an input is missing, a setting is not above 0, or there are fewer than 3 cells or 2 variable genes.

    Examples
    --------
    >>> sp.pp.cluster(adata, resolution=1.0)
    >>> adata.obs["cluster"].value_counts()
    """
    _check_settings(n_pcs=n_pcs, n_neighbors=n_neighbors, resolution=resolution, n_starts=n_starts)
    pca_nd = _principal_components(adata)
    if pca_nd.shape[1] < n_pcs:
        message = (
            f"n_pcs is {n_pcs}, but there are only {pca_nd.shape[1]} principal components: all are used."
        )
        warnings.warn(message, UserWarning, stacklevel=2)
    snn = shared_neighbors(nearest_neighbors(pca_nd[:, :n_pcs], n_neighbors), prune)
    cluster_n = louvain(snn, resolution, n_starts, seed)
    names = [str(number) for number in range(int(cluster_n.max()) + 1)]
    adata.obsm["X_pca"] = pca_nd
    adata.obsp["snn"] = snn
    column = free_column(adata, "cluster")
    adata.obs[column] = pd.Categorical.from_codes(cluster_n.tolist(), categories=pd.Index(names))
    settings: dict[str, float] = {"n_pcs": n_pcs, "n_neighbors": n_neighbors, "prune": prune}
    settings |= {"resolution": resolution, "n_starts": n_starts, "seed": seed}
    record_in_uns(adata, cluster=settings, keys={"cluster": column})
    log.info("%d Louvain clusters of %s cells", len(names), f"{adata.n_obs:,}")


def _check_settings(**settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise InputError(f"{name} is {value}; expected a number above 0.")


def _principal_components(adata: AnnData) -> NDArray[np.float32]:
    """Return up to `N_COMPONENTS` principal components of the z-scores of the highly variable genes, (n, d).

    The computation is exact and in double precision. The last bits of single precision differ between processors and
    numbers of threads, and they decide between clusters of nearly equal modularity.
    """
    import scanpy as sc
    from anndata import AnnData

    from sparcell._utils.torch_runtime import calling_scanpy

    if "highly_variable" not in adata.var:
        raise InputError("var has no column 'highly_variable'; run sp.pp.variable_genes(adata) first.")
    _, lognorm_ng = checked_matrix(adata, "lognorm")
    column_h = np.flatnonzero(adata.var["highly_variable"].to_numpy(dtype=bool))
    if adata.n_obs < 3 or len(column_h) < 2:
        raise InputError(
            f"There are {adata.n_obs} cells and {len(column_h)} variable genes; expected at least 3 and 2 to "
            "cluster: give more data, or relax the limits of quality control."
        )
    x_nh = lognorm_ng[:, column_h].astype(np.float64)  # a copy, which is scaled in place
    work = AnnData(x_nh.toarray() if sparse.issparse(x_nh) else x_nh)
    with calling_scanpy():
        sc.pp.scale(work, max_value=MAX_ZSCORE)
        n_comps = min(N_COMPONENTS, min(work.shape) - 1)
        sc.pp.pca(work, n_comps=n_comps, svd_solver="covariance_eigh")
    return np.asarray(work.obsm["X_pca"], dtype=np.float32)


def name_clusters(
    adata: AnnData,
    markers: pd.DataFrame | str | Path,
    *,
    cluster_key: str = "cluster",
    layer: str = "lognorm",
    key_added: str = "cell_type",
) -> pd.DataFrame:
    """Name each cluster after the cell type whose marker genes have the highest mean z-score in the cluster.

    The z-score of a gene is its mean log-normalized expression in the cluster, standardized over clusters. The type with
    the highest score names the cluster if the score is at least 0.5; otherwise the name is "cluster 5". Clusters with
    the same type are numbered, the larger first: "B", "B 2". A number after the word cluster is that of the cluster; any
    other number counts the clusters of a type.

    Parameters
    ----------
    adata
        n cells with clusters and log-normalized expression.
    markers
        Table with columns cell_type and gene, or the path of such a CSV file.
    cluster_key
        Column of obs with the clusters.
    layer
        Layer with the log-normalized expression.
    key_added
        Column of obs to write.

    Returns
    -------
    Scores, clusters × cell types. Writes obs[key_added], categorical, and uns["sparcell_pp"]["marker_scores"]: arrays
    "clusters" (c), "types" (t), "scores" (c × t) and "names" (c).

    Raises
    ------
    InputError
        If the column, layer or table does not exist or is malformed, or no marker gene is in the data.

    Examples
    --------
    >>> markers = pd.DataFrame({"cell_type": ["B", "T"], "gene": ["MS4A1", "CD3E"]})
    >>> scores = sp.pp.name_clusters(adata, markers)
    """
    table = read_markers(markers)
    if cluster_key not in adata.obs:
        raise InputError(f"obs has no column {cluster_key!r}: {did_you_mean(cluster_key, adata.obs)}")
    _, lognorm_ng = checked_matrix(adata, layer)
    clusters = adata.obs[cluster_key].astype("category").cat.remove_unused_categories()
    scores, names = name_by_markers(lognorm_ng, adata.var_names, clusters, table)
    names_n = clusters.astype(str).map(names).where(clusters.notna())
    adata.obs[key_added] = pd.Categorical(names_n, categories=table_order(names, table))
    record_in_uns(
        adata,
        marker_scores={
            "clusters": np.array(scores.index, dtype=object),
            "types": np.array(scores.columns, dtype=object),
            "scores": scores.to_numpy(dtype=float),
            "names": np.array([names[name] for name in scores.index], dtype=object),
        },
    )
    return scores
