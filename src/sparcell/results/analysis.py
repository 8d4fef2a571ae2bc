"""The results of an analysis as plain arrays and tables: written by `analysis`, drawn by `pl`, described by `report`.

Suffixes: n cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from sparcell.results.criticism import Criticism
    from sparcell.results.expression import GeneExpression

    Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Doubt:
    """A reason to trust part of a result less."""

    what: str
    """In a few words."""
    why: str
    """What was seen, and what to do about it."""


@dataclass(frozen=True)
class AnalysisResults:
    """All that the report of an analysis shows; no field is a torch or AnnData object."""

    title: str
    """Name of the data."""
    cell_types: pd.Categorical
    """Name of the cluster of each cell, (n,)."""
    clusters: pd.Categorical
    """Leiden cluster of each cell, "0" the largest."""
    cluster_table: pd.DataFrame
    """A row per cluster: cluster, name, n_cells, share, genes (top markers), set, fdr, set_genes, second, stability, and with batches
    largest_batch and batch_share, with known labels label and label_share."""
    markers: pd.DataFrame
    """Table of `pp.rank_markers`."""
    umap_n2: Floats
    tsne_n2: Floats
    qc: pd.DataFrame
    """All cells before filtering: n_genes, total_counts, pct_mito, kept; limits in attrs."""
    doubts: tuple[Doubt, ...]
    names_source: str
    """Where the names of clusters come from, in words."""
    columns: Mapping[str, pd.Categorical] = field(default_factory=dict)
    """Further columns that color the maps: heading → value of each cell. Batch, condition and known labels."""
    type_column: str = "cell_type"
    """Column of obs that holds the names of the clusters: sparcell_cell_type if the data had a column cell_type."""
    composition: pd.DataFrame | None = None
    """Share of each cell type in each sample: columns cell_type, sample, condition, n_cells, share; None without batches and conditions."""
    composition_test: pd.DataFrame | None = None
    """A row per cell type: cell_type, for each condition the mean share, difference (log2), p, p_adjusted; None if not tested."""
    changes: pd.DataFrame | None = None
    """`Model.differential_expression` between two conditions within each cell type (column within); None if nothing is compared."""
    programs: tuple[str, str] | None = None
    """File of the page of gene programs, and its summary in a sentence."""
    criticism: Criticism | None = None
    """How well the model describes the cells."""
    expression: GeneExpression | None = None
    """Genes that the report can show on the maps, with the markers of the cell types."""
    history: pd.DataFrame | None = None
    """Epochs of the model: epoch, loss, reconstruction_loss, kl."""
    settings: dict[str, object] = field(default_factory=dict)
    """Settings of the model."""
    provenance: dict[str, object] = field(default_factory=dict)
    """Keys command, input, seeds, date, config, versions, machine, seconds, n_cells, n_genes, qc_limits."""
