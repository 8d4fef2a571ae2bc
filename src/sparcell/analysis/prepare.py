"""Preparation of an analysis: read, check the columns, control quality, normalize, choose variable genes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from sparcell import pp
from sparcell.analysis.reference import query_cells
from sparcell.errors import InputError, did_you_mean
from sparcell.experiments.provenance import digest_of_matrix
from sparcell.io import obs_columns
from sparcell.io.files import title_of
from sparcell.io.samples import read_sample, sample_in_memory
from sparcell.pp.slots import require_same_counts
from sparcell.study.prepare import control_quality, use_counts_layer
from sparcell.tl.stability import copy_without_results

if TYPE_CHECKING:
    from anndata import AnnData

    from sparcell.analysis.reference import Reference
    from sparcell.config.analysis import AnalysisConfig


@dataclass(frozen=True)
class AnalysisData:
    """Cells that passed quality control, with layers counts and lognorm and var["highly_variable"]."""

    adata: AnnData
    qc: pd.DataFrame
    """Quality control of all cells, before filtering."""
    title: str
    digest: str
    sampled: str = ""
    """Which cells they are if they are not all, in words."""
    query: AnnData | None = None
    """With a reference: the same cells with all genes of the input, for the saved model."""

    def for_model(self) -> AnnData:
        """Return the cells that the model of the latent representation reads; results can be written into them."""
        return copy_without_results(self.adata if self.query is None else self.query)


def prepare(
    data: str | Path | Sequence[str | Path] | AnnData,
    config: AnalysisConfig,
    reference: Reference | None = None,
) -> AnalysisData:
    """Return the prepared cells; raise InputError, before any work, for missing columns and for values that are no counts."""
    if isinstance(data, str | Path | Sequence):
        adata, sampled = read_sample(
            data, config.n_cells, layer=config.layer, gene_symbols=config.gene_symbols, memory=config.memory
        )
        title = config.title or title_of(data)
    else:
        adata, sampled = sample_in_memory(data, config.n_cells, gene_symbols=config.gene_symbols)
        title = config.title or "data in memory"
    adata = use_counts_layer(adata, config.layer)
    require_same_counts(adata)
    for key in (config.batch_key, config.labels_key, config.condition_key):
        if key is not None and key not in adata.obs:
            raise InputError(f"obs has no column {key!r}: {did_you_mean(key, adata.obs)}")
    if config.condition_key is not None:
        check_conditions(adata.obs[config.condition_key])
    if reference is not None:
        reference.check(adata, config)
    digest = digest_of_matrix(adata)
    obs_columns.log_batch_hint(adata.obs, [config.batch_key, config.labels_key, config.condition_key])
    all_ng, cells, genes = adata.X, adata.obs_names, adata.var_names
    qc = control_quality(adata, config, config.batch_key)
    query = None
    if reference is not None:
        kept_ng = sparse.csr_matrix(all_ng, dtype=np.float32)[cells.get_indexer(adata.obs_names)]
        query = query_cells(kept_ng, genes, adata)
    adata.layers["counts"] = sparse.csr_matrix(adata.X, dtype=np.float32, copy=True)
    pp.lognormalize(adata, layer="counts")
    pp.variable_genes(adata, n_top_genes=config.n_top_genes, flavor=config.flavor, batch_key=config.batch_key)
    return AnalysisData(adata, qc, title, digest, sampled, query)


def check_conditions(condition_n: pd.Series) -> None:
    """Raise InputError for a column of obs that holds a single condition, or none for some cells."""
    n_missing = int(condition_n.isna().sum())
    if n_missing:
        raise InputError(
            f"obs column {condition_n.name} is empty for {n_missing} of {len(condition_n)} cells; expected a condition for each: fill them "
            f"in, or leave those cells out, in Python: adata[adata.obs[{condition_n.name!r}].notna()].copy()."
        )
    if condition_n.nunique() < 2:
        raise InputError(
            f"obs column {condition_n.name} holds one value; expected at least two conditions to compare."
        )
