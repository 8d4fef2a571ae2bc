"""Metrics: arrays in, floats or arrays out."""

from __future__ import annotations

from sparcell.metrics.active_latents import active_latents, predict_active_latents
from sparcell.metrics.clustering import clustering_scores, label_aucs
from sparcell.metrics.disentanglement import (
    disentanglement_scores,
    latent_matching_score,
    most_similar_averaging_score,
    most_similar_gap_score,
    same_process_neighbors,
    scaled_mutual_information,
)
from sparcell.metrics.matching import (
    FactorMatch,
    Reproducibility,
    matched_correlation,
    program_reproducibility,
)
from sparcell.metrics.scib import scib_scores
from sparcell.metrics.sparsity import SparsitySummary, hoyer_sparsity, mean_included, sparsity_summary

__all__ = [
    "FactorMatch",
    "Reproducibility",
    "SparsitySummary",
    "active_latents",
    "clustering_scores",
    "disentanglement_scores",
    "hoyer_sparsity",
    "label_aucs",
    "latent_matching_score",
    "matched_correlation",
    "mean_included",
    "most_similar_averaging_score",
    "most_similar_gap_score",
    "predict_active_latents",
    "program_reproducibility",
    "same_process_neighbors",
    "scaled_mutual_information",
    "scib_scores",
    "sparsity_summary",
]


def __dir__() -> list[str]:
    return list(__all__)
