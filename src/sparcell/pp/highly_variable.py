"""Variable genes, over all cells or per batch: Seurat's vst, through scanpy's seurat_v3.

Suffixes: n cells, g genes, b batches.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell.data.validation import require_kind
from sparcell.errors import InputError, as_typed, did_you_mean
from sparcell.pp.slots import matrix_of

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.validation import Matrix

log = logging.getLogger("sparcell")

LOESS_SPANS = (0.3, 0.5, 1.0)
"""Share of the genes that a point of the loess of variance on mean sees: Seurat's, and wider ones for where it cannot be fitted."""

MIN_MEANS = 10
"""Different means the loess must see; with three or fewer its compiled code reads outside of its arrays."""

MIN_BATCH_CELLS = 30
"""Smaller batches have no vote: among so few cells the ranks of genes are mostly chance, and every vote counts the same."""


def variable_genes(
    adata: AnnData, *, n_top_genes: int = 2000, layer: str | None = None, batch_key: str | None = None
) -> None:
    """Mark the genes that vary more than their mean explains (Seurat's vst, through scanpy's seurat_v3).

    With `batch_key` the genes are ranked in each batch by itself, so that what differs between batches only is
    not taken for biology. Those among the first `n_top_genes` of the most batches are chosen; of genes with
    equally many, those with the lowest median rank over these batches (Stuart et al. 2019; scanpy's
    seurat_v3_paper). Every batch has one vote, whatever its size. Batches of fewer than 30 cells, or where
    the loess of variance on mean cannot be fitted even with a wider span, have none: a warning names them.

    Parameters
    ----------
    n_top_genes
        How many; where there are no more genes than that, all are marked, with a warning.
    layer
        Layer with the raw counts. Default: layers["counts"] if there is one, otherwise X.
    batch_key
        Column of obs that tells the batches apart, with a value for every cell. None: all cells are one batch.

    Writes
    ------
    var["highly_variable"], bool. var["highly_variable_rank"], 0 the most variable, missing for genes that are
    among the first `n_top_genes` nowhere; with batches the median rank. With `batch_key` also
    var["highly_variable_nbatches"], int: in how many batches; without, an older column of that name goes.

    Raises
    ------
    InputError
        If there is no such layer or column, the layer does not hold counts, a cell has no batch, or there are
        too few values for the loess; with batches, if those that can vote hold less than half of the cells.
    """
    if layer is None and "counts" in adata.layers:
        layer = "counts"
    where, counts_ng = matrix_of(adata, layer)
    require_kind(counts_ng, "counts", where)
    if n_top_genes < 1:
        raise InputError(f"n_top_genes is {n_top_genes}; expected 1 or more.")
    batches = {} if batch_key is None else batches_of(adata.obs, batch_key)
    if adata.n_vars <= n_top_genes:
        if adata.n_vars < n_top_genes:
            message = f"{n_top_genes} variable genes asked for and there are {adata.n_vars}: all are used."
            warnings.warn(message, UserWarning, stacklevel=2)
        rank_g = np.full(adata.n_vars, np.nan)
        votes_g = np.full(adata.n_vars, len(batches))
        chosen_g = np.ones(adata.n_vars, dtype=bool)
    else:
        rank_bg = _ranks(counts_ng, batches, n_top_genes)
        votes_g = (~np.isnan(rank_bg)).sum(axis=0)
        rank_g = _median_rank(rank_bg)
        chosen_g = np.zeros(adata.n_vars, dtype=bool)
        chosen_g[np.lexsort((rank_g, -votes_g))[:n_top_genes]] = True
    adata.var["highly_variable"] = chosen_g
    adata.var["highly_variable_rank"] = rank_g
    adata.var.drop(columns="highly_variable_nbatches", errors="ignore", inplace=True)
    if batch_key is not None:
        adata.var["highly_variable_nbatches"] = votes_g


def batches_of(obs: pd.DataFrame, batch_key: str) -> dict[str, NDArray[np.int64]]:
    """Give the cells of each batch, by the batch's name, in the order of the names.

    Parameters
    ----------
    obs
        Rows are cells.
    batch_key
        Its column that tells the batches apart: text, categories or whole numbers.

    Raises
    ------
    InputError
        If there is no such column, or it is empty for a cell.
    """
    if batch_key not in obs:
        raise InputError(f"obs has no column {batch_key!r}: {did_you_mean(batch_key, obs.columns)}")
    missing = int(obs[batch_key].isna().sum())
    if missing:
        raise InputError(
            f"obs[{batch_key!r}] is empty for {missing} of {len(obs)} cells; expected a batch for every cell: "
            f"fill it, or keep the others, in Python with adata[adata.obs[{batch_key!r}].notna()].copy()."
        )
    name_n = obs[batch_key].astype(str).to_numpy(dtype=str)
    return {str(name): np.flatnonzero(name_n == name) for name in np.unique(name_n)}


def _ranks(counts_ng: Matrix, batches: dict[str, NDArray[np.int64]], n_top_genes: int) -> NDArray[np.float64]:
    """Rank the genes in each batch that has a vote (none given: in all cells), 0 the most variable."""
    n_cells, n_genes = counts_ng.shape
    if len(batches) < 2:
        if batches:
            log.info("one batch, %r: variable genes are found in all cells together", next(iter(batches)))
        rank_g = _rank(counts_ng, n_top_genes)
        if rank_g is None:
            found = f"The variance of {n_genes} genes over {n_cells} cells cannot be fitted"
            remedy = f"expected more cells or genes: use all genes, {as_typed(n_top_genes=n_genes)}"
            raise InputError(f"{found}; {remedy}.")
        return rank_g[None]
    rows_ng = counts_ng.tocsr() if sparse.issparse(counts_ng) else counts_ng
    enough = {name: cell_n for name, cell_n in batches.items() if len(cell_n) >= MIN_BATCH_CELLS}
    ranks = {name: _rank(rows_ng[cell_n], n_top_genes) for name, cell_n in enough.items()}
    voting = {name: rank_g for name, rank_g in ranks.items() if rank_g is not None}
    mute = [name for name in batches if name not in voting]
    if mute:
        _say_who_has_no_vote(batches, mute, n_cells)
    return np.stack(list(voting.values()))


def _say_who_has_no_vote(batches: dict[str, NDArray[np.int64]], mute: list[str], n_cells: int) -> None:
    """Warn of batches without a vote; raise where the rest would not speak for the data."""
    held = sum(len(batches[name]) for name in mute)
    shown = ", ".join(f"{name!r} ({len(batches[name])} cells)" for name in mute[:5])
    shown += f" and {len(mute) - 5} more" if len(mute) > 5 else ""
    found = f"{len(mute)} of {len(batches)} batches have too few cells or counts to rank genes in: {shown}"
    if 2 * held > n_cells:
        raise InputError(
            f"{found}; together {held} of {n_cells} cells. Expected at least {MIN_BATCH_CELLS} cells in batches "
            "that hold half of the cells: name a coarser column as batch_key (in a shell: --batch-key), or none."
        )
    message = f"{found}. The genes are chosen by the other batches."
    warnings.warn(message, UserWarning, stacklevel=4)


def _rank(counts_ng: Matrix, n_top_genes: int) -> NDArray[np.float64] | None:
    """Rank genes by standardised variance, missing beyond `n_top_genes`; None where the loess cannot be fitted."""
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
        except ValueError:  # skmisc's loess, where few cells give few different means
            continue
        return np.asarray(table["highly_variable_rank"], dtype=np.float64)
    return None


def _different_means(counts_ng: Matrix) -> int:
    """Count the different means of the genes that vary at all: the loess sees no others."""
    least, most = counts_ng.min(axis=0), counts_ng.max(axis=0)
    if sparse.issparse(counts_ng):
        least, most = least.toarray(), most.toarray()
    sum_g = np.asarray(counts_ng.sum(axis=0), dtype=np.float64).ravel()
    return len(np.unique(sum_g[(least != most).ravel()]))


def _median_rank(rank_bg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the median over the batches a gene is variable in; missing where it is in none."""
    some_g = ~np.isnan(rank_bg).all(axis=0)
    median_g = np.full(rank_bg.shape[1], np.nan)
    median_g[some_g] = np.nanmedian(rank_bg[:, some_g], axis=0)
    return median_g
