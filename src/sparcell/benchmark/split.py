"""What every method of a benchmark is given alike: the cells, the genes, and which cells are held out.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from sparcell import io, pp
from sparcell.benchmark.methods import BATCH, HELD_OUT
from sparcell.errors import InputError, did_you_mean
from sparcell.experiments.provenance import digest_of, digest_of_matrix
from sparcell.io import labels
from sparcell.study.prepare import use_counts_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.config.experiments import BenchmarkConfig

log = logging.getLogger("sparcell")

TEST_SHARE, SPLIT_SEED = 0.1, 0
"""Share of the cells of each batch that is held out, and the seed they are drawn from: the same for every seed of a method."""

MIN_CELLS = 100
"""Cells with a label: scIB looks at 90 neighbours of each, and a tenth is held out."""


@dataclass(frozen=True)
class BenchmarkData:
    """The data of a benchmark."""

    cells: AnnData
    """Raw counts of the chosen genes in X; obs has HELD_OUT and, where there are batches, BATCH. Nothing else."""
    labels: pd.Categorical
    batches: pd.Categorical | None
    title: str
    n_genes_before: int
    n_dropped: int
    """Cells without any count in the chosen genes."""

    @property
    def digest(self) -> str:
        """Of all that a method sees: counts, names of cells and genes, batches, split; not of the labels."""
        parts = [digest_of_matrix(self.cells), self.cells.obs[HELD_OUT].tolist()]
        return digest_of([*parts, None if self.batches is None else self.batches.tolist()])

    @property
    def n_test(self) -> int:
        """Number of cells held out."""
        return int(self.cells.obs[HELD_OUT].sum())


def prepare(data: str | Path, config: BenchmarkConfig) -> BenchmarkData:
    """Read and check the data, choose the genes, hold cells out. Raises InputError before any long work."""
    adata = io.read(data)
    check_columns(adata, config)
    found = labels.labels_from_obs(adata, str(config.labels_key))
    batches = None if config.batch_key is None else batches_of(adata, config.batch_key)
    n_labelled = int((~pd.isna(found)).sum())
    if n_labelled < MIN_CELLS:
        raise InputError(
            f"{Path(data).name} has {n_labelled} cells with a label; expected at least {MIN_CELLS}, "
            "or scores say nothing: give more cells, or label more of them."
        )
    adata = use_counts_layer(adata, config.counts_layer)
    genes_g = variable_genes(adata, config)
    counts_ng = sparse.csr_matrix(adata.X, dtype=np.float32)[:, genes_g]
    kept_n = np.asarray(counts_ng.sum(axis=1)).ravel() > 0
    if not kept_n.all():
        log.info("%d cells have no count in the chosen genes and are left out", int((~kept_n).sum()))
    cells = AnnData(
        counts_ng[kept_n],
        obs=pd.DataFrame(index=adata.obs_names[kept_n].astype(str)),
        var=pd.DataFrame(index=adata.var_names[genes_g].astype(str)),
    )
    if batches is not None:
        batches = batches[kept_n].remove_unused_categories()
        cells.obs[BATCH] = batches
    cells.obs[HELD_OUT] = held_out(cells.n_obs, batches)
    return BenchmarkData(
        cells=cells,
        labels=found[kept_n].remove_unused_categories(),
        batches=batches,
        title=Path(data).name,
        n_genes_before=adata.n_vars,
        n_dropped=int((~kept_n).sum()),
    )


def check_columns(adata: AnnData, config: BenchmarkConfig) -> None:
    """Refuse what names no column, or one column twice."""
    known = [str(column) for column in adata.obs]
    if config.labels_key is None:
        raise InputError(
            "no labels are named, and without them there is nothing to score codes against; expected the column of obs "
            f"that holds the cell types: --labels-key KEY ({did_you_mean('cell_type', known)})"
        )
    if config.batch_key is not None and config.batch_key not in known:
        raise InputError(f"obs has no column {config.batch_key!r}: {did_you_mean(config.batch_key, known)}")
    if config.batch_key == config.labels_key:
        raise InputError(
            f"--batch-key and --labels-key are both {config.batch_key!r}; expected the column of the batches and that of the cell types."
        )


def batches_of(adata: AnnData, key: str) -> pd.Categorical:
    """Give the batch of each cell: two or more, none missing, not one for each cell."""
    from sparcell.pp.highly_variable import batches_of as cells_of

    members = cells_of(adata.obs, key)
    n_batches = len(members)
    if n_batches < 2:
        raise InputError(
            f"obs[{key!r}] holds one batch only ({next(iter(members), 'none')!r}); expected two or more: "
            "leave --batch-key out, or name another column."
        )
    if 2 * n_batches > adata.n_obs:
        raise InputError(
            f"obs[{key!r}] holds {n_batches} different values for {adata.n_obs} cells; expected batches that many cells share: "
            "name another column."
        )
    return pd.Categorical(adata.obs[key].astype(str), categories=list(members))


def variable_genes(adata: AnnData, config: BenchmarkConfig) -> NDArray[np.bool_]:
    """Mark the genes that every method sees, (g,)."""
    work = AnnData(obs=adata.obs.copy(), var=adata.var[[]].copy())
    work.layers["counts"] = adata.X
    pp.variable_genes(work, n_top_genes=config.n_top_genes, batch_key=config.batch_key)
    return np.asarray(work.var["highly_variable"], dtype=bool)


def held_out(n_cells: int, batches: pd.Categorical | None) -> NDArray[np.bool_]:
    """Mark a tenth of the cells of each batch, drawn from a seed of its own, (n,)."""
    generator = np.random.default_rng(SPLIT_SEED)
    codes_n = np.zeros(n_cells, dtype=np.int64) if batches is None else np.asarray(batches.codes)
    marked_n = np.zeros(n_cells, dtype=bool)
    for code in np.unique(codes_n):
        members = np.flatnonzero(codes_n == code)
        marked_n[generator.permutation(members)[: round(TEST_SHARE * len(members))]] = True
    return marked_n
