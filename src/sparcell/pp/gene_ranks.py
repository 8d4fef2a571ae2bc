"""Ranks of genes within one batch, by Seurat's vst and by the variance of Pearson residuals.

Suffixes: n cells, g genes, i stored values of a sparse matrix, p points of a grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.data.blocks import Matrix

    Floats = NDArray[np.float64]

LOESS_SPANS = (0.3, 0.5, 1.0)
"""Fractions of the genes in the window of the loess of variance on mean: Seurat's, then wider ones if the fit fails."""

MIN_MEANS = 10
"""Number of different gene means that the loess needs. With three or fewer, its compiled code reads outside of its arrays."""

THETA = 100.0
"""Overdispersion parameter of the Pearson residuals' negative binomial, as in Lause et al. 2021."""

N_GRID = 200
"""Number of points of the spline in `pearson_variances`.

Its error is below one part in a million, and below one in a thousand if fewer than 100 cells bring the clipping into its range.
"""


def vst_rank(counts_ng: Matrix) -> Floats | None:
    """Return the rank of each gene by standardized variance, (g,), 0 the most variable; None if the loess cannot be fitted.

    Seurat's vst (Stuart et al. 2019), by scanpy's seurat_v3.
    """
    import scanpy as sc
    from anndata import AnnData

    from sparcell._utils.torch_runtime import calling_scanpy

    if _different_means(counts_ng) < MIN_MEANS:
        return None
    work = AnnData(sparse.csr_matrix(counts_ng) if sparse.issparse(counts_ng) else counts_ng)
    for span in LOESS_SPANS:
        try:
            with calling_scanpy():
                table = sc.pp.highly_variable_genes(
                    work,
                    n_top_genes=work.n_vars,
                    flavor="seurat_v3",
                    span=span,
                    inplace=False,
                    check_values=False,
                )
        except ValueError:  # skmisc's loess, if few cells give few different means
            continue
        return np.asarray(table["highly_variable_rank"], dtype=np.float64)
    return None


def pearson_rank(counts_ng: Matrix) -> Floats:
    """Return the rank of each gene by the variance of its Pearson residuals, (g,), 0 the most variable."""
    order_g = np.argsort(-pearson_variances(counts_ng), kind="stable")
    rank_g = np.empty(len(order_g))
    rank_g[order_g] = np.arange(len(order_g))
    return rank_g


def pearson_variances(counts_ng: Matrix) -> Floats:
    """Return the variance over cells of each gene's Pearson residuals, (g,).

    The residual is (x - mu) / sqrt(mu + mu² / THETA), clipped to ± sqrt(n), with mu the cell's total times the gene's fraction of all
    counts (Lause, Berens & Kobak 2021). Only stored values are visited: the residual of a zero depends on mu alone, so its sum over
    cells is a smooth function of the gene's fraction, which is computed on a grid and interpolated. Cells without counts are left out.
    """
    from scipy.interpolate import CubicSpline

    stored = sparse.coo_matrix(counts_ng)
    value_i = stored.data.astype(np.float64)
    total_n = np.bincount(stored.row, weights=value_i, minlength=stored.shape[0])
    fraction_g = np.bincount(stored.col, weights=value_i, minlength=stored.shape[1]) / total_n.sum()
    cell_n = total_n[total_n > 0]
    variance_g = np.zeros(len(fraction_g))
    found_g = fraction_g > 0
    clip = np.sqrt(len(cell_n))

    log_g = np.log(fraction_g[found_g])
    grid_p = np.linspace(log_g.min() - 1e-3, log_g.max() + 1e-3, N_GRID)
    zeros = [_residual(0.0, np.exp(point) * cell_n, clip) for point in grid_p]
    sums_p = np.array([residual_n.sum() for residual_n in zeros])
    squares_p = np.array([(residual_n**2).sum() for residual_n in zeros])

    mu_i = total_n[stored.row] * fraction_g[stored.col]
    value_i, mu_i, gene_i = value_i[mu_i > 0], mu_i[mu_i > 0], stored.col[mu_i > 0]
    residual_i, zero_i = _residual(value_i, mu_i, clip), _residual(0.0, mu_i, clip)
    n_genes = len(fraction_g)
    sum_g = np.bincount(gene_i, weights=residual_i - zero_i, minlength=n_genes)[found_g]
    square_g = np.bincount(gene_i, weights=residual_i**2 - zero_i**2, minlength=n_genes)[found_g]
    sum_g -= np.exp(CubicSpline(grid_p, np.log(-sums_p))(log_g))
    square_g += np.exp(CubicSpline(grid_p, np.log(squares_p))(log_g))
    variance_g[found_g] = square_g / len(cell_n) - (sum_g / len(cell_n)) ** 2
    return variance_g


def _residual(value_i: Floats | float, mu_i: Floats, clip: float) -> Floats:
    return np.clip((value_i - mu_i) / np.sqrt(mu_i + mu_i**2 / THETA), -clip, clip)


def _different_means(counts_ng: Matrix) -> int:
    """Return the number of different means of the genes that vary. Only those enter the loess."""
    min_g, max_g = counts_ng.min(axis=0), counts_ng.max(axis=0)
    if sparse.issparse(counts_ng):
        min_g, max_g = min_g.toarray(), max_g.toarray()
    sum_g = np.asarray(counts_ng.sum(axis=0), dtype=np.float64).ravel()
    return len(np.unique(sum_g[(min_g != max_g).ravel()]))
