"""The data sets are complete, offline, and hold counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell import datasets
from sparcell.data.validation import check_matrix, infer_matrix_kind
from sparcell.pp.markers import pbmc_markers

SEURAT_TYPES = [
    "Naive CD4 T",
    "CD14+ Mono",
    "Memory CD4 T",
    "B",
    "CD8 T",
    "FCGR3A+ Mono",
    "NK",
    "DC",
    "Platelet",
]


def test_pbmc3k_is_raw_and_complete():
    adata = datasets.pbmc3k()
    assert adata.shape == (2700, 32738)
    assert isinstance(adata.X, sparse.csr_matrix)
    assert adata.X.dtype == np.float32
    assert infer_matrix_kind(adata.X) == "counts"
    assert int(adata.X.sum(dtype=np.float64)) == 6390631  # as 10x Genomics counted
    assert adata.obs_names.is_unique
    assert adata.var_names.is_unique
    assert "CC BY 4.0" in (Path(datasets.__file__).parent / "README.md").read_text()


def test_pbmc68k_counts_reproduce_the_shipped_values():
    import scanpy as sc

    adata = datasets.pbmc68k_reduced()
    check_matrix(adata.X, "X", allow_empty_cells=False)
    assert adata.shape == (700, 765)
    assert infer_matrix_kind(adata.X) == "counts"
    assert adata.obs["cell_type"].nunique() == 10
    shipped = sc.datasets.pbmc68k_reduced()
    assert (adata.obs["cell_type"].astype(str) == shipped.obs["bulk_labels"].astype(str)).all()
    again = np.log1p(adata.X.toarray() / adata.obs["n_counts"].to_numpy()[:, None] * 1e4)
    # scanpy's values are rounded to three digits.
    assert np.abs(again - shipped.raw.X.toarray()).max() < 0.002


def test_marker_table_names_the_nine_types_of_the_tutorial():
    table = pbmc_markers()
    assert list(dict.fromkeys(table["cell_type"])) == SEURAT_TYPES
    assert table.groupby("cell_type").size().min() >= 3
    in_pbmc3k = table["gene"].isin(datasets.pbmc3k().var_names)
    assert in_pbmc3k.mean() > 0.9
    assert pd.unique(table["gene"]).size == len(table)  # no gene stands for two types
