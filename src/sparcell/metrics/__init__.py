"""Scores: arrays in, floats or arrays out."""

from __future__ import annotations

from sparcell.metrics.active_latents import active_latents, predict_active_latents
from sparcell.metrics.clustering import clustering_scores, label_aucs
from sparcell.metrics.disentanglement import (
    FactorMatch,
    Reproducibility,
    disentanglement_scores,
    hoyer_sparsity,
    latent_matching_score,
    latents_on,
    matched_correlation,
    most_similar_averaging_score,
    most_similar_gap_score,
    program_reproducibility,
    same_process_neighbours,
    scaled_mutual_information,
)

__all__ = [
    "FactorMatch",
    "Reproducibility",
    "active_latents",
    "clustering_scores",
    "disentanglement_scores",
    "hoyer_sparsity",
    "label_aucs",
    "latent_matching_score",
    "latents_on",
    "matched_correlation",
    "most_similar_averaging_score",
    "most_similar_gap_score",
    "predict_active_latents",
    "program_reproducibility",
    "same_process_neighbours",
    "scaled_mutual_information",
]


def __dir__() -> list[str]:
    return list(__all__)
