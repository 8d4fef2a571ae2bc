"""The results of a study as plain arrays and tables: written by `study`, drawn by `pl`, described by `report`.

Suffixes: n cells, k latents, c clusters, m generated cells, s interpolation steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from sparcell.results.expression import GeneExpression

    Floats = NDArray[np.floating]
    Ints = NDArray[np.integer]

CLUSTERING_METRICS = ("nmi", "ari", "homogeneity", "completeness")
"""The four clustering scores of the 2019 study, in the order they are shown."""

PRIMARY_SPACE = "tsne2d"
"""The space in which the 2019 study clusters: the 2-D t-SNE map."""


@dataclass(frozen=True)
class MethodResult:
    """One method with its settings. Arrays are those of the first seed; the tables of the results hold all seeds."""

    name: str
    """Unique, as in the `model` column of the tables: "beta-vae", "beta-vae-hvg", "pca-10"."""
    title: str
    """Name for people: "β-VAE", "β-VAE, variable genes", "PCA, 10 components"."""
    model: str | None
    """Key in MODELS; None for a method of another package."""
    preset: str
    """Group of the method: in a study the preset ("study-2019", "hvg", …) or "baseline", in a benchmark the kind of method."""
    settings: dict[str, object]
    """Hyperparameters and data settings; empty for a baseline of a study."""
    latent_nk: Floats
    """Latent representation."""
    tsne2d_n2: Floats
    kmeans_n: Ints
    """K-means cluster of each cell on the 2-D map, 0 … c-1."""
    centroids_c2: Floats
    tsne3d_n3: Floats | None = None
    inclusion_nk: Floats | None = None
    """Posterior inclusion probabilities; only models with spikes."""
    kl_k: Floats | None = None
    """Mean KL of each latent in nats; None where the model has none."""
    active_k: NDArray[np.bool_] | None = None
    """Active latents: see `metrics.active_latents`."""
    generated_m2: Floats | None = None
    """Cells sampled from the prior, decoded, encoded again, and placed on the 2-D map."""
    interpolated_s2: Floats | None = None
    """Interpolation between two real cells, decoded, encoded again, and placed on the 2-D map."""
    interpolated_labels: tuple[str, str] | None = None
    """Cell types of the first and the last cell of the interpolation."""


@dataclass(frozen=True)
class StudyResults:
    """All that the report of a study shows; no field is a torch or AnnData object."""

    title: str
    """Name of the data."""
    labels: pd.Categorical
    """Length n. Cells without a label hold a missing value and are not scored."""
    label_source: str
    """In words: "column seurat of labels.csv" or "markers on Louvain clusters of 10 principal components", "Louvain clusters of …"."""
    labels_from_pca: bool
    """Whether the labels come from a clustering of principal components, or agree with one. PCA then has an advantage by construction."""
    rows: tuple[MethodResult, ...]
    scores: pd.DataFrame
    """Columns model, seed, space, nmi, ari, homogeneity, completeness."""
    times: pd.DataFrame
    """Columns model, seed, epochs, train_seconds."""
    history: pd.DataFrame
    """Columns model, seed, epoch, loss, reconstruction_loss, kl: nats per cell, means over the epoch."""
    qc: pd.DataFrame
    """All cells before filtering: n_genes, total_counts, pct_mito, kept. Empty when the input came filtered."""
    program_pages: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Name of a method → (file beside the report that shows its gene programs, summary of that page in a sentence)."""
    batches: pd.Categorical | None = None
    """Batch of each cell; None if no batches are given."""
    expression: GeneExpression | None = None
    """Genes that the report can show on the maps, with the markers of the labels."""
    provenance: dict[str, object] = field(default_factory=dict)
    """Keys command, versions, seeds, input, machine, n_cells, n_genes, seconds, qc_limits."""
