"""Cells whose types are known because they were planted: what the tests of training need, made in a moment.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

N_TYPES = 4
QUICK = {"batch_size": 64, "epochs": 100, "learning_rate": 0.003}
"""Settings with which each model learns these cells in a second."""


def planted(n_cells=300, n_genes=120, seed=0):
    """Four types of cells with fifteen marker genes each; negative-binomial counts in X, LogNormalize in layers["lognorm"].

    obs["type"] is the type, obs["depth"] a number of the user's own; var["marked"] is true for the markers.
    """
    rng = np.random.default_rng(seed)
    types_n = rng.permutation(np.arange(n_cells) % N_TYPES)
    rate_ng = np.tile(rng.gamma(2.0, 0.4, size=n_genes), (n_cells, 1))
    for kind in range(N_TYPES):
        rate_ng[np.ix_(types_n == kind, np.arange(kind * 15, kind * 15 + 15))] += 6.0
    rate_ng *= rng.uniform(0.7, 1.4, size=(n_cells, 1))
    counts_ng = rng.poisson(rng.gamma(5.0, rate_ng / 5.0)).astype(np.float32)
    counts_ng[:, -1] += 1  # no cell is empty
    adata = ad.AnnData(
        sparse.csr_matrix(counts_ng),
        obs=pd.DataFrame(
            {"type": pd.Categorical([f"type {kind}" for kind in types_n]), "depth": counts_ng.sum(axis=1)},
            index=[f"cell{number}" for number in range(n_cells)],
        ),
        var=pd.DataFrame(
            {"marked": np.arange(n_genes) < 15 * N_TYPES},
            index=[f"gene{number}" for number in range(n_genes)],
        ),
    )
    adata.layers["lognorm"] = lognormalised(adata.X)
    adata.obsm["X_theirs"] = rng.normal(size=(n_cells, 2))
    adata.uns["theirs"] = {"note": "keep", "numbers": np.arange(3)}
    return adata


def lognormalised(counts_ng):
    """LogNormalize written out: log(1 + counts / total · 10,000)."""
    dense_ng = np.asarray(counts_ng.todense(), dtype=np.float64)
    return sparse.csr_matrix(
        np.log1p(dense_ng / dense_ng.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    )
