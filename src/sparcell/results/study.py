"""What a study found, as plain arrays and tables: written by `study`, drawn by `pl`, told by `report`.

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

    Floats = NDArray[np.floating]
    Ints = NDArray[np.integer]

MEASURES = ("nmi", "ari", "homogeneity", "completeness")
"""The seed's four clustering scores, in the order they are shown."""

PRIMARY_SPACE = "tsne2d"
"""Where the seed clusters: the 2-D t-SNE map."""


@dataclass(frozen=True)
class MethodResult:
    """One method under one preset. Arrays are those of the first seed; scores over all seeds stand in `Results.scores`."""

    name: str
    """Unique, as in the `model` column of the tables: "beta-vae", "beta-vae-hvg", "pca-10"."""
    title: str
    """For people: "β-VAE", "β-VAE, 2,000 variable genes", "PCA, 10 components"."""
    model: str | None
    """Key in MODELS; None for a baseline."""
    preset: str
    """"seed", "hvg" or "baseline"."""
    settings: dict[str, object]
    """Hyper-parameters and data settings; empty for a baseline."""
    latent_nk: Floats
    tsne2d_n2: Floats
    kmeans_n: Ints
    """K-means partition of the 2-D map, 0 … c-1."""
    centroids_c2: Floats
    tsne3d_n3: Floats | None = None
    inclusion_nk: Floats | None = None
    """Posterior inclusion probabilities; only models with spikes."""
    kl_k: Floats | None = None
    """Mean KL of each latent in nats; None where the model has none."""
    active_k: NDArray[np.bool_] | None = None
    """Latents that carry anything: variance of the code over cells above .01 (Burda et al. 2016)."""
    generated_m2: Floats | None = None
    """New cells decoded from the prior, encoded again, placed on this row's 2-D map."""
    interpolated_s2: Floats | None = None
    """The walk between two real cells, decoded, encoded again, placed on the map."""
    interpolated_labels: tuple[str, str] | None = None


@dataclass(frozen=True)
class StudyResults:
    """Everything a report needs; nothing in it knows torch or AnnData."""

    title: str
    """Name of the data, for the head of the page."""
    labels: pd.Categorical
    """Length n. Cells without a label hold a missing value and count in no score."""
    label_source: str
    """In words: "column seurat of labels.csv" or "markers on Louvain clusters of 10 principal components"."""
    labels_from_pca: bool
    """Whether the labels come from, or agree with, a clustering of principal components: an advantage for PCA by construction."""
    rows: tuple[MethodResult, ...]
    scores: pd.DataFrame
    """Columns model, seed, space, nmi, ari, homogeneity, completeness."""
    times: pd.DataFrame
    """Columns model, seed, epochs, train_seconds."""
    history: pd.DataFrame
    """Columns model, seed, epoch, loss, nll, kl: nats per cell, means over the epoch."""
    qc: pd.DataFrame
    """All cells before filtering: n_genes, total_counts, pct_mito, kept. Empty when the input came filtered."""
    program_pages: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Row → file beside the report that shows its gene programs, and what stands there in a sentence."""
    provenance: dict[str, object] = field(default_factory=dict)
    """Keys command, versions, seeds, input, machine, n_cells, n_genes, seconds."""
