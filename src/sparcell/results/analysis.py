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


UNKNOWN = "unknown"
"""Name of a cluster whose markers fit no cell type, and type of a cell that is far from every type of a reference."""


@dataclass(frozen=True)
class Doubt:
    """A reason to trust part of a result less."""

    what: str
    """In a few words."""
    why: str
    """What was seen, and what to do about it."""


@dataclass(frozen=True)
class ReferenceMapping:
    """A saved model onto which the cells of an analysis were mapped."""

    name: str
    """Folder of the model."""
    model: str
    """Name of the model's class."""
    n_cells: int | None
    """Cells that the model was trained on."""
    n_genes: int
    missing: tuple[str, ...]
    """Genes of the model that the data lacks; they count as 0."""
    batch_key: str | None
    batches: tuple[str, ...]
    """Batches of the cells; () for a model without batches."""
    new: tuple[str, ...]
    """Those that the model did not know."""
    trained: tuple[str, ...]
    """Those whose parameters were trained."""
    labels_key: str | None = None
    """Column whose labels the model has learned and predicts; None if it has learned none."""
    predicted: pd.Categorical | None = None
    """Predicted type of each cell, or "unknown", (n,)."""


@dataclass(frozen=True)
class AnalysisResults:
    """All that the report of an analysis shows; no field is a torch or AnnData object."""

    title: str
    """Name of the data."""
    cell_types: pd.Categorical
    """Cell type of each cell, (n,): the name of its cluster, which several clusters can share."""
    clusters: pd.Categorical
    """Leiden cluster of each cell, "0" the largest."""
    cluster_table: pd.DataFrame
    """A row per cluster: cluster, name, title (the name, with the cluster if others share it), n_cells, share, genes (top markers), set,
    fdr, set_genes, second, stability.

    With batches also largest_batch and batch_share, with known labels label and label_share (of all cells of the cluster; "" and 0 if none
    of them has a label), with types of a reference predicted, predicted_share and unknown_share."""
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
    program_changes: pd.DataFrame | None = None
    """`tl.program_conditions` within each cell type, with the name of each program; None if nothing is compared."""
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
    reference: ReferenceMapping | None = None
    """The saved model that was used in place of a new one."""
    provenance: dict[str, object] = field(default_factory=dict)
    """Keys command, input, seeds, date, config, versions, machine, seconds, n_cells, n_genes, qc_limits."""
