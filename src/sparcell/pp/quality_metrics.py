"""Counts, detected genes and mitochondrial share of cells, and sums of genes: one pass over the matrix, in memory or on disk.

Suffixes: n cells, g genes, i values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.data.blocks import row_slices
from sparcell.data.expression import counts_finder
from sparcell.data.facts import noted_blocks
from sparcell.data.validation import check_matrix, require_kind
from sparcell.io.backed import leave_on_disk
from sparcell.io.stored import StoredCells
from sparcell.pp.slots import checked_matrix

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

log = logging.getLogger("sparcell")


class QualityMetrics(NamedTuple):
    """Metrics of cells and genes for quality control.

    Examples
    --------
    ::

        metrics = sp.pp.quality_metrics(adata)
        metrics.cells["pct_mito"].median()
    """

    cells: pd.DataFrame
    """One row per cell: n_genes (genes with a count), total_counts, pct_mito (0 to 100; 0 for a cell without counts)."""
    genes: pd.DataFrame
    """One row per gene: n_cells (cells with a count), total_counts."""


def quality_metrics(
    adata: AnnData | StoredCells, *, layer: str | None = None, mito_prefix: str = "MT-"
) -> QualityMetrics:
    """Return counts, detected genes and mitochondrial share of each cell, and the sums of each gene, in one pass.

    Cells are not removed: see `quality_control`. scanpy's calculate_qc_metrics calls the columns n_genes_by_counts, total_counts,
    pct_counts_mt, and n_cells_by_counts.

    Parameters
    ----------
    adata
        n cells × g genes with raw counts: AnnData in memory, backed by a file, or with a Dask array; or `io.StoredCells`.
    layer
        Layer with the raw counts; "raw" for adata.raw. Default: X, or the matrix of the `StoredCells`.
    mito_prefix
        Prefix of the names of mitochondrial genes, in upper or lower case (human MT-, mouse mt-).

    Returns
    -------
    Two tables, cells and genes, indexed by name; cells of `StoredCells` by number. Nothing is written into `adata`.

    Raises
    ------
    InputError
        If there is no such layer, or it does not hold counts.

    Examples
    --------
    >>> cells = sp.io.StoredCells("atlas.h5ad")
    >>> metrics = sp.pp.quality_metrics(cells)
    >>> cells.obs["pct_mito"] = metrics.cells["pct_mito"]  # cells.write adds the column
    """
    found = leave_on_disk(adata, layer)
    if isinstance(found, StoredCells):
        return counted_on_disk(found, mito_prefix)
    where, counts_ng = checked_matrix(found, layer)
    require_kind(counts_ng, "counts", where, find_counts=counts_finder(found))
    return counted(row_slices(counts_ng), found.obs_names, found.var_names, mito_prefix)


def counted_on_disk(cells: StoredCells, mito_prefix: str, min_cells: int = 0) -> QualityMetrics:
    """Return the metrics of cells that stay on disk, checked for damage and counts in the same pass. See `counted`."""
    blocks = noted_blocks(cells.rows)
    metrics = counted(blocks, cells.obs.index, cells.var_names, mito_prefix, min_cells)
    where = cells.rows.where
    check_matrix(cells.rows, where, gene_names=list(cells.var_names), cell_names=cells.obs_names)
    require_kind(cells.rows, "counts", where)
    return metrics


def counted(
    blocks: Iterable[sparse.csr_matrix],
    cell_names: pd.Index,
    gene_names: pd.Index,
    mito_prefix: str,
    min_cells: int = 0,
) -> QualityMetrics:
    """Return the metrics of the cells in `blocks`, which are in order. Genes with a count in fewer than `min_cells` cells do not count.

    Which genes are rare is known at the end only. The few values of genes that are rare so far are kept, and are taken off the cells' sums.
    """
    is_mito_g = np.asarray(gene_names.astype(str).str.upper().str.startswith(mito_prefix.upper()), dtype=bool)
    if not is_mito_g.any():
        log.info(
            "no gene name begins with %r, in capital or small letters: no cell is removed for mitochondrial counts",
            mito_prefix,
        )
    shape = (len(cell_names), len(gene_names))
    n_genes_n, n_cells_g = np.zeros(shape[0], dtype=np.int64), np.zeros(shape[1], dtype=np.int64)
    total_n, mito_n, total_g = np.zeros(shape[0]), np.zeros(shape[0]), np.zeros(shape[1])
    rare = _Values.none()
    start = 0
    for block in blocks:
        block.eliminate_zeros()
        stop = start + block.shape[0]
        n_genes_n[start:stop] = np.diff(block.indptr)
        total_n[start:stop] = block @ np.ones(shape[1])
        mito_n[start:stop] = block @ is_mito_g.astype(np.float64)
        n_cells_g += np.bincount(block.indices, minlength=shape[1])
        total_g += np.bincount(block.indices, weights=block.data, minlength=shape[1])
        is_rare_g = n_cells_g < min_cells
        if is_rare_g.any():
            rare = rare.joined(_Values.of(block, start).where(is_rare_g)).where(is_rare_g)
        start = stop
    np.subtract.at(n_genes_n, rare.cell_i, 1)
    np.subtract.at(total_n, rare.cell_i, rare.value_i)
    np.subtract.at(mito_n, rare.cell_i, rare.value_i * is_mito_g[rare.gene_i])
    pct_n = 100 * np.divide(mito_n, total_n, out=np.zeros_like(total_n), where=total_n > 0)
    cells = {"n_genes": n_genes_n, "total_counts": total_n, "pct_mito": pct_n}
    genes = {"n_cells": n_cells_g, "total_counts": total_g}
    return QualityMetrics(
        pd.DataFrame(cells, index=pd.Index(cell_names, name="barcode")),
        pd.DataFrame(genes, index=pd.Index(gene_names, name="gene")),
    )


class _Values(NamedTuple):
    """Values of a matrix with their positions."""

    cell_i: NDArray[np.int64]
    gene_i: NDArray[np.integer]
    value_i: NDArray[np.float64]

    @classmethod
    def none(cls) -> _Values:
        return cls(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0))

    @classmethod
    def of(cls, block: sparse.csr_matrix, start: int) -> _Values:
        cell_i = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
        return cls(cell_i, block.indices, block.data)

    def where(self, is_kept_g: NDArray[np.bool_]) -> _Values:
        is_kept_i = is_kept_g[self.gene_i]
        return _Values(*(part[is_kept_i] for part in self))

    def joined(self, other: _Values) -> _Values:
        return _Values(*(np.concatenate(parts) for parts in zip(self, other, strict=True)))
