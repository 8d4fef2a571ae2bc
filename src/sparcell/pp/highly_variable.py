"""Highly variable genes, in all cells or within batches: Seurat's vst, by scanpy's seurat_v3.

Suffixes: n cells, g genes, b batches.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell.data.validation import require_kind
from sparcell.errors import InputError, did_you_mean, format_settings
from sparcell.pp.slots import checked_matrix

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.values import Matrix

log = logging.getLogger("sparcell")

LOESS_SPANS = (0.3, 0.5, 1.0)
"""Fractions of the genes in the window of the loess of variance on mean: Seurat's, then wider ones if the fit fails."""

MIN_MEANS = 10
"""Number of different gene means that the loess needs. With three or fewer, its compiled code reads outside of its arrays."""

MIN_BATCH_CELLS = 30
"""Smaller batches have no vote. In few cells the ranks of genes are mostly chance, and every batch has one vote."""


def variable_genes(
    adata: AnnData, *, n_top_genes: int = 2000, layer: str | None = None, batch_key: str | None = None
) -> None:
    """Mark the genes whose variance exceeds what their mean explains, in var["highly_variable"].

    The method is Seurat's vst, by scanpy's seurat_v3. With `batch_key`, genes are ranked within each batch, so that
    differences between batches are not taken for biology. The genes among the first `n_top_genes` of most batches are
    chosen; ties are broken by the median rank over these batches (Stuart et al. 2019; scanpy's seurat_v3_paper). Each
    batch has one vote, whatever its size. A batch has no vote if it has fewer than 30 cells, or if the loess of
    variance on mean cannot be fitted; a warning names such batches. X and layers do not change.

    Parameters
    ----------
    adata
        n cells × g genes with raw counts.
    n_top_genes
        Number of genes to mark. If the data have fewer genes, all are marked, with a warning.
    layer
        Layer with the raw counts. Default: layers["counts"] if it exists, otherwise X.
    batch_key
        Column of obs with the batch of each cell. Default: all cells are one batch.

    Returns
    -------
    None. Writes var["highly_variable"], boolean, and var["highly_variable_rank"], 0 the most variable: with batches
    the median rank; missing for genes that are among the first `n_top_genes` of no batch. With `batch_key` also
    var["highly_variable_nbatches"], the number of batches with the gene among the first `n_top_genes`. Without, an
    older column of that name is removed.

    Raises
    ------
    InputError
        If the layer or the column does not exist, the layer does not hold counts, a cell has no batch, or the loess
        cannot be fitted. With batches: if batches without a vote hold more than half of the cells.

    Examples
    --------
    >>> sp.pp.variable_genes(adata, n_top_genes=2000, batch_key="donor")
    >>> model = sp.BetaVSC().fit(adata, genes_key="highly_variable", batch_key="donor")
    """
    if layer is None and "counts" in adata.layers:
        layer = "counts"
    where, counts_ng = checked_matrix(adata, layer)
    require_kind(counts_ng, "counts", where)
    if n_top_genes < 1:
        raise InputError(f"n_top_genes is {n_top_genes}; expected 1 or more.")
    batches = {} if batch_key is None else batches_of(adata.obs, batch_key)
    if adata.n_vars < n_top_genes:
        message = f"n_top_genes is {n_top_genes}, but the data have {adata.n_vars} genes: all are marked."
        warnings.warn(message, UserWarning, stacklevel=2)
    chosen_g, rank_g, votes_g = _choose(counts_ng, batches, n_top_genes)
    adata.var["highly_variable"] = chosen_g
    adata.var["highly_variable_rank"] = rank_g
    adata.var.drop(columns="highly_variable_nbatches", errors="ignore", inplace=True)
    if batch_key is not None:
        adata.var["highly_variable_nbatches"] = votes_g


def _choose(
    counts_ng: Matrix, batches: dict[str, NDArray[np.int64]], n_top_genes: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """Return the mask of the chosen genes, their ranks, and the number of batches that vote for each gene, (g,) each."""
    n_genes = counts_ng.shape[1]
    if n_genes <= n_top_genes:
        return np.ones(n_genes, dtype=bool), np.full(n_genes, np.nan), np.full(n_genes, len(batches))
    rank_bg = _ranks(counts_ng, batches, n_top_genes)
    votes_g = (~np.isnan(rank_bg)).sum(axis=0)
    rank_g = _median_rank(rank_bg)
    chosen_g = np.zeros(n_genes, dtype=bool)
    chosen_g[np.lexsort((rank_g, -votes_g))[:n_top_genes]] = True
    return chosen_g, rank_g, votes_g


def batches_of(obs: pd.DataFrame, batch_key: str) -> dict[str, NDArray[np.int64]]:
    """Return the row numbers of the cells of each batch, by the batch's name, in the order of the names.

    `batch_key` is a column of obs that holds text, categories or whole numbers. Raises InputError if the column does not
    exist or has missing values.
    """
    if batch_key not in obs:
        raise InputError(f"obs has no column {batch_key!r}: {did_you_mean(batch_key, obs.columns)}")
    missing = int(obs[batch_key].isna().sum())
    if missing:
        raise InputError(
            f"obs[{batch_key!r}] is empty for {missing} of {len(obs)} cells; expected a batch for every cell: "
            f"fill in the column, or keep the other cells with adata[adata.obs[{batch_key!r}].notna()].copy()."
        )
    name_n = obs[batch_key].astype(str).to_numpy(dtype=str)
    return {str(name): np.flatnonzero(name_n == name) for name in np.unique(name_n)}


def _ranks(counts_ng: Matrix, batches: dict[str, NDArray[np.int64]], n_top_genes: int) -> NDArray[np.float64]:
    """Return the ranks of genes in each batch with a vote, (b, g), or in all cells if there are no batches. 0 is the most variable."""
    n_cells, n_genes = counts_ng.shape
    if len(batches) < 2:
        if batches:
            log.info("there is one batch, %r: variable genes are chosen in all cells", next(iter(batches)))
        rank_g = _rank(counts_ng, n_top_genes)
        if rank_g is None:
            raise InputError(
                f"The variance of {n_genes} genes over {n_cells} cells cannot be fitted; expected more cells or genes: "
                f"use all genes, {format_settings(n_top_genes=n_genes)}."
            )
        return rank_g[None]
    rows_ng = counts_ng.tocsr() if sparse.issparse(counts_ng) else counts_ng
    large = {name: cell_n for name, cell_n in batches.items() if len(cell_n) >= MIN_BATCH_CELLS}
    ranks = {name: _rank(rows_ng[cell_n], n_top_genes) for name, cell_n in large.items()}
    voting = {name: rank_g for name, rank_g in ranks.items() if rank_g is not None}
    without_vote = [name for name in batches if name not in voting]
    if without_vote:
        _warn_of_batches_without_vote(batches, without_vote, n_cells)
    return np.stack(list(voting.values()))


def _warn_of_batches_without_vote(
    batches: dict[str, NDArray[np.int64]], without_vote: list[str], n_cells: int
) -> None:
    """Warn of batches without a vote. Raise InputError if they hold more than half of the cells."""
    n_without = sum(len(batches[name]) for name in without_vote)
    listed = ", ".join(f"{name!r} ({len(batches[name])} cells)" for name in without_vote[:5])
    listed += f" and {len(without_vote) - 5} more" if len(without_vote) > 5 else ""
    fault = (
        f"{len(without_vote)} of {len(batches)} batches have too few cells or counts to rank genes: {listed}"
    )
    if 2 * n_without > n_cells:
        raise InputError(
            f"{fault}; together {n_without} of {n_cells} cells. Expected batches of at least {MIN_BATCH_CELLS} cells to hold "
            "half of the cells: name a coarser column as batch_key (in a shell: --batch-key), or none."
        )
    warnings.warn(f"{fault}. The other batches choose the genes.", UserWarning, stacklevel=5)


def _rank(counts_ng: Matrix, n_top_genes: int) -> NDArray[np.float64] | None:
    """Return the rank of each gene by standardized variance, missing beyond `n_top_genes`; None if the loess cannot be fitted."""
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
                    n_top_genes=n_top_genes,
                    flavor="seurat_v3",
                    span=span,
                    inplace=False,
                    check_values=False,
                )
        except ValueError:  # skmisc's loess, if few cells give few different means
            continue
        return np.asarray(table["highly_variable_rank"], dtype=np.float64)
    return None


def _different_means(counts_ng: Matrix) -> int:
    """Return the number of different means of the genes that vary. Only those enter the loess."""
    min_g, max_g = counts_ng.min(axis=0), counts_ng.max(axis=0)
    if sparse.issparse(counts_ng):
        min_g, max_g = min_g.toarray(), max_g.toarray()
    sum_g = np.asarray(counts_ng.sum(axis=0), dtype=np.float64).ravel()
    return len(np.unique(sum_g[(min_g != max_g).ravel()]))


def _median_rank(rank_bg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median rank of each gene over the batches where the gene has one, (g,); missing if it has none."""
    ranked_g = ~np.isnan(rank_bg).all(axis=0)
    median_g = np.full(rank_bg.shape[1], np.nan)
    median_g[ranked_g] = np.nanmedian(rank_bg[:, ranked_g], axis=0)
    return median_g
