"""Quality control of cells and genes.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sparcell.errors import InputError, format_settings
from sparcell.pp.slots import require_counts

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.values import Matrix

log = logging.getLogger("sparcell")

MAX_REMOVED_FRACTION = 0.25
"""If a larger fraction of the cells is removed, the limits probably do not suit the data, and a warning says so."""

ADVISED_FRACTION = 0.95
"""Fraction of the cells that each advised limit keeps."""

Limits = dict[str, float | None]
"""min_genes, max_genes, max_pct_mito; None: no limit."""


class ManyCellsRemovedWarning(UserWarning):
    """Quality control removed more than MAX_REMOVED_FRACTION of the cells."""


def _genes_in_cells(adata: AnnData, min_cells: int) -> NDArray[np.bool_]:
    """Return which genes have a count in at least `min_cells` cells, (g,); raise InputError if none has."""
    gene_g = count_nonzero(adata.X, axis=0) >= min_cells
    if not gene_g.any():
        raise InputError(
            f"No gene has a count in {min_cells} of the {adata.n_obs} cells or more; expected at least one: give more "
            "cells, or lower min_cells of sp.pp.quality_control."
        )
    return gene_g


def quality_control(
    adata: AnnData,
    *,
    min_cells: int = 3,
    min_genes: int = 200,
    max_genes: int | None = 2500,
    max_pct_mito: float | None = 5.0,
    mito_prefix: str = "MT-",
) -> pd.DataFrame:
    """Remove rare genes, then cells with too few or too many genes or too many mitochondrial counts.

    The defaults are those of Seurat's PBMC tutorial. Other tissues need other limits; a warning advises some if more
    than 25 % of the cells are removed.

    Parameters
    ----------
    adata
        Raw counts in X. Filtered in place: X, layers, obs, var and all else together.
    min_cells
        Genes with a count in fewer cells are removed.
    min_genes, max_genes
        Cells stay with more than `min_genes` and fewer than `max_genes` of the remaining genes. None: no limit.
    max_pct_mito
        Cells stay with a lower percentage (0 to 100) of mitochondrial counts. None: no limit.
    mito_prefix
        Prefix of the names of mitochondrial genes, in upper or lower case (human MT-, mouse mt-).

    Returns
    -------
    Table of all cells before filtering, indexed by barcode: n_genes and total_counts (of the remaining genes),
    pct_mito (0 to 100), kept (boolean).

    Raises
    ------
    InputError
        If X does not hold counts, or if no cell or gene would remain. `adata` is then unchanged.

    Examples
    --------
    >>> qc = sp.pp.quality_control(adata, max_genes=6000, max_pct_mito=10)
    >>> qc["kept"].mean()
    """
    require_counts(adata)
    gene_g = _genes_in_cells(adata, min_cells)
    qc = quality_table(
        adata.X[:, np.flatnonzero(gene_g)], adata.var_names[gene_g], adata.obs_names, mito_prefix
    )
    limits: Limits = {"min_genes": min_genes, "max_genes": max_genes, "max_pct_mito": max_pct_mito}
    qc["kept"] = kept_cells(qc, limits)
    if qc["kept"].mean() < 1 - MAX_REMOVED_FRACTION:
        warnings.warn(describe_removal(qc, limits), ManyCellsRemovedWarning, stacklevel=2)
    sizes = (qc["kept"].sum(), adata.n_obs, gene_g.sum(), adata.n_vars)
    log.info("quality control: %d of %d cells, %d of %d genes kept", *sizes)
    adata._inplace_subset_var(gene_g)
    adata._inplace_subset_obs(qc["kept"].to_numpy())
    return qc


def count_nonzero(x_ng: Matrix, axis: int) -> NDArray[np.int64]:
    """Return the number of values that are not 0, for each gene (axis 0) or each cell (axis 1)."""
    return np.asarray((x_ng != 0).sum(axis=axis), dtype=np.int64).ravel()


def quality_table(x_ng: Matrix, gene_names: pd.Index, cell_names: pd.Index, mito_prefix: str) -> pd.DataFrame:
    """Return n_genes, total_counts and pct_mito of each cell, indexed by barcode.

    Parameters
    ----------
    x_ng
        Raw counts of the genes that are kept.
    gene_names, cell_names
        Lengths g and n.
    mito_prefix
        Prefix of the names of mitochondrial genes, in upper or lower case.

    Returns
    -------
    Table of n rows. pct_mito is a percentage, 0 to 100; 0 for a cell without counts.
    """
    mito_g = np.flatnonzero(gene_names.astype(str).str.upper().str.startswith(mito_prefix.upper()))
    if not len(mito_g):
        log.info("no gene name begins with %r: no cell is removed for mitochondrial counts", mito_prefix)
    total_n = np.asarray(x_ng.sum(axis=1), dtype=np.float64).ravel()
    mito_n = np.asarray(x_ng[:, mito_g].sum(axis=1), dtype=np.float64).ravel()
    return pd.DataFrame(
        {
            "n_genes": count_nonzero(x_ng, axis=1),
            "total_counts": total_n,
            "pct_mito": 100 * np.divide(mito_n, total_n, out=np.zeros_like(total_n), where=total_n > 0),
        },
        index=pd.Index(cell_names, name="barcode"),
    )


def kept_cells(qc: pd.DataFrame, limits: Limits) -> NDArray[np.bool_]:
    """Return which cells lie strictly within all limits, (n,).

    Raises InputError if no cell does. The message gives the number of cells that each limit removes, and advises limits.
    """
    kept_n: NDArray[np.bool_] = np.logical_and.reduce(list(_passed(qc, limits).values()))
    if kept_n.any():
        return kept_n
    removed, advice = _removed_and_advice(qc, limits)
    raise InputError(
        f"Quality control removed all {len(qc)} cells: {removed}. Expected at least one to pass. Limits that keep "
        f"most cells: {advice}."
    )


def describe_removal(qc: pd.DataFrame, limits: Limits) -> str:
    """Return a message with the number of cells that each limit removes, and limits that would keep most cells."""
    removed, advice = _removed_and_advice(qc, limits)
    n_removed = int((~qc["kept"]).sum())
    return f"Quality control removed {n_removed} of {len(qc)} cells: {removed}. Limits that keep most cells: {advice}."


def _passed(qc: pd.DataFrame, limits: Limits) -> dict[str, NDArray[np.bool_]]:
    """Return, for each limit, which cells pass."""
    genes_n, pct_n = qc["n_genes"].to_numpy(), qc["pct_mito"].to_numpy()
    min_genes, max_genes, max_pct = (limits[name] for name in ("min_genes", "max_genes", "max_pct_mito"))
    return {
        "min_genes": genes_n > (-1 if min_genes is None else min_genes),
        "max_genes": genes_n < (np.inf if max_genes is None else max_genes),
        "max_pct_mito": pct_n < (np.inf if max_pct is None else max_pct),
    }


def _removed_and_advice(qc: pd.DataFrame, limits: Limits) -> tuple[str, str]:
    """Return what each limit removes, and values of the strict limits that would keep ADVISED_FRACTION of the cells."""
    n_removed = {name: int((~passed_n).sum()) for name, passed_n in _passed(qc, limits).items()}
    n_removed = {name: number for name, number in n_removed.items() if number}
    lenient = {
        "min_genes": max(0, int(np.quantile(qc["n_genes"], 1 - ADVISED_FRACTION)) - 1),
        "max_genes": int(np.quantile(qc["n_genes"], ADVISED_FRACTION)) + 1,
        "max_pct_mito": min(100, int(np.quantile(qc["pct_mito"], ADVISED_FRACTION)) + 1),
    }
    removed = ", ".join(f"{name}={limits[name]:g} removes {number}" for name, number in n_removed.items())
    strict = [name for name, number in n_removed.items() if number > (1 - ADVISED_FRACTION) * len(qc)]
    return removed, format_settings(**{name: lenient[name] for name in strict or n_removed})
