"""Simulated cells of four known types, with and without batches, and settings that learn them in a second.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

N_TYPES = 4
QUICK = {"batch_size": 64, "epochs": 100, "learning_rate": 0.003}
"""Settings with which each model learns these cells in a second from log-normalized values."""
COUNTS = {
    **QUICK,
    "epochs": 40,
    "learning_rate": 0.01,
    "n_latent": 6,
    "encoder_widths": (32,),
    "decoder_widths": (32,),
    "head_width": 0,
    "normalization": "layer",
    "standardize_input": True,
    "input_dropout": 0.1,
    "dropout": 0.1,
    "lr_schedule": "constant",
    "validation_fraction": 0.0,
    "early_stopping_tolerance": 0.0,
    "early_stopping_patience": 0,
    "kl_warmup_fraction": 0.0,
    "max_grad_norm": 5.0,
    "beta": 1.0,
    "n_prior_components": 3,
}
"""Settings for counts, independent of the defaults; each model takes those that it has."""


def simulated_cells(n_cells=300, n_genes=120, seed=0):
    """Return four types of cells with fifteen marker genes each.

    X: negative-binomial counts. layers["lognorm"]: log-normalized counts. obs["type"]: the type. obs["depth"]: an unrelated number.
    var["marked"]: true for the marker genes. obsm["X_other"] and uns["other"]: entries that sparcell must not change.
    """
    rng = np.random.default_rng(seed)
    types_n = rng.permutation(np.arange(n_cells) % N_TYPES)
    rate_ng = np.tile(rng.gamma(2.0, 0.4, size=n_genes), (n_cells, 1))
    for number in range(N_TYPES):
        rate_ng[np.ix_(types_n == number, np.arange(number * 15, number * 15 + 15))] += 6.0
    rate_ng *= rng.uniform(0.7, 1.4, size=(n_cells, 1))
    counts_ng = rng.poisson(rng.gamma(5.0, rate_ng / 5.0)).astype(np.float32)
    counts_ng[:, -1] += 1  # no cell is empty
    adata = ad.AnnData(
        sparse.csr_matrix(counts_ng),
        obs=pd.DataFrame(
            {
                "type": pd.Categorical([f"type {number}" for number in types_n]),
                "depth": counts_ng.sum(axis=1),
            },
            index=[f"cell{number}" for number in range(n_cells)],
        ),
        var=pd.DataFrame(
            {"marked": np.arange(n_genes) < 15 * N_TYPES},
            index=[f"gene{number}" for number in range(n_genes)],
        ),
    )
    adata.layers["lognorm"] = lognormalized(adata.X)
    adata.obsm["X_other"] = rng.normal(size=(n_cells, 2))
    adata.uns["other"] = {"note": "keep", "numbers": np.arange(3)}
    return adata


def two_batches(n_cells=400, n_affected=40, seed=0):
    """Return simulated cells in two batches: in batch b the last `n_affected` genes, which mark no type, have five times the counts.

    obs["batch"] is independent of the type.
    """
    adata = simulated_cells(n_cells, seed=seed)
    rng = np.random.default_rng([seed, 1])
    in_batch_b_n = rng.uniform(size=n_cells) < 0.5
    counts_ng = adata.X.toarray()
    extra_ng = rng.poisson(4 * counts_ng[:, -n_affected:])
    counts_ng[:, -n_affected:] += np.where(in_batch_b_n[:, None], extra_ng, 0)
    adata.X = sparse.csr_matrix(counts_ng)
    adata.layers["lognorm"] = lognormalized(adata.X)
    adata.obs["batch"] = pd.Categorical(np.where(in_batch_b_n, "b", "a"))
    return adata


def lognormalized(counts_ng):
    """Return log(1 + counts / total · 10,000), written out."""
    dense_ng = np.asarray(counts_ng.todense(), dtype=np.float64)
    return sparse.csr_matrix(
        np.log1p(dense_ng / dense_ng.sum(axis=1, keepdims=True) * 1e4).astype(np.float32)
    )
