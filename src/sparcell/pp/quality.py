"""Quality control of cells and genes.

Suffixes: n cells, g genes, b batches.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sparcell.config.input import MAX_MEMORY
from sparcell.data.blocks import row_slices
from sparcell.data.genes import describe_other_features, gene_mask
from sparcell.errors import InputError, format_settings
from sparcell.io.backed import leave_on_disk
from sparcell.io.stored import StoredCells
from sparcell.pp.highly_variable import batches_of
from sparcell.pp.quality_metrics import counted, counted_on_disk
from sparcell.pp.slots import require_counts, take_into_memory

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

log = logging.getLogger("sparcell")

MAX_REMOVED_FRACTION = 0.25
"""If a larger fraction of the cells is removed, the limits probably do not suit the data, and a warning says so."""

ADVISED_FRACTION = 0.95
"""Fraction of the cells that each advised limit keeps."""

EMPTY_GENES, EMPTY_SHARE, EMPTY_RATIO = 50, 0.5, 0.05
"""Barcodes are unfiltered droplets if at least this share has fewer detected genes than the first number, and the median barcode
less than EMPTY_RATIO of the counts of the best ones."""

UNFILTERED = (
    "This looks like the unfiltered matrix of all droplets: {n_empty} of {n} barcodes hold next to nothing (fewer than {limit} genes). "
    "Give the filtered one, such as filtered_feature_bc_matrix.h5, or call cells with emptyDrops or CellBender first."
)

N_MADS_GENES = 5.0
"""Limits of the number of genes lie this many MADs from the median, on a log scale. On five data sets no cell type lost more than 7 % of
its cells; with 3 MADs megakaryocytes lost 73 %, dendritic cells 62 % and pDC 17 %."""

N_MADS_MITO = 3.0
MIN_MITO_LIMIT = 8.0
"""The limit of the mitochondrial percentage lies this many MADs above the median, and never below 8 %."""

ROUNDING = 1e-6
"""A cell at the limit is kept in spite of rounding."""

MAD_OF_NORMAL = 1.4826
"""A normal distribution's sd divided by its median absolute deviation (MAD)."""

Limits = dict[str, "NDArray[np.float64]"]
"""min_genes, max_genes, max_pct_mito → the limit of each cell, (n,); infinity where there is none."""


class ManyCellsRemovedWarning(UserWarning):
    """Quality control removed more than MAX_REMOVED_FRACTION of the cells."""


def _frequent_genes(n_cells_g: NDArray[np.int64], min_cells: int, n_cells: int) -> NDArray[np.bool_]:
    """Return which genes have a count in at least `min_cells` cells, (g,); raise InputError if none has."""
    gene_g: NDArray[np.bool_] = n_cells_g >= min_cells
    if not gene_g.any():
        raise InputError(
            f"No gene has a count in {min_cells} of the {n_cells} cells or more; expected at least one: give more "
            "cells, or lower min_cells of sp.pp.quality_control."
        )
    return gene_g


def quality_control(
    adata: AnnData | StoredCells,
    *,
    min_cells: int = 3,
    min_genes: int | None = None,
    max_genes: int | None = None,
    max_pct_mito: float | None = None,
    mito_prefix: str = "MT-",
    batch_key: str | None = None,
) -> pd.DataFrame:
    """Remove rare genes, then cells with too few or too many genes or too many mitochondrial counts.

    By default the limits come from the data. The number of genes may lie up to 5 MADs (median absolute deviations,
    scaled to the sd of a normal distribution) from the median, on a log scale. The mitochondrial percentage may lie up
    to 3 MADs above the median, and up to 8 % in any case. The limits and the number of cells that each removes are
    logged. Seurat's PBMC tutorial has min_genes 200, max_genes 2500 and max_pct_mito 5. A warning advises limits if more
    than 25 % of the cells are removed.

    Parameters
    ----------
    adata
        Raw counts in X. Filtered in place: X, layers, obs, var and all else together. Features that are not gene expression, such as
        antibodies, are removed. Data that a file backs are read into memory; the file does not change. A Dask array stays one. Of
        `io.StoredCells` the matrix is read in one pass; cells and genes that are removed are not read any more, and the file stays as it
        is.
    min_cells
        Genes with a count in fewer cells are removed.
    min_genes, max_genes
        Cells stay with more than `min_genes` and fewer than `max_genes` of the remaining genes. max_genes 0: no limit.
        Default: from the data.
    max_pct_mito
        Cells stay with a lower percentage (0 to 100) of mitochondrial counts. 100: no limit. Default: from the data.
    mito_prefix
        Prefix of the names of mitochondrial genes, in upper or lower case (human MT-, mouse mt-).
    batch_key
        Column of obs; each batch then has limits of its own.

    Returns
    -------
    Table of all cells before filtering, indexed by barcode (cells on disk by number): n_genes and total_counts (of the remaining genes),
    pct_mito (0 to 100), kept (boolean). ``attrs["limits"]`` holds the limits, name → (lowest, highest) over the batches.

    Raises
    ------
    InputError
        If X does not hold counts, if no cell or gene would remain, or if most barcodes are empty droplets and min_genes is
        not set. `adata` is then unchanged.

    Examples
    --------
    >>> qc = sp.pp.quality_control(adata, max_genes=6000, max_pct_mito=10)
    >>> qc["kept"].mean()
    """
    qc, gene_g = _measured(adata, min_cells, mito_prefix)
    if min_genes is None and is_unfiltered(qc):  # limits from the data would be those of empty droplets
        raise InputError(describe_unfiltered(qc))
    batches = {} if batch_key is None else batches_of(adata.obs, batch_key)
    settings = {"min_genes": min_genes, "max_genes": max_genes, "max_pct_mito": max_pct_mito}
    limits = limits_of(qc, settings, list(batches.values()), n_genes=int(gene_g.sum()))
    qc["kept"] = kept_cells(qc, limits)
    qc.attrs["limits"] = {
        name: (float(limit_n.min()), float(limit_n.max())) for name, limit_n in limits.items()
    }
    if qc["kept"].mean() < 1 - MAX_REMOVED_FRACTION:
        warnings.warn(describe_removal(qc, limits), ManyCellsRemovedWarning, stacklevel=2)
    if not gene_mask(adata.var).all():
        log.info("%s", describe_other_features(adata.var))
    genes = f"{gene_g.sum():,} of {adata.n_vars:,} genes, which are in {min_cells} cells or more"
    log.info("%s; and %s", describe_limits(qc, limits, settings), genes)
    if isinstance(adata, StoredCells):
        adata.keep_genes(gene_g)
        adata.keep_cells(qc["kept"].to_numpy())
    else:
        adata._inplace_subset_var(gene_g)
        adata._inplace_subset_obs(qc["kept"].to_numpy())
    return qc


def _measured(
    adata: AnnData | StoredCells, min_cells: int, mito_prefix: str
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Return the table of the cells, and which features stay: genes in `min_cells` cells or more. Only these genes count."""
    cells: Any = leave_on_disk(adata, None)
    is_gene_g = gene_mask(adata.var)
    if isinstance(cells, StoredCells):
        if adata.isbacked:
            raise InputError(
                f"{cells.rows.where} would take more than {MAX_MEMORY}, and cells cannot be removed from a file that backs an AnnData; "
                "expected cells that stay on disk: cells = sp.io.StoredCells(path), then sp.pp.quality_control(cells)."
            )
        metrics = counted_on_disk(cells, mito_prefix, min_cells)
    else:
        require_counts(adata)
        take_into_memory(adata)
        gene_names = cells.var_names[is_gene_g]
        counts_ng = cells.X if is_gene_g.all() else cells.X[:, np.flatnonzero(is_gene_g)]
        metrics = counted(row_slices(counts_ng), cells.obs_names, gene_names, mito_prefix, min_cells)
    is_gene_g[is_gene_g] = _frequent_genes(metrics.genes["n_cells"].to_numpy(), min_cells, len(metrics.cells))
    return metrics.cells, is_gene_g


def limits_of(
    qc: pd.DataFrame,
    settings: Mapping[str, float | None],
    batches: Sequence[NDArray[np.int64]] = (),
    *,
    n_genes: int,
) -> Limits:
    """Return the limits of each cell: those of `settings` and, where a setting is None, those of the data.

    A limit of the data that no cell can exceed is no limit, infinity: more genes than `n_genes`, or without mitochondrial counts.

    Parameters
    ----------
    qc
        n_genes and pct_mito of the n cells.
    settings
        min_genes, max_genes (0: no limit), and max_pct_mito (100: no limit).
    batches
        Row numbers of each batch's cells, which get limits of their own. Default: all cells are one batch.
    n_genes
        Number of genes of the data.
    """
    log_genes_n = np.log1p(qc["n_genes"].to_numpy(dtype=np.float64))
    pct_n = qc["pct_mito"].to_numpy(dtype=np.float64)
    limits: Limits = {name: np.empty(len(qc)) for name in ("min_genes", "max_genes", "max_pct_mito")}
    for cell_b in batches or [np.arange(len(qc))]:
        middle, spread = _median_and_mad(log_genes_n[cell_b])
        fewest, most = np.expm1([max(0.0, middle - N_MADS_GENES * spread), middle + N_MADS_GENES * spread])
        limits["min_genes"][cell_b] = max(0.0, np.ceil(fewest - ROUNDING) - 1)
        limits["max_genes"][cell_b] = np.floor(most + ROUNDING) + 1
        middle, spread = _median_and_mad(pct_n[cell_b])
        limits["max_pct_mito"][cell_b] = max(MIN_MITO_LIMIT, middle + N_MADS_MITO * spread + ROUNDING)
    limits["max_genes"][limits["max_genes"] > n_genes] = np.inf
    if not pct_n.any():
        limits["max_pct_mito"][:] = np.inf
    for name, value in settings.items():
        if value is not None:
            limits[name][:] = np.inf if name == "max_genes" and value == 0 else value
    limits["max_pct_mito"][limits["max_pct_mito"] >= 100] = np.inf
    return limits


def _median_and_mad(value_n: NDArray[np.float64]) -> tuple[float, float]:
    """Return the median, and the median absolute deviation in units of a normal distribution's sd."""
    middle = float(np.median(value_n))
    return middle, MAD_OF_NORMAL * float(np.median(np.abs(value_n - middle)))


def describe_limits(qc: pd.DataFrame, limits: Limits, settings: Mapping[str, float | None]) -> str:
    """Return a line with the number of cells that are kept, each limit, and the number of cells that it removes."""
    parts = []
    for name, passed_n in _passed(qc, limits).items():
        value = format_limit(limits[name])
        if value == "none" and name == "max_genes" and settings[name] is None:
            parts.append("max_genes none (from the data)")
        elif value != "none" and not (name == "max_pct_mito" and not qc["pct_mito"].any()):
            origin = "from the data" if settings[name] is None else "set"
            parts.append(f"{name} {value} ({origin}) removes {int((~passed_n).sum()):,}")
    kept = f"quality control keeps {int(qc['kept'].sum()):,} of {len(qc):,} cells"
    return f"{kept}: {', '.join(parts)}" if parts else kept


def format_limit(limit_n: NDArray[np.float64]) -> str:
    """Return a limit as text, with several batches as a range; none is no limit."""
    texts = [
        "none" if np.isinf(limit) else f"{limit:.0f}" if limit >= 100 else f"{limit:.3g}"
        for limit in (limit_n.min(), limit_n.max())
    ]
    return " to ".join(dict.fromkeys(texts))


def kept_cells(qc: pd.DataFrame, limits: Limits) -> NDArray[np.bool_]:
    """Return which cells lie strictly within all limits, (n,).

    Raises InputError if no cell does. The message gives the number of cells that each limit removes, and advises limits.
    """
    kept_n: NDArray[np.bool_] = np.logical_and.reduce(list(_passed(qc, limits).values()))
    if kept_n.any():
        return kept_n
    if is_unfiltered(qc):
        raise InputError(describe_unfiltered(qc))
    removed, advice = _removed_and_advice(qc, limits)
    raise InputError(
        f"Quality control removed all {len(qc)} cells: {removed}. Expected at least one to pass. Limits that keep "
        f"most cells: {advice}."
    )


def describe_removal(qc: pd.DataFrame, limits: Limits) -> str:
    """Return a message with the number of cells that each limit removes, and limits that would keep most cells."""
    if is_unfiltered(qc):
        return describe_unfiltered(qc)
    removed, advice = _removed_and_advice(qc, limits)
    n_removed = int((~qc["kept"]).sum())
    return f"Quality control removed {n_removed} of {len(qc)} cells: {removed}. Limits that keep most cells: {advice}."


def is_unfiltered(qc: pd.DataFrame) -> bool:
    """Return whether the barcodes look like all droplets of a run, most of them without a cell."""
    total_n = np.sort(qc["total_counts"].to_numpy())[::-1]
    best = total_n[min(len(total_n) - 1, max(10, len(total_n) // 200))]
    mostly_empty = (qc["n_genes"] < EMPTY_GENES).mean() >= EMPTY_SHARE
    return bool(mostly_empty and np.median(total_n) < EMPTY_RATIO * best)


def describe_unfiltered(qc: pd.DataFrame) -> str:
    """Return the message to one who gave the unfiltered matrix."""
    n_empty = int((qc["n_genes"] < EMPTY_GENES).sum())
    return UNFILTERED.format(n_empty=n_empty, n=len(qc), limit=EMPTY_GENES)


def _passed(qc: pd.DataFrame, limits: Limits) -> dict[str, NDArray[np.bool_]]:
    """Return, for each limit, which cells pass."""
    genes_n, pct_n = qc["n_genes"].to_numpy(), qc["pct_mito"].to_numpy()
    return {
        "min_genes": genes_n > limits["min_genes"],
        "max_genes": genes_n < limits["max_genes"],
        "max_pct_mito": pct_n < limits["max_pct_mito"],
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
    removed = ", ".join(
        f"{name}={format_limit(limits[name])} removes {number}" for name, number in n_removed.items()
    )
    strict = [name for name, number in n_removed.items() if number > (1 - ADVISED_FRACTION) * len(qc)]
    return removed, format_settings(**{name: lenient[name] for name in strict or n_removed})
