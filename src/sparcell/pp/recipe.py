"""Seurat's guided PBMC tutorial as one call: from raw counts to named cell types."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell._utils import progress
from sparcell.config.genes import DEFAULT_FLAVOR, Flavor
from sparcell.pp.clustering import cluster, name_clusters
from sparcell.pp.highly_variable import variable_genes
from sparcell.pp.markers import fits_table, pbmc_markers, read_markers
from sparcell.pp.normalization import lognormalize
from sparcell.pp.quality import quality_control
from sparcell.pp.slots import (
    UNS_KEY,
    drop_other_features,
    free_column,
    record_in_uns,
    require_counts,
    require_same_counts,
    take_into_memory,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from anndata import AnnData

log = logging.getLogger("sparcell")


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
    """Filter cells and genes, then normalize, cluster and name the cells, as in Seurat's PBMC tutorial.

    Calls `quality_control`, and `cell_types` with Seurat's own variable genes (flavor seurat_v3). Call the steps of
    `sp.pp` one by one to set more of their options. Each step is a line on stderr;
    ``logging.getLogger("sparcell").setLevel("WARNING")`` hides these lines.

    Parameters
    ----------
    adata
        Raw counts in X. Cells and genes are filtered in place.
    markers
        Table of marker genes, or the path of a CSV, as for `name_clusters`. Default: the package's table of blood cell
        types if the data look like blood; otherwise clusters keep their numbers.
    n_top_genes, resolution, max_genes, max_pct_mito, seed
        See `variable_genes`, `cluster` and `quality_control`.

    Returns
    -------
    The table of `quality_control`, with all cells before filtering. What is written to `adata`: see `cell_types`.

    Raises
    ------
    InputError
        If X does not hold raw counts, layers["counts"] differs from X, or a step raises. Counts and `markers` are
        checked before `adata` is changed.

    Examples
    --------
    >>> adata = sp.datasets.pbmc3k()
    >>> qc = sp.pp.seurat(adata)
    >>> adata.obs["cell_type"].value_counts()
    """
    with progress.messages():
        log.info("quality control of %s cells", f"{adata.n_obs:,}")
        require_counts(adata)
        require_same_counts(adata)
        table = None if markers is None else read_markers(markers)
        qc = quality_control(
            adata,
            min_genes=200,
            max_genes=max_genes or 0,
            max_pct_mito=100 if max_pct_mito is None else max_pct_mito,
        )
        cell_types(
            adata,
            markers=table,
            n_top_genes=n_top_genes,
            flavor="seurat_v3",
            resolution=resolution,
            seed=seed,
        )
    return qc


def cell_types(
    adata: AnnData,
    *,
    markers: pd.DataFrame | str | Path | None = None,
    n_top_genes: int = 2000,
    flavor: Flavor = DEFAULT_FLAVOR,
    batch_key: str | None = None,
    resolution: float = 0.5,
    seed: int = 0,
) -> None:
    """Normalize, cluster and name cells that passed quality control: `seurat` without its first step.

    Parameters
    ----------
    adata
        Raw counts in X. Features that are not gene expression are removed.
    markers, n_top_genes, resolution, seed
        As for `seurat`.
    flavor
        How variable genes are chosen: see `variable_genes`.
    batch_key
        Column of obs; variable genes are chosen within its batches (see `variable_genes`). All cells are clustered
        together.

    Returns
    -------
    None. Writes layers["counts"] (CSR float32), layers["lognorm"], var["highly_variable"] and its rank, obsm["X_pca"],
    obsp["snn"], obs["cluster"], obs["cell_type"] and uns["sparcell_pp"]. If the user has a column "cluster" or
    "cell_type", that column is not changed; the new one is called "sparcell_cluster" or "sparcell_cell_type", as
    uns["sparcell_pp"]["keys"] says.

    Raises
    ------
    InputError
        As for `seurat`.

    Examples
    --------
    >>> sp.pp.quality_control(adata, max_genes=6000, max_pct_mito=10)
    >>> sp.pp.cell_types(adata, markers="markers.csv", batch_key="donor")
    """
    with progress.messages():
        require_counts(adata)
        require_same_counts(adata)
        table = None if markers is None else read_markers(markers)
        take_into_memory(adata)
        drop_other_features(adata)
        normalize_and_cluster(
            adata,
            n_top_genes=n_top_genes,
            flavor=flavor,
            batch_key=batch_key,
            resolution=resolution,
            seed=seed,
        )
        if table is None and fits_table(adata.layers["lognorm"], adata.var_names, pbmc_markers()):
            table = pbmc_markers()
        cluster_key = adata.uns[UNS_KEY]["keys"]["cluster"]
        column = free_column(adata, "cell_type")
        if table is None:
            log.info("the markers of blood cells do not suit these data: clusters keep their numbers")
            adata.obs[column] = adata.obs[cluster_key].cat.rename_categories(lambda name: f"cluster {name}")
        else:
            name_clusters(adata, table, cluster_key=cluster_key, key_added=column)
        record_in_uns(adata, keys={"cell_type": column})


def normalize_and_cluster(
    adata: AnnData,
    *,
    n_top_genes: int = 2000,
    flavor: Flavor = DEFAULT_FLAVOR,
    batch_key: str | None = None,
    resolution: float = 0.5,
    seed: int = 0,
) -> None:
    """Normalize and cluster cells that passed quality control: `cell_types` without the names. X holds raw counts."""
    require_counts(adata)
    require_same_counts(adata)
    log.info("normalizing the counts of %s cells", f"{adata.n_obs:,}")
    adata.layers["counts"] = sparse.csr_matrix(adata.X, dtype=np.float32, copy=True)
    lognormalize(adata, layer="counts")
    log.info("choosing variable genes")
    variable_genes(adata, n_top_genes=n_top_genes, flavor=flavor, batch_key=batch_key)
    log.info("clustering")
    cluster(adata, resolution=resolution, seed=seed)
