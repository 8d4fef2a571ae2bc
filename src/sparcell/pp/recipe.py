"""From raw counts to named cell types, as Seurat's guided tutorial does it; scanpy does each step it has.

Suffixes: n cells, g genes, c clusters, t cell types, m marker genes.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.data.validation import require_kind
from sparcell.errors import InputError, did_you_mean
from sparcell.pp.graph import louvain, nearest_neighbors, shared_neighbors
from sparcell.pp.highly_variable import variable_genes
from sparcell.pp.markers import fits_table, name_by_markers, pbmc_markers, read_markers, table_order
from sparcell.pp.quality import MANY_REMOVED, count_nonzero, kept_cells, many_removed, quality_table
from sparcell.pp.slots import matrix_of, note, own_column, require_counts, require_same_counts

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from numpy.typing import NDArray


__all__ = [
    "cell_types",
    "cluster",
    "lognormalize",
    "name_clusters",
    "quality_control",
    "seurat",
    "variable_genes",
]

log = logging.getLogger("sparcell")

N_COMPONENTS = 50
"""Principal components kept in obsm["X_pca"], or fewer where there are fewer cells or genes."""

MIN_GENES = 200
"""Cells with this many genes or fewer go (Seurat's tutorial)."""

CLIP = 10.0
"""Scaled values are clipped here, in standard deviations (Seurat's ScaleData)."""


def quality_control(
    adata: AnnData,
    *,
    min_cells: int = 3,
    min_genes: int = MIN_GENES,
    max_genes: int | None = 2500,
    max_pct_mito: float | None = 5.0,
    mito_prefix: str = "MT-",
) -> pd.DataFrame:
    """Keep genes seen in enough cells, then cells with a sound number of genes and few mitochondrial counts.

    Parameters
    ----------
    adata
        Raw counts in X; filtered in place (X, layers, obs, var and all else together).
    min_cells
        Genes with a count in fewer cells go.
    min_genes, max_genes
        Cells stay with more than `min_genes` and fewer than `max_genes` of the kept genes (None: no limit),
    max_pct_mito
        and with less than this percentage (0 to 100) of counts on mitochondrial genes (None: no limit).
    mito_prefix
        How mitochondrial gene names begin, in upper or lower case (human MT-, mouse mt-).

    Returns
    -------
    All cells before filtering, indexed by barcode: n_genes and total_counts (over the kept genes), pct_mito
    (0 to 100), kept (bool).

    Raises
    ------
    InputError
        If X does not hold counts, or if no cell or gene would be left: `adata` is then unchanged.
    """
    require_counts(adata)
    gene_g = count_nonzero(adata.X, axis=0) >= min_cells
    if not gene_g.any():
        raise InputError(
            f"No gene has a count in {min_cells} of the {adata.n_obs} cells or more; expected some: give more "
            "cells, or lower min_cells of sp.pp.quality_control."
        )
    kept_ng = adata.X[:, np.flatnonzero(gene_g)]
    qc = quality_table(kept_ng, adata.var_names[gene_g], adata.obs_names, mito_prefix)
    limits = {"min_genes": min_genes, "max_genes": max_genes, "max_pct_mito": max_pct_mito}
    qc["kept"] = kept_cells(qc, limits)
    if qc["kept"].mean() < 1 - MANY_REMOVED:
        warnings.warn(many_removed(qc, limits), UserWarning, stacklevel=2)
    found = (qc["kept"].sum(), adata.n_obs, gene_g.sum(), adata.n_vars)
    log.info("quality control: %d of %d cells, %d of %d genes kept", *found)
    adata._inplace_subset_var(gene_g)
    adata._inplace_subset_obs(qc["kept"].to_numpy())
    return qc


def lognormalize(
    adata: AnnData, *, layer: str | None = None, key_added: str = "lognorm", target_sum: float = 1e4
) -> None:
    """Divide counts by the cell's total, multiply by `target_sum`, take log(1 + x) (Seurat's LogNormalize).

    Parameters
    ----------
    layer, key_added
        Layers: where the counts are (None: X), and the one to write.
    target_sum
        Total of each cell before the logarithm, in counts.

    Writes
    ------
    layers[key_added]
        CSR float32, n × g.

    Raises
    ------
    InputError
        If there is no such layer or it does not hold counts.
    """
    import scanpy as sc
    from anndata import AnnData

    from sparcell._utils.torch_runtime import calling_scanpy

    where, counts_ng = matrix_of(adata, layer)
    require_kind(counts_ng, "counts", where)
    work = AnnData(sparse.csr_matrix(counts_ng, dtype=np.float32, copy=True))
    with calling_scanpy():  # empty cells stay empty; whoever needs them full checks for it
        sc.pp.normalize_total(work, target_sum=target_sum)
        sc.pp.log1p(work)
    adata.layers[key_added] = sparse.csr_matrix(work.X)


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
    """Cluster cells as Seurat does: scale, PCA, shared-nearest-neighbour graph, Louvain.

    Needs layers["lognorm"] and var["highly_variable"]; X and layers are not changed. The same seed on the
    same machine gives the same clusters. Components are made in double precision, so that what processors and
    numbers of threads differ by, its last bits, hardly ever moves a cell.

    Parameters
    ----------
    n_pcs, n_neighbors
        Principal components the neighbours are found in, and how many, the cell itself included.
    prune
        Edges with a Jaccard index below are dropped.
    resolution
        Above: more clusters.
    n_starts, seed
        Random starts of Louvain, the best of which is kept (see `graph.louvain`), and their seed.

    Writes
    ------
    obsm["X_pca"], n × at most 50; obsp["snn"], CSR float32; obs["cluster"], categorical "0" (the largest),
    "1", …; uns["sparcell_pp"]["cluster"], the settings. A column `cluster` of the user's own stays: ours is
    then "sparcell_cluster"; uns["sparcell_pp"]["keys"]["cluster"] says which it is.

    Raises
    ------
    InputError
        If a step before is missing, a setting makes no sense, or there are under 3 cells or 2 variable genes.
    """
    settings: dict[str, float] = {"n_pcs": n_pcs, "n_neighbors": n_neighbors, "prune": prune}
    settings |= {"resolution": resolution, "n_starts": n_starts, "seed": seed}
    for name in ("n_pcs", "n_neighbors", "resolution", "n_starts"):
        if not settings[name] > 0:
            raise InputError(f"{name} is {settings[name]}; expected a number above 0.")
    if "highly_variable" not in adata.var:
        raise InputError("var has no column 'highly_variable'; run sp.pp.variable_genes(adata) first.")
    pca_nd = _principal_components(adata)
    if pca_nd.shape[1] < n_pcs:
        message = (
            f"{n_pcs} principal components were asked for and there are {pca_nd.shape[1]}: all are used."
        )
        warnings.warn(message, UserWarning, stacklevel=2)
    snn = shared_neighbors(nearest_neighbors(pca_nd[:, :n_pcs], n_neighbors), prune)
    numbers_n = louvain(snn, resolution, n_starts, seed)
    names = [str(number) for number in range(int(numbers_n.max()) + 1)]
    adata.obsm["X_pca"] = pca_nd
    adata.obsp["snn"] = snn
    column = own_column(adata, "cluster")
    adata.obs[column] = pd.Categorical.from_codes(numbers_n.tolist(), categories=pd.Index(names))
    note(adata, cluster=settings, keys={"cluster": column})
    log.info("%d clusters of %d cells", len(names), adata.n_obs)


def name_clusters(
    adata: AnnData,
    markers: pd.DataFrame | str | Path,
    *,
    cluster_key: str = "cluster",
    layer: str = "lognorm",
    key_added: str = "cell_type",
) -> pd.DataFrame:
    """Name each cluster after the cell type whose marker genes stand out most in it.

    A type's score in a cluster is the mean over its markers of the cluster mean of log-normalised expression,
    z-scored over clusters. The best score names the cluster if it is at least `markers.MIN_SCORE`; else it
    stays "cluster 5". Clusters with the same name are told apart, the larger first: "B", "B 2".

    Parameters
    ----------
    markers
        Table with columns cell_type and gene, or the path of such a CSV.
    cluster_key, key_added
        Columns of obs: the clusters, and the names to write.
    layer
        Where the log-normalised values are.

    Returns
    -------
    Scores, clusters × cell types, so that one can see why a cluster is called what it is called.

    Writes
    ------
    obs[key_added], categorical; uns["sparcell_pp"]["marker_scores"]: arrays "clusters" (c), "types" (t),
    "scores" (c × t), "names" (c).

    Raises
    ------
    InputError
        If the key, layer or table is not there or wrong, or none of the marker genes is in the data.
    """
    table = read_markers(markers)
    if cluster_key not in adata.obs:
        raise InputError(f"obs has no column {cluster_key!r}: {did_you_mean(cluster_key, adata.obs)}")
    _, lognorm_ng = matrix_of(adata, layer)
    groups = adata.obs[cluster_key].astype("category").cat.remove_unused_categories()
    scores, names = name_by_markers(lognorm_ng, adata.var_names, groups, table)
    chosen = groups.astype(str).map(names).where(groups.notna())
    adata.obs[key_added] = pd.Categorical(chosen, categories=table_order(names, table))
    table_of_scores = {
        "clusters": np.array(scores.index, dtype=object),
        "types": np.array(scores.columns, dtype=object),
        "scores": scores.to_numpy(dtype=float),
        "names": np.array([names[group] for group in scores.index], dtype=object),
    }
    note(adata, marker_scores=table_of_scores)
    return scores


def seurat(
    adata: AnnData,
    *,
    markers: pd.DataFrame | str | Path | None = None,
    n_top_genes: int = 2000,
    resolution: float = 0.5,
    max_genes: int | None = 2500,
    max_pct_mito: float | None = 5.0,
    seed: int = 0,
) -> pd.DataFrame:
    """Run the whole recipe of Seurat's PBMC tutorial: quality control to named cell types.

    `quality_control`, `lognormalize`, `variable_genes`, `cluster`, `name_clusters` in this order, with their
    defaults for whatever is no parameter here; call them one by one to change more.

    Parameters
    ----------
    adata
        Raw counts in X; cells and genes are filtered in place.
    markers
        Table or CSV path as for `name_clusters`. None: the package's table of blood cell types if the data
        look like blood (see `markers.fits_table`), else clusters keep their numbers.
    n_top_genes, resolution, max_genes, max_pct_mito, seed
        As in the steps.

    Returns
    -------
    The quality control table of all cells, as from `quality_control`.

    Writes
    ------
    layers["counts"] (CSR float32; X keeps the counts too), layers["lognorm"], var["highly_variable"],
    obsm["X_pca"], obsp["snn"], obs["cluster"], obs["cell_type"], uns["sparcell_pp"]. Columns of these names
    that the user has stay: ours are then "sparcell_cluster" and "sparcell_cell_type", as
    uns["sparcell_pp"]["keys"] says.

    Raises
    ------
    InputError
        As the steps do; before anything is changed where it can be known then.
    """
    require_counts(adata)
    require_same_counts(adata)
    table = None if markers is None else read_markers(markers)
    qc = quality_control(adata, max_genes=max_genes, max_pct_mito=max_pct_mito)
    cell_types(adata, markers=table, n_top_genes=n_top_genes, resolution=resolution, seed=seed)
    return qc


def cell_types(
    adata: AnnData,
    *,
    markers: pd.DataFrame | str | Path | None = None,
    n_top_genes: int = 2000,
    batch_key: str | None = None,
    resolution: float = 0.5,
    seed: int = 0,
) -> None:
    """Take counts that passed quality control to named cell types: `seurat` without its first step.

    `batch_key` names a column of obs within whose batches the variable genes are chosen (see
    `variable_genes`); clusters are found in all cells together. Other parameters, what is written and errors as
    for `seurat`.
    """
    require_counts(adata)
    require_same_counts(adata)
    table = None if markers is None else read_markers(markers)
    adata.layers["counts"] = sparse.csr_matrix(adata.X, dtype=np.float32, copy=True)
    lognormalize(adata, layer="counts")
    variable_genes(adata, n_top_genes=n_top_genes, batch_key=batch_key)
    cluster(adata, resolution=resolution, seed=seed)
    if table is None and fits_table(adata.layers["lognorm"], adata.var_names, pbmc_markers()):
        table = pbmc_markers()
    clusters = adata.uns["sparcell_pp"]["keys"]["cluster"]
    column = own_column(adata, "cell_type")
    if table is None:
        log.info("the marker table of blood cells does not fit these data: clusters keep their numbers")
        adata.obs[column] = adata.obs[clusters].cat.rename_categories(lambda name: f"cluster {name}")
    else:
        name_clusters(adata, table, cluster_key=clusters, key_added=column)
    note(adata, keys={"cell_type": column})


def _principal_components(adata: AnnData) -> NDArray[np.float32]:
    """Scale the variable genes (mean 0, sd 1, clipped) and give up to `N_COMPONENTS` coordinates a cell.

    In double precision, and exactly: clusters of nearly the same modularity are decided by the last bits of single precision, which
    differ from processor to processor and with the number of threads.
    """
    import scanpy as sc
    from anndata import AnnData

    from sparcell._utils.torch_runtime import calling_scanpy

    _, lognorm_ng = matrix_of(adata, "lognorm")
    chosen_g = np.flatnonzero(adata.var["highly_variable"].to_numpy(dtype=bool))
    if adata.n_obs < 3 or len(chosen_g) < 2:
        raise InputError(
            f"There are {adata.n_obs} cells and {len(chosen_g)} variable genes; expected at least 3 and 2 to "
            "find clusters in: give more data or relax the limits of quality control."
        )
    chosen_nh = lognorm_ng[:, chosen_g].astype(np.float64)  # a copy, which is scaled in place
    work = AnnData(chosen_nh.toarray() if sparse.issparse(chosen_nh) else chosen_nh)
    with calling_scanpy():
        sc.pp.scale(work, max_value=CLIP)
        n_comps = min(N_COMPONENTS, min(work.shape) - 1)
        sc.pp.pca(work, n_comps=n_comps, svd_solver="covariance_eigh")
    return np.asarray(work.obsm["X_pca"], dtype=np.float32)
