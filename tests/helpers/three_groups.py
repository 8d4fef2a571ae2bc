"""Cells in three simulated groups, for tests of preprocessing.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from sparcell import pp


def three_groups(n_cells=120, n_genes=60, seed=0):
    """Return counts of three groups of cells, each with ten genes of its own, and two mitochondrial genes; obs["group"] is the group."""
    rng = np.random.default_rng(seed)
    groups = np.arange(n_cells) % 3
    rate_ng = np.full((n_cells, n_genes), 0.5)
    for group in range(3):
        rate_ng[groups == group, group * 10 : group * 10 + 10] = 6
    adata = ad.AnnData(sparse.csr_matrix(rng.poisson(rate_ng).astype(np.float32)))
    adata.obs_names = [f"cell{i}" for i in range(n_cells)]
    adata.var_names = [f"g{i}" for i in range(n_genes - 2)] + ["MT-1", "mt-2"]
    adata.obs["group"] = pd.Categorical([str(group) for group in groups])
    return adata


def log_normalized_groups(**kwargs):
    """Return the three groups with layers["counts"], layers["lognorm"] and all genes marked as variable."""
    adata = three_groups(**kwargs)
    adata.layers["counts"] = adata.X.copy()
    pp.lognormalize(adata)
    pp.variable_genes(adata, n_top_genes=adata.n_vars)
    return adata
