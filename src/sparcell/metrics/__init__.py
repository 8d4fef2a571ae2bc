"""Scores: arrays in, floats or arrays out."""

from __future__ import annotations

from sparcell.metrics.clustering import clustering_scores, expected_live, label_aucs, live_latents
from sparcell.metrics.disentanglement import (
    Matching,
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
    "Matching",
    "Reproducibility",
    "clustering_scores",
    "disentanglement_scores",
    "expected_live",
    "hoyer_sparsity",
    "label_aucs",
    "latent_matching_score",
    "latents_on",
    "live_latents",
    "matched_correlation",
    "most_similar_averaging_score",
    "most_similar_gap_score",
    "program_reproducibility",
    "same_process_neighbours",
    "scaled_mutual_information",
]


def __dir__() -> list[str]:
    return list(__all__)
