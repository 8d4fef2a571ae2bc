"""Data sets that need no network: the package's own PBMC3k counts, one that scanpy carries, and one simulated from gene programs.

Suffixes: n cells, g genes, p programs, b batches.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

PBMC3K = Path(__file__).parent / "pbmc3k.h5ad"

PROGRAM_SHARE = 0.05
"""Share of the genes in each planted program."""

HOUSEKEEPING_SHARE = 0.05
"""The most expressed genes, this share of all, are in no planted program: ribosomal ones in blood, which hold half of the counts."""

THETA, THETA_SPREAD = 10.0, 0.5
"""Median over genes of the planted inverse dispersion (variance = mean + mean² / theta), and the sd of its logarithm."""

BATCH_SD = 0.3
"""Standard deviation of a planted batch effect, in natural logarithms."""

BLOCK_CELLS = 4096
"""Counts are drawn this many cells at a time: no dense matrix of all cells is made."""


def pbmc3k() -> AnnData:
    """Load 2,700 blood cells of a healthy donor (10x Genomics; Zheng et al. 2017; CC BY 4.0), as counted.

    Returns
    -------
    2,700 cells × 32,738 genes: raw UMI counts in X (CSR float32), var["gene_ids"], barcodes as obs_names.
    Nothing is filtered or normalised: `sp.pp.seurat(adata)` does that.
    """
    from anndata import read_h5ad

    return read_h5ad(PBMC3K)


def pbmc68k_reduced() -> AnnData:
    """Load 700 blood cells × 765 genes whose labels come from sorted populations, not from their expression.

    scanpy ships them log-normalised with each cell's total over all genes; the counts are rebuilt as
    round(expm1(x) · total / 10,000). Works offline. Source: 10x Genomics, Zheng et al. 2017 (68k PBMCs).

    Returns
    -------
    Counts in X (CSR float32); obs["cell_type"], 10 sorted populations; obs["n_counts"], the cell's total over
    all genes (not only over the 765 here); uns["source"].
    """
    import scanpy as sc
    from anndata import AnnData

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scanpy's file is in an old format
        shipped = sc.datasets.pbmc68k_reduced()
    totals_n = shipped.obs["n_counts"].to_numpy(dtype=np.float64)
    counts_ng = sparse.csr_matrix(shipped.raw.X, dtype=np.float64, copy=True)
    per_value = np.repeat(totals_n, np.diff(counts_ng.indptr))
    counts_ng.data = np.rint(np.expm1(counts_ng.data) * per_value / 1e4)
    counts_ng.eliminate_zeros()
    adata = AnnData(counts_ng.astype(np.float32))
    adata.obs_names, adata.var_names = shipped.obs_names.astype(str), shipped.raw.var_names.astype(str)
    adata.obs_names.name = adata.var_names.name = None
    adata.obs["cell_type"] = shipped.obs["bulk_labels"].to_numpy()
    adata.obs["cell_type"] = adata.obs["cell_type"].astype("category")
    adata.obs["n_counts"] = totals_n
    adata.uns["source"] = (
        "700 of the 68k PBMCs of 10x Genomics (Zheng et al. 2017) as shipped with scanpy; counts rebuilt "
        "from log-normalised values, labels of sorted populations"
    )
    return adata


def simulate_programs(
    n_programs: int = 12,
    n_genes: int = 2000,
    n_cells: int = 2700,
    share_on: float = 0.25,
    n_batches: int = 1,
    log_fold: float = 1.0,
    seed: int = 0,
) -> AnnData:
    """Simulate counts of cells in which a few gene programs are on, at the depths and gene means of PBMC3k.

    ::

        s_np ~ Bernoulli(share_on)        a_np = s_np · Gamma(shape 4, mean 1)
        w_pg = log_fold · Uniform(0.5, 1.5) for the program's genes, else 0
        v_bg ~ Normal(0, 0.3²) where there are several batches, else 0
        r_ng = m_g · exp(Σ_p a_np w_pg + v_bg)        mu_ng = t_n · r_ng / Σ_g r_ng
        x_ng ~ Poisson(mu_ng · Gamma(shape theta_g, mean 1)), so its variance is mu + mu² / theta_g
        log theta_g ~ Normal(log 10, 0.5²)

    m_g are the mean counts of PBMC3k's `n_genes` most expressed genes, the highest first; t_n is drawn from its
    cells' totals over these. A program has a twentieth of the genes, drawn from all but the twentieth most
    expressed; two share some by chance. A seed's programs, amounts and depths do not change with `n_batches`.

    Parameters
    ----------
    n_programs, n_genes, n_cells, n_batches
        How many; cells fall into batches by chance.
    share_on
        Probability that a program is on in a cell, above 0 and up to 1.
    log_fold
        Natural logarithm of how many fold a program raises its genes at amount 1, in the mean over genes.
    seed
        The same seed gives the same data.

    Returns
    -------
    Counts in X (CSR float32). obsm["activity"], a: n × p float32, exactly 0 where a program is off;
    varm["effects"], w: g × p float32; var["theta"]; uns["source"]. With several batches obs["batch"],
    categorical "1", "2", …, and varm["batch_effects"], v: g × b float32.

    Raises
    ------
    InputError
        If a number is out of range, or PBMC3k has fewer genes with counts than `n_genes`.
    """
    _check_numbers(share_on, {"n_programs": n_programs, "n_cells": n_cells, "n_batches": n_batches})
    mean_g, total_n = _pbmc3k_means_and_totals(n_genes)
    draws = np.random.default_rng(seed).spawn(4)
    effect_pg = _effects(n_programs, n_genes, log_fold, draws[0])
    on_np = draws[1].random((n_cells, n_programs)) < share_on
    amount_np = np.where(on_np, draws[1].gamma(4.0, 1 / 4, on_np.shape), 0.0)
    depth_n = draws[1].choice(total_n, n_cells)
    batch_n, shift_bg = _batches(n_batches, n_cells, n_genes, draws[2])
    adata = _counted(np.log(mean_g) + shift_bg, batch_n, amount_np, effect_pg, depth_n, draws[3])
    if n_batches > 1:
        adata.obs["batch"] = pd.Categorical(batch_n + 1).rename_categories(str)
        adata.varm["batch_effects"] = shift_bg.T.astype(np.float32)
    adata.uns["source"] = f"planted_programs: {n_programs} programs, {share_on:g} of them on, seed {seed}"
    return adata


def _check_numbers(share_on: float, numbers: dict[str, int]) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} is {number}; expected 1 or more.")
    if not 0 < share_on <= 1:
        raise InputError(f"share_on is {share_on}; expected a probability above 0 and up to 1.")


def _pbmc3k_means_and_totals(n_genes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the means of PBMC3k's most expressed genes, the highest first, and the cells' totals over them."""
    counts_ng = pbmc3k().X.astype(np.float64).tocsc()
    mean_g = np.asarray(counts_ng.mean(axis=0)).ravel()
    expressed = int((mean_g > 0).sum())
    least = round(1 / PROGRAM_SHARE)
    if not least <= n_genes <= expressed:
        found = f"n_genes is {n_genes}; expected a number from {least}, for a program to have a gene"
        raise InputError(f"{found}, to {expressed}, the genes with counts in PBMC3k.")
    best_g = np.argsort(-mean_g, kind="stable")[:n_genes]
    return mean_g[best_g], np.asarray(counts_ng[:, best_g].sum(axis=1)).ravel()


def _effects(
    n_programs: int, n_genes: int, log_fold: float, draw: np.random.Generator
) -> NDArray[np.float64]:
    """Draw the genes of each program and by how much amount 1 raises their logarithm, p × g."""
    first = round(HOUSEKEEPING_SHARE * n_genes)
    effect_pg = np.zeros((n_programs, n_genes))
    for effect_g in effect_pg:
        genes = first + draw.choice(n_genes - first, round(PROGRAM_SHARE * n_genes), replace=False)
        effect_g[genes] = log_fold * draw.uniform(0.5, 1.5, len(genes))
    return effect_pg


def _batches(
    n_batches: int, n_cells: int, n_genes: int, draw: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw each cell's batch and each batch's effects, b × g; one batch has none."""
    spread = BATCH_SD if n_batches > 1 else 0.0
    return draw.integers(n_batches, size=n_cells), draw.normal(0.0, spread, (n_batches, n_genes))


def _counted(
    base_bg: NDArray[np.float64],
    batch_n: NDArray[np.int64],
    amount_np: NDArray[np.float64],
    effect_pg: NDArray[np.float64],
    depth_n: NDArray[np.float64],
    draw: np.random.Generator,
) -> AnnData:
    """Draw the counts, a block of cells at a time, and put what is known of cells and genes beside them."""
    from anndata import AnnData

    theta_g = THETA * np.exp(draw.normal(0.0, THETA_SPREAD, base_bg.shape[1]))
    blocks = []
    for start in range(0, len(depth_n), BLOCK_CELLS):
        part = slice(start, start + BLOCK_CELLS)
        rate_ng = np.exp(base_bg[batch_n[part]] + amount_np[part] @ effect_pg)
        rate_ng *= depth_n[part, None] / rate_ng.sum(axis=1, keepdims=True)
        rate_ng *= draw.gamma(theta_g, 1 / theta_g, rate_ng.shape)
        blocks.append(sparse.csr_matrix(draw.poisson(rate_ng).astype(np.float32)))
    adata = AnnData(sparse.vstack(blocks, format="csr"))
    adata.obs_names = [f"cell{number}" for number in range(adata.n_obs)]
    adata.var_names = [f"gene{number}" for number in range(adata.n_vars)]
    adata.obsm["activity"] = amount_np.astype(np.float32)
    adata.varm["effects"] = effect_pg.T.astype(np.float32)
    adata.var["theta"] = theta_g
    return adata
