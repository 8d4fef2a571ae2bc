"""Highly variable genes, in all cells or within batches.

Suffixes: n cells, g genes, b batches.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from sparcell.config.genes import DEFAULT_FLAVOR, Flavor
from sparcell.data.expression import counts_finder
from sparcell.data.validation import require_kind
from sparcell.errors import InputError, did_you_mean, format_settings
from sparcell.io.backed import leave_on_disk
from sparcell.io.stored import StoredCells
from sparcell.pp.gene_ranks import pearson_rank, vst_rank
from sparcell.pp.slots import checked_matrix

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

    from sparcell.data.blocks import Matrix

    Floats = NDArray[np.float64]

log = logging.getLogger("sparcell")

MIN_BATCH_CELLS = 30
"""Smaller batches have no vote. In few cells the ranks of genes are mostly chance, and every batch has one vote."""

PROTECTED_VST, PROTECTED_PEARSON = 0.2, 0.05
"""Flavor protected keeps genes whose rank in any one batch is below these fractions of n_top_genes, by vst and by Pearson residuals.

Pearson residuals have the smaller one: further down their order stand ribosomal and other genes that every type expresses.
"""

PROTECTED_SHARE = 0.5
"""Most genes that flavor protected keeps so, as a fraction of n_top_genes."""


@dataclass(frozen=True)
class Rule:
    """A rule for choosing genes from their ranks in batches."""

    criterion: Callable[[Matrix], Floats | None]
    """Ranks the genes of one batch, 0 the most variable; None if it cannot."""
    median_first: bool = False
    """Whether the median rank orders the genes before the number of votes does."""
    protects: bool = False
    """Whether genes that are very high in one batch, by the criterion or by Pearson residuals, are kept."""


RULES: dict[Flavor, Rule] = {
    "protected": Rule(vst_rank, protects=True),
    "seurat_v3": Rule(vst_rank, median_first=True),
    "seurat_v3_paper": Rule(vst_rank),
    "pearson_residuals": Rule(pearson_rank),
}


def variable_genes(
    adata: AnnData | StoredCells,
    *,
    n_top_genes: int = 2000,
    flavor: Flavor = DEFAULT_FLAVOR,
    layer: str | None = None,
    batch_key: str | None = None,
) -> None:
    """Mark the genes that vary more between cells than their mean explains, in var["highly_variable"].

    With `batch_key`, genes are ranked within each batch, so that differences between batches are not taken for biology.
    Each batch has one vote, whatever its size: for the genes among its first `n_top_genes`. A batch has no vote if it has
    fewer than 30 cells, or if the loess of variance on mean cannot be fitted; a warning names such batches. X and layers
    do not change.

    Parameters
    ----------
    adata
        n cells × g genes with raw counts. For `io.StoredCells`, an AnnData with a Dask array, and one that a file of more than 4 GB
        backs, genes are chosen on random cells from all over the file that hold 34 million values together, or on all cells if they hold
        fewer.
    n_top_genes
        Number of genes to mark. If the data have fewer genes, all are marked, with a warning.
    flavor
        How genes are chosen. All but "protected" choose as scanpy's flavors of these names.

        - "protected": as "seurat_v3_paper", but a gene that is very high in any one batch is kept, so that markers of a
          type that few donors have are not lost. Very high means among the first `n_top_genes` / 5 by Seurat's vst, or
          among the first `n_top_genes` / 20 by Pearson residuals, which find markers with very high counts. At most half
          of the genes are kept so. Without batches the flavor is the same as "seurat_v3".
        - "seurat_v3_paper": Seurat's vst. The genes with most votes; ties are broken by the median rank over the batches
          that vote for the gene (Stuart et al. 2019).
        - "seurat_v3": Seurat's vst. The genes with the best median rank over the batches that vote for the gene.
        - "pearson_residuals": the variance of Pearson residuals (Lause et al. 2021); votes as in "seurat_v3_paper".
    layer
        Layer with the raw counts; "raw" for adata.raw. Default: layers["counts"] if it exists, otherwise X.
    batch_key
        Column of obs with the batch of each cell. Default: all cells are one batch.

    Returns
    -------
    None. Writes var["highly_variable"], boolean, and var["highly_variable_rank"], 0 the most variable: with batches the
    median rank; missing for genes that are among the first `n_top_genes` of no batch. With `batch_key` also
    var["highly_variable_nbatches"], the number of batches with the gene among the first `n_top_genes`. Without, an older
    column of that name is removed.

    Raises
    ------
    InputError
        If the layer or the column does not exist, the layer does not hold counts, a cell has no batch, there is no such
        flavor, or the loess cannot be fitted. With batches: if batches without a vote hold more than half of the cells.

    Examples
    --------
    >>> sp.pp.variable_genes(adata, n_top_genes=2000, batch_key="donor")
    >>> model = sp.BetaVSC().fit(adata, genes_key="highly_variable", batch_key="donor")
    """
    if flavor not in RULES:
        raise InputError(f"there is no flavor {flavor!r}; {did_you_mean(flavor, RULES)}")
    if isinstance(adata, StoredCells) and layer is None:
        layer = adata.layer
    elif layer is None and "counts" in adata.layers:
        layer = "counts"
    cells = leave_on_disk(adata, layer)
    if isinstance(cells, StoredCells):
        if isinstance(adata, StoredCells) and batch_key is not None:
            cells.read_obs([batch_key])
        some = cells.sample()
        log.info("variable genes are chosen on %s of %s cells", f"{some.n_obs:,}", f"{cells.n_obs:,}")
        variable_genes(some, n_top_genes=n_top_genes, flavor=flavor, layer=layer, batch_key=batch_key)
        _copy_columns(some, adata)
        return
    where, counts_ng = checked_matrix(adata, layer)
    require_kind(counts_ng, "counts", where, find_counts=counts_finder(adata))
    if n_top_genes < 1:
        raise InputError(f"n_top_genes is {n_top_genes}; expected 1 or more.")
    batches = {} if batch_key is None else batches_of(adata.obs, batch_key)
    if adata.n_vars < n_top_genes:
        message = f"n_top_genes is {n_top_genes}, but the data have {adata.n_vars} genes: all are marked."
        warnings.warn(message, UserWarning, stacklevel=2)
    chosen_g, rank_g, votes_g = _choose(counts_ng, batches, n_top_genes, RULES[flavor])
    adata.var["highly_variable"] = chosen_g
    adata.var["highly_variable_rank"] = rank_g
    adata.var.drop(columns="highly_variable_nbatches", errors="ignore", inplace=True)
    if batch_key is not None:
        adata.var["highly_variable_nbatches"] = votes_g


def _copy_columns(some: AnnData, adata: AnnData | StoredCells) -> None:
    """Write what `variable_genes` found in some cells into var of all cells; features that are no genes are False or missing."""
    adata.var.drop(columns="highly_variable_nbatches", errors="ignore", inplace=True)
    for column in [name for name in some.var.columns if name.startswith("highly_variable")]:
        values = some.var[column].set_axis(range(some.n_vars))
        position_g = some.var_names.get_indexer(adata.var_names)
        filled = values.reindex(position_g, fill_value=False if column == "highly_variable" else np.nan)
        adata.var[column] = filled.to_numpy(dtype=bool if column == "highly_variable" else None)


def _choose(
    counts_ng: Matrix, batches: dict[str, NDArray[np.int64]], n_top_genes: int, rule: Rule
) -> tuple[NDArray[np.bool_], Floats, NDArray[np.int64]]:
    """Return the mask of the chosen genes, their ranks, and the number of batches that vote for each gene, (g,) each."""
    n_genes = counts_ng.shape[1]
    if n_genes <= n_top_genes:
        return np.ones(n_genes, dtype=bool), np.full(n_genes, np.nan), np.full(n_genes, len(batches))
    rank_bg, best_g = _ranks(counts_ng, batches, rule)
    rank_bg[rank_bg >= n_top_genes] = np.nan
    votes_g = (~np.isnan(rank_bg)).sum(axis=0)
    rank_g = _median_rank(rank_bg)
    order_g = np.lexsort((-votes_g, rank_g) if rule.median_first else (rank_g, -votes_g))
    if rule.protects and len(batches) > 1:
        order_g = _protect(order_g, best_g, n_top_genes)
    chosen_g = np.zeros(n_genes, dtype=bool)
    chosen_g[order_g[:n_top_genes]] = True
    return chosen_g, rank_g, votes_g


def _protect(order_g: NDArray[np.int64], best_g: Floats, n_top_genes: int) -> NDArray[np.int64]:
    """Return the order after the genes that are very high in one batch, have moved to the front.

    `best_g`: see `_best`.
    """
    high_g = np.flatnonzero(best_g < n_top_genes)
    high_g = high_g[np.argsort(best_g[high_g], kind="stable")][: int(PROTECTED_SHARE * n_top_genes)]
    return np.concatenate([high_g, order_g[~np.isin(order_g, high_g)]])


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


def _ranks(counts_ng: Matrix, batches: dict[str, NDArray[np.int64]], rule: Rule) -> tuple[Floats, Floats]:
    """Return the ranks of genes in each batch with a vote, (b, g), and the lowest value of `_best` in any of them, (g,).

    Without batches, and with one, all cells are one batch, and the lowest values are the ranks.
    """
    n_cells, n_genes = counts_ng.shape
    if len(batches) == 1:
        log.info("there is one batch, %r: variable genes are chosen in all cells", next(iter(batches)))
    if len(batches) < 2:
        rank_g = rule.criterion(counts_ng)
        if rank_g is None:
            raise InputError(
                f"The variance of {n_genes} genes over {n_cells} cells cannot be fitted; expected more cells or genes: "
                f"use all genes, {format_settings(n_top_genes=n_genes)}."
            )
        return rank_g[None], rank_g
    rows_ng = counts_ng.tocsr() if sparse.issparse(counts_ng) else counts_ng
    ranks: list[Floats] = []
    best_g = np.full(n_genes, np.inf)
    without_vote = []
    for name, cell_n in batches.items():
        rank_g = None if len(cell_n) < MIN_BATCH_CELLS else rule.criterion(rows_ng[cell_n])
        if rank_g is None:
            without_vote.append(name)
            continue
        ranks.append(rank_g)
        best_g = np.minimum(best_g, _best(rank_g, rows_ng[cell_n], rule))
    if without_vote:
        _warn_of_batches_without_vote(batches, without_vote, n_cells)
    return np.stack(ranks), best_g


def _best(rank_g: Floats, counts_ng: Matrix, rule: Rule) -> Floats:
    """Return how high each gene stands in one batch, (g,): below n_top_genes means that it is kept."""
    if not rule.protects:
        return rank_g
    return np.minimum(rank_g / PROTECTED_VST, pearson_rank(counts_ng) / PROTECTED_PEARSON)


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


def _median_rank(rank_bg: Floats) -> Floats:
    """Return the median rank of each gene over the batches where the gene has one, (g,); missing if it has none."""
    ranked_g = ~np.isnan(rank_bg).all(axis=0)
    median_g = np.full(rank_bg.shape[1], np.nan)
    median_g[ranked_g] = np.nanmedian(rank_bg[:, ranked_g], axis=0)
    return median_g
