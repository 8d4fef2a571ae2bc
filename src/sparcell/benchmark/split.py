"""The data that every method of a benchmark gets: cells, genes, and the split into training and held-out cells.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from sparcell import pp
from sparcell.benchmark.methods import BATCH, HELD_OUT
from sparcell.benchmark.treatments import treatment_warning
from sparcell.errors import InputError, did_you_mean
from sparcell.experiments.provenance import digest_of, digest_of_matrix
from sparcell.io import labels
from sparcell.io.files import title_of
from sparcell.io.samples import read_sample
from sparcell.study.prepare import use_counts_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sparcell.config.experiments import BenchmarkConfig

log = logging.getLogger("sparcell")

TEST_FRACTION, SPLIT_SEED = 0.1, 0
"""Fraction of the cells of each batch that is held out, and the seed of the split, which is the same for all methods and seeds."""

MIN_CELLS = 100
"""Minimum number of cells with a label: scIB uses 90 neighbors of each cell, and a tenth of the cells is held out."""


@dataclass(frozen=True)
class BenchmarkData:
    """The data of a benchmark."""

    cells: AnnData
    """Raw counts of the chosen genes in X. obs has HELD_OUT and, if there are batches, BATCH; no other fields are set."""
    labels: pd.Categorical
    batches: pd.Categorical | None
    title: str
    n_genes_before: int
    n_dropped: int
    """Number of cells without counts in the chosen genes."""
    batch_warning: str = ""
    """Set if the batches look like treatments; see `treatment_warning`."""
    sampled: str = ""
    """Set if the cells are some of those of the file: "50,000 of 1,000,000 cells, drawn at random"."""

    @property
    def digest(self) -> str:
        """Digest of all that a method gets: counts, names of cells and genes, batches, split. Labels are not included."""
        parts = [digest_of_matrix(self.cells), self.cells.obs[HELD_OUT].tolist()]
        return digest_of([*parts, None if self.batches is None else self.batches.tolist()])

    @property
    def n_test(self) -> int:
        """Number of held-out cells."""
        return int(self.cells.obs[HELD_OUT].sum())


def prepare(data: str | Path | Sequence[str | Path], config: BenchmarkConfig) -> BenchmarkData:
    """Read and check the data, choose the genes, and split the cells. Raises InputError before any long computation."""
    adata, sampled = read_sample(
        data, config.n_cells, layer=config.layer, gene_symbols=config.gene_symbols, memory=config.memory
    )
    check_columns(adata, config)
    cell_labels = labels.labels_from_obs(adata, str(config.labels_key))
    batches = None if config.batch_key is None else batches_of(adata, config.batch_key)
    batch_warning = "" if batches is None else treatment_warning(str(config.batch_key), batches.categories)
    if batch_warning:
        log.warning("warning: %s", batch_warning)
    n_labeled = int((~pd.isna(cell_labels)).sum())
    if n_labeled < MIN_CELLS:
        raise InputError(
            f"{title_of(data)} has {n_labeled} cells with a label; expected at least {MIN_CELLS} for meaningful scores. "
            "Add cells, or label more of them."
        )
    adata = use_counts_layer(adata, config.layer)
    genes_g = variable_genes(adata, config)
    counts_ng = sparse.csr_matrix(adata.X, dtype=np.float32)[:, genes_g]
    nonzero_n = np.asarray(counts_ng.sum(axis=1)).ravel() > 0
    n_dropped = int((~nonzero_n).sum())
    if n_dropped:
        log.info("%d cells without counts in the chosen genes are left out", n_dropped)
    cells = AnnData(
        counts_ng[nonzero_n],
        obs=pd.DataFrame(index=adata.obs_names[nonzero_n].astype(str)),
        var=pd.DataFrame(index=adata.var_names[genes_g].astype(str)),
    )
    if batches is not None:
        batches = batches[nonzero_n].remove_unused_categories()
        cells.obs[BATCH] = batches
    cells.obs[HELD_OUT] = held_out(cells.n_obs, batches)
    return BenchmarkData(
        cells=cells,
        labels=cell_labels[nonzero_n].remove_unused_categories(),
        batches=batches,
        title=config.title or title_of(data),
        n_genes_before=adata.n_vars,
        n_dropped=n_dropped,
        batch_warning=batch_warning,
        sampled=sampled,
    )


def check_columns(adata: AnnData, config: BenchmarkConfig) -> None:
    """Raise InputError for missing columns, or for one column used twice."""
    columns = [str(column) for column in adata.obs]
    if config.labels_key is None:
        raise InputError(
            "no labels are named, so there is nothing to score against; expected the column of obs with the cell types: "
            f"--labels-key KEY ({did_you_mean('cell_type', columns)})"
        )
    if config.batch_key is not None and config.batch_key not in columns:
        raise InputError(f"obs has no column {config.batch_key!r}: {did_you_mean(config.batch_key, columns)}")
    if config.batch_key == config.labels_key:
        raise InputError(
            f"--batch-key and --labels-key are both {config.batch_key!r}; expected one column of batches and one of cell types."
        )


def batches_of(adata: AnnData, key: str) -> pd.Categorical:
    """Return the batch of each cell; raise InputError for a missing value, a single batch, or nearly as many batches as cells."""
    from sparcell.pp.highly_variable import batches_of as cells_of_batches

    members = cells_of_batches(adata.obs, key)
    n_batches = len(members)
    if n_batches < 2:
        raise InputError(
            f"obs[{key!r}] holds one batch only ({next(iter(members), 'none')!r}); expected two or more. "
            "Leave --batch-key out, or name another column."
        )
    if 2 * n_batches > adata.n_obs:
        raise InputError(
            f"obs[{key!r}] holds {n_batches} different values for {adata.n_obs} cells; expected batches of many cells. "
            "Name another column."
        )
    return pd.Categorical(adata.obs[key].astype(str), categories=list(members))


def variable_genes(adata: AnnData, config: BenchmarkConfig) -> NDArray[np.bool_]:
    """Return the mask of the highly variable genes, which all methods use, (g,)."""
    work = AnnData(obs=adata.obs.copy(), var=adata.var[[]].copy())
    work.layers["counts"] = adata.X
    pp.variable_genes(work, n_top_genes=config.n_top_genes, flavor=config.flavor, batch_key=config.batch_key)
    return np.asarray(work.var["highly_variable"], dtype=bool)


def held_out(n_cells: int, batches: pd.Categorical | None) -> NDArray[np.bool_]:
    """Return the mask of the held-out cells, TEST_FRACTION of each batch at random, (n,)."""
    generator = np.random.default_rng(SPLIT_SEED)
    batch_n = np.zeros(n_cells, dtype=np.int64) if batches is None else np.asarray(batches.codes)
    mask_n = np.zeros(n_cells, dtype=bool)
    for batch in np.unique(batch_n):
        members = np.flatnonzero(batch_n == batch)
        mask_n[generator.permutation(members)[: round(TEST_FRACTION * len(members))]] = True
    return mask_n
