"""Ranks of genes in one batch: the sparse formula of Pearson residuals beside the plain one and scanpy's."""

from __future__ import annotations

import numpy as np
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse

from sparcell.pp.gene_ranks import THETA, pearson_rank, pearson_variances


def counts(n_cells=300, n_genes=80, seed=0):
    """Genes and cells with very different totals; the last two genes have no counts."""
    rng = np.random.default_rng(seed)
    rate_g, depth_n = np.exp(rng.uniform(-6, 4, size=n_genes)), np.exp(rng.uniform(-1, 2, size=n_cells))
    rate_g[-2:] = 0
    return rng.negative_binomial(2, 1 / (1 + np.outer(depth_n, rate_g) / 2)).astype(np.float32)


def plain(counts_ng):
    """Variances of clipped Pearson residuals over the full matrix."""
    counts_ng = counts_ng[counts_ng.sum(axis=1) > 0].astype(np.float64)
    mu_ng = np.outer(counts_ng.sum(axis=1), counts_ng.sum(axis=0)) / counts_ng.sum()
    with np.errstate(invalid="ignore"):
        residual_ng = np.nan_to_num((counts_ng - mu_ng) / np.sqrt(mu_ng + mu_ng**2 / THETA))
    clip = np.sqrt(len(counts_ng))
    return np.clip(residual_ng, -clip, clip).var(axis=0)


@pytest.mark.parametrize(("n_cells", "error"), [(30, 1e-3), (300, 1e-6)])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_pearson_variances_equal_those_of_the_full_matrix(form, n_cells, error):
    counts_ng = counts(n_cells)
    np.testing.assert_allclose(pearson_variances(form(counts_ng)), plain(counts_ng), rtol=error, atol=1e-9)


def test_pearson_variances_equal_scanpy_s():
    adata = AnnData(sparse.csr_matrix(counts()))
    table = sc.experimental.pp.highly_variable_genes(
        adata, flavor="pearson_residuals", n_top_genes=10, theta=THETA, inplace=False
    )
    np.testing.assert_allclose(pearson_variances(adata.X), table["residual_variances"], rtol=1e-4, atol=1e-6)


def test_cells_without_counts_and_stored_zeros_change_nothing():
    counts_ng = counts()
    more_ng = sparse.csr_matrix(np.vstack([counts_ng, np.zeros((5, 80), dtype=np.float32)]))
    rows, columns = more_ng.nonzero()
    more_ng = sparse.coo_array(
        (np.append(more_ng.data, [0, 0]), (np.append(rows, [0, 304]), np.append(columns, [0, 79])))
    )  # stores two zeros
    np.testing.assert_allclose(pearson_variances(more_ng), pearson_variances(counts_ng), rtol=1e-9)


def test_ranks_start_at_0_with_the_most_variable_gene_and_end_with_genes_without_counts():
    counts_ng = counts()
    rank_g = pearson_rank(sparse.csr_matrix(counts_ng))
    assert sorted(rank_g) == list(range(80))
    assert rank_g[np.argmax(plain(counts_ng))] == 0
    assert set(rank_g[-2:]) == {78, 79}
