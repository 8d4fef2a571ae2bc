"""Two sets of human blood cells that need no network: PBMC3k, which ships with this package, and one that scanpy ships.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell.data.normalize import TARGET_SUM

if TYPE_CHECKING:
    from anndata import AnnData

PBMC3K = Path(__file__).parent / "pbmc3k.h5ad"


def pbmc3k() -> AnnData:
    """Return the raw counts of 2,700 blood cells of a healthy donor (10x Genomics; Zheng et al. 2017; CC BY 4.0).

    Returns
    -------
    2,700 cells × 32,738 genes. X: UMI counts (CSR, float32). var["gene_ids"]: Ensembl ids. obs_names: barcodes. Nothing is filtered or
    normalized; `sp.pp.seurat(adata)` does both.

    Examples
    --------
    >>> sp.datasets.pbmc3k().shape
    (2700, 32738)
    """
    from anndata import read_h5ad

    return read_h5ad(PBMC3K)


def pbmc68k_reduced() -> AnnData:
    """Return 700 blood cells × 765 genes whose labels come from sorted populations, not from their expression.

    scanpy ships these cells log-normalized, with each cell's total over all genes. The counts are rebuilt as
    round(expm1(x) · total / 10,000). The function works offline. Source: 10x Genomics, Zheng et al. 2017 (68k PBMCs).

    Returns
    -------
    X: counts (CSR, float32). obs["cell_type"]: 10 sorted populations. obs["n_counts"]: the cell's total over all genes, not only the 765
    here. uns["source"]: where the data comes from.

    Examples
    --------
    >>> sp.datasets.pbmc68k_reduced().shape
    (700, 765)
    """
    import scanpy as sc
    from anndata import AnnData

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scanpy's file is in an old format
        shipped = sc.datasets.pbmc68k_reduced()
    totals_n = shipped.obs["n_counts"].to_numpy(dtype=np.float64)
    counts_ng = sparse.csr_matrix(shipped.raw.X, dtype=np.float64, copy=True)
    total_of_entry = np.repeat(totals_n, np.diff(counts_ng.indptr))
    counts_ng.data = np.rint(np.expm1(counts_ng.data) * total_of_entry / TARGET_SUM)
    counts_ng.eliminate_zeros()
    adata = AnnData(counts_ng.astype(np.float32))
    adata.obs_names, adata.var_names = shipped.obs_names.astype(str), shipped.raw.var_names.astype(str)
    adata.obs_names.name = adata.var_names.name = None
    adata.obs["cell_type"] = shipped.obs["bulk_labels"].to_numpy()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype("category")
    adata.obs["n_counts"] = totals_n
    adata.uns["source"] = (
        "700 of the 68k PBMCs of 10x Genomics (Zheng et al. 2017) as shipped with scanpy; counts rebuilt "
        "from log-normalized values, labels of sorted populations"
    )
    return adata
