"""Simulated counts with known gene programs: programs that are on or off, and programs along branching paths of differentiation.

Suffixes: n cells, g genes, p programs, b batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell.datasets.pbmc3k import pbmc3k
from sparcell.errors import InputError

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

PROGRAM_FRACTION = 0.05
"""Fraction of the genes in each simulated program."""

HOUSEKEEPING_FRACTION = 0.05
"""This fraction of the genes, the most expressed ones, is in no program. In blood these are ribosomal genes with half of the counts."""

THETA, THETA_SPREAD = 10.0, 0.5
"""Median over genes of the inverse dispersion (variance = mean + mean² / theta), and the standard deviation of its logarithm."""

BATCH_SD = 0.3
"""Standard deviation of a batch effect, in natural logarithms."""

BRANCH_ACTIVITY = 2.0
"""Activity of the program of a branch at the end of the branch, its highest. The mean over the cells of the branch is 1."""

BLOCK_CELLS = 4096
"""Number of cells whose counts are drawn at a time, which avoids a dense matrix of all cells."""


def simulate_programs(
    n_programs: int = 12,
    n_genes: int = 2000,
    n_cells: int = 2700,
    fraction_on: float = 0.25,
    n_batches: int = 1,
    log_fold: float = 1.0,
    seed: int = 0,
) -> AnnData:
    """Return simulated counts of cells in which a few gene programs are on, with the depths and gene means of PBMC3k.

    ::

        s_np ~ Bernoulli(fraction_on)     a_np = s_np · Gamma(shape 4, mean 1)
        w_pg = log_fold · Uniform(0.5, 1.5) for the program's genes, else 0
        v_bg ~ Normal(0, 0.3²) with several batches, else 0
        r_ng = m_g · exp(Σ_p a_np w_pg + v_bg)        mu_ng = t_n · r_ng / Σ_g r_ng
        x_ng ~ Poisson(mu_ng · Gamma(shape theta_g, mean 1)), so its variance is mu + mu² / theta_g
        log theta_g ~ Normal(log 10, 0.5²)

    m_g are the mean counts of PBMC3k's `n_genes` most expressed genes, highest first. t_n is drawn from the totals of PBMC3k's cells over
    these genes. A program has a twentieth of the genes, drawn from all but the most expressed twentieth; two programs share some genes by
    chance. With the same seed, programs, activities and depths do not depend on `n_batches`.

    Parameters
    ----------
    n_programs, n_genes, n_cells, n_batches
        Numbers of programs, genes, cells and batches. Each cell is assigned to a random batch.
    fraction_on
        Probability that a program is on in a cell, above 0 and up to 1.
    log_fold
        Mean effect of a program with activity 1 on its genes, as a natural logarithm of the fold change.
    seed
        Random seed. The same seed gives the same data.

    Returns
    -------
    X: counts (CSR, float32). obsm["activity"]: a, (n, p), float32, exactly 0 where a program is off. varm["effects"]: w, (g, p), float32.
    var["theta"]: inverse dispersion. uns["source"]: how the data was simulated. With several batches also obs["batch"] (categorical "1",
    "2", …) and varm["batch_effects"]: v, (g, b), float32.

    Raises
    ------
    InputError
        If a number is out of range, or PBMC3k has fewer genes with counts than `n_genes`.

    Examples
    --------
    >>> adata = sp.datasets.simulate_programs(n_programs=6, n_genes=100, n_cells=50)
    >>> adata.obsm["activity"].shape
    (50, 6)
    """
    _check_numbers(fraction_on, {"n_programs": n_programs, "n_cells": n_cells, "n_batches": n_batches})
    mean_g, total_n = _pbmc3k_means_and_totals(n_genes)
    generators = np.random.default_rng(seed).spawn(4)
    effect_pg = _effects(n_programs, n_genes, log_fold, generators[0])
    on_np = generators[1].random((n_cells, n_programs)) < fraction_on
    activity_np = np.where(on_np, generators[1].gamma(4.0, 1 / 4, on_np.shape), 0.0)
    depth_n = generators[1].choice(total_n, n_cells)
    batch_n, shift_bg = _batches(n_batches, n_cells, n_genes, generators[2])
    adata = _counts(np.log(mean_g) + shift_bg, batch_n, activity_np, effect_pg, depth_n, generators[3])
    if n_batches > 1:
        adata.obs["batch"] = pd.Categorical(batch_n + 1).rename_categories(str)
        adata.varm["batch_effects"] = shift_bg.T.astype(np.float32)
    adata.uns["source"] = (
        f"simulate_programs: {n_programs} programs, each on in a fraction {fraction_on:g} of the cells, seed {seed}"
    )
    return adata


def simulate_branches(
    n_fates: int = 6,
    n_genes: int = 2000,
    n_cells: int = 2700,
    log_fold: float = 1.0,
    seed: int = 0,
) -> AnnData:
    """Return simulated counts of cells on branching paths of differentiation, with the depths and gene means of PBMC3k.

    The paths are a binary tree of 2 · n_fates - 1 branches. Branch "1" starts at the root; "11" and "12" follow branch "1". The branch
    closest to the root splits first, so all fates are about equally far from the root. Each branch has one program, which changes
    smoothly. A cell at position t of its branch, from 0 to 1, has the activities

    ::

        2 sin²(π t / 2)   of the program of its branch
        2 cos²(π t / 2)   of the program of the branch before
        0                 of all other programs

    so a program rises along its branch and falls along the next branches. Cells lie on all branches with equal probability, and t is
    uniform. Effects, depths and noise are those of `simulate_programs`. No cell belongs to a distinct type.

    Parameters
    ----------
    n_fates
        Number of branches at whose end no other branch starts, 2 or more.
    n_genes, n_cells
        Numbers of genes and cells.
    log_fold
        Mean effect of a program with activity 1 on its genes, as a natural logarithm of the fold change.
    seed
        Random seed. The same seed gives the same data.

    Returns
    -------
    X: counts (CSR, float32). obs["branch"]: name of the branch (categorical). obs["pseudotime"]: distance from the root, in branches.
    obsm["activity"]: activities, (n, p), float32, one column per branch in the order of the categories. varm["effects"], var["theta"],
    uns["source"]: as in `simulate_programs`.

    Raises
    ------
    InputError
        If a number is out of range, or PBMC3k has fewer genes with counts than `n_genes`.

    Examples
    --------
    >>> adata = sp.datasets.simulate_branches(n_fates=2, n_genes=100, n_cells=50)
    >>> list(adata.obs["branch"].cat.categories)
    ['1', '11', '12']
    """
    _check_numbers(1.0, {"n_cells": n_cells})
    if n_fates < 2:
        raise InputError(f"n_fates is {n_fates}; expected 2 or more.")
    mean_g, total_n = _pbmc3k_means_and_totals(n_genes)
    generators = np.random.default_rng(seed).spawn(3)
    names = _branch_names(n_fates)
    effect_pg = _effects(len(names), n_genes, log_fold, generators[0])
    branch_n = generators[1].integers(len(names), size=n_cells)
    position_n = generators[1].random(n_cells)
    depth_n = generators[1].choice(total_n, n_cells)
    before_n = np.array([names.index(name[:-1]) if len(name) > 1 else -1 for name in names])[branch_n]
    activity_np = np.zeros((n_cells, len(names)))
    later_n = np.flatnonzero(before_n >= 0)
    activity_np[later_n, before_n[later_n]] = BRANCH_ACTIVITY * np.cos(np.pi / 2 * position_n[later_n]) ** 2
    activity_np[np.arange(n_cells), branch_n] = BRANCH_ACTIVITY * np.sin(np.pi / 2 * position_n) ** 2
    no_batch_n = np.zeros(n_cells, dtype=np.int64)
    adata = _counts(np.log(mean_g)[None], no_batch_n, activity_np, effect_pg, depth_n, generators[2])
    adata.obs["branch"] = pd.Categorical(np.array(names)[branch_n], categories=names)
    adata.obs["pseudotime"] = position_n + np.array([len(name) - 1 for name in names])[branch_n]
    adata.uns["source"] = f"simulate_branches: {n_fates} fates, {len(names)} branches, seed {seed}"
    return adata


def thin_counts(adata: AnnData, fraction: float, seed: int = 0) -> AnnData:
    """Return a copy of cells as sequenced less deeply: each count is kept with a probability.

    Every value x of X becomes a draw from Binomial(x, fraction). Thinned negative binomial counts are negative binomial with the same
    inverse dispersion and a mean that is lower by `fraction`. Cells may be left without counts.

    Parameters
    ----------
    adata
        Raw counts in X. Nothing is written into it. obs, var, obsm, varm and uns are copied; layers, raw and obsp are left out, since
        they may hold the counts before thinning.
    fraction
        Probability that a count is kept, above 0 and up to 1.
    seed
        Random seed. The same seed gives the same data.

    Returns
    -------
    AnnData of the same cells and genes. X: counts (CSR, float32).

    Raises
    ------
    InputError
        If X holds no raw counts, or the fraction is out of range.

    Examples
    --------
    >>> adata = sp.datasets.simulate_programs(n_programs=6, n_genes=100, n_cells=50)
    >>> shallow = sp.datasets.thin_counts(adata, fraction=0.25)
    >>> bool(shallow.X.sum() < 0.3 * adata.X.sum())
    True
    """
    from anndata import AnnData

    if not 0 < fraction <= 1:
        raise InputError(f"fraction is {fraction}; expected a probability above 0 and up to 1.")
    counts_ng = whole_counts(adata)
    counts_ng.data = np.random.default_rng(seed).binomial(counts_ng.data.astype(np.int64), fraction)
    counts_ng.eliminate_zeros()
    return AnnData(
        counts_ng.astype(np.float32),
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        obsm=dict(adata.obsm),
        varm=dict(adata.varm),
        uns=dict(adata.uns),
    )


def whole_counts(adata: AnnData) -> sparse.csr_matrix:
    """Return a copy of X, whole numbers as float64 in CSR; raise InputError if X holds other values."""
    counts_ng = sparse.csr_matrix(adata.X, dtype=np.float64, copy=True)
    if (counts_ng.data < 0).any() or (counts_ng.data != np.round(counts_ng.data)).any():
        raise InputError(
            "X holds values that are no counts; expected raw counts, which thinning draws from. Put the raw counts into X."
        )
    return counts_ng


def _branch_names(n_fates: int) -> list[str]:
    """Return the names of the branches, sorted: the path of turns from the root, which starts as "1"."""
    names, open_names = ["1"], ["1"]
    for _ in range(n_fates - 1):
        split = open_names.pop(0)
        children = [f"{split}1", f"{split}2"]
        names += children
        open_names += children
    return sorted(names)


def _check_numbers(fraction_on: float, numbers: dict[str, int]) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise InputError(f"{name} is {number}; expected 1 or more.")
    if not 0 < fraction_on <= 1:
        raise InputError(f"fraction_on is {fraction_on}; expected a probability above 0 and up to 1.")


def _pbmc3k_means_and_totals(n_genes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the means of PBMC3k's most expressed genes, highest first, and the totals of its cells over these genes."""
    counts_ng = pbmc3k().X.astype(np.float64).tocsc()
    mean_g = np.asarray(counts_ng.mean(axis=0)).ravel()
    n_expressed = int((mean_g > 0).sum())
    smallest = round(1 / PROGRAM_FRACTION)
    if not smallest <= n_genes <= n_expressed:
        raise InputError(
            f"n_genes is {n_genes}; expected a number from {smallest} (so that each program has a gene) to {n_expressed} "
            "(the genes with counts in PBMC3k)."
        )
    top_g = np.argsort(-mean_g, kind="stable")[:n_genes]
    return mean_g[top_g], np.asarray(counts_ng[:, top_g].sum(axis=1)).ravel()


def _effects(
    n_programs: int, n_genes: int, log_fold: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return the effect of activity 1 of each program on the logarithm of each gene's mean, (p, g)."""
    n_housekeeping = round(HOUSEKEEPING_FRACTION * n_genes)
    n_program_genes = round(PROGRAM_FRACTION * n_genes)
    effect_pg = np.zeros((n_programs, n_genes))
    for effect_g in effect_pg:
        offsets = generator.choice(n_genes - n_housekeeping, n_program_genes, replace=False)
        genes = n_housekeeping + offsets
        effect_g[genes] = log_fold * generator.uniform(0.5, 1.5, len(genes))
    return effect_pg


def _batches(
    n_batches: int, n_cells: int, n_genes: int, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the batch of each cell and the effects of each batch, (b, g); a single batch has no effect."""
    sd = BATCH_SD if n_batches > 1 else 0.0
    return generator.integers(n_batches, size=n_cells), generator.normal(0.0, sd, (n_batches, n_genes))


def _counts(
    base_bg: NDArray[np.float64],
    batch_n: NDArray[np.int64],
    activity_np: NDArray[np.float64],
    effect_pg: NDArray[np.float64],
    depth_n: NDArray[np.float64],
    generator: np.random.Generator,
) -> AnnData:
    """Return AnnData with simulated counts, activities, effects and theta; counts are drawn a block of cells at a time."""
    from anndata import AnnData

    theta_g = THETA * np.exp(generator.normal(0.0, THETA_SPREAD, base_bg.shape[1]))
    blocks = []
    for start in range(0, len(depth_n), BLOCK_CELLS):
        block = slice(start, start + BLOCK_CELLS)
        rate_ng = np.exp(base_bg[batch_n[block]] + activity_np[block] @ effect_pg)
        rate_ng *= depth_n[block, None] / rate_ng.sum(axis=1, keepdims=True)
        rate_ng *= generator.gamma(theta_g, 1 / theta_g, rate_ng.shape)
        blocks.append(sparse.csr_matrix(generator.poisson(rate_ng).astype(np.float32)))
    adata = AnnData(sparse.vstack(blocks, format="csr"))
    adata.obs_names = [f"cell{number}" for number in range(adata.n_obs)]
    adata.var_names = [f"gene{number}" for number in range(adata.n_vars)]
    adata.obsm["activity"] = activity_np.astype(np.float32)
    adata.varm["effects"] = effect_pg.T.astype(np.float32)
    adata.var["theta"] = theta_g
    return adata
