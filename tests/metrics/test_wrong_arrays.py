"""Wrong arrays get one clear error."""

from __future__ import annotations

import numpy as np
import pytest

from sparcell.metrics.disentanglement import (
    disentanglement_scores,
    latent_matching_score,
    same_process_neighbors,
    scaled_mutual_information,
)
from sparcell.metrics.matching import matched_correlation, program_reproducibility
from sparcell.metrics.sparsity import hoyer_sparsity, mean_included

LATENT_NK = np.arange(12.0).reshape(6, 2)
LABELS = list("aabbcc")
WRONG_CALLS = {
    "a vector as latents": (
        lambda: scaled_mutual_information(LATENT_NK[:, 0], LABELS),
        r"latent_nk has shape \(6,\)",
    ),
    "no latents": (
        lambda: same_process_neighbors(LATENT_NK[:, :0], LABELS),
        r"shape \(6, 0\); expected cells",
    ),
    "words as latents": (lambda: hoyer_sparsity([["x", "y"]]), "latent_nk is not a matrix of numbers"),
    "NaN": (lambda: mean_included(np.full((2, 2), np.nan), 0), "value_nk holds NaN"),
    "too few labels": (
        lambda: disentanglement_scores(LATENT_NK, LABELS[:5]),
        r"\(5,\); expected one value .* 6 cells",
    ),
    "a missing label": (
        lambda: same_process_neighbors(LATENT_NK, [*LABELS[:5], None]),
        "1 cells have no label",
    ),
    "one label": (
        lambda: scaled_mutual_information(LATENT_NK, ["a"] * 6),
        "'a' has 6 cells; expected 1 or more, and",
    ),
    "a lone cell": (
        lambda: same_process_neighbors(LATENT_NK, list("aabbbc")),
        "'c' has 1 cells; expected 2 or more",
    ),
    "no membership": (lambda: scaled_mutual_information(LATENT_NK, LATENT_NK), "other values than 0 and 1"),
    "an empty category": (
        lambda: scaled_mutual_information(LATENT_NK, np.eye(6, 7)),
        "category 6 has 0 cells",
    ),
    "one bin": (lambda: scaled_mutual_information(LATENT_NK, LABELS, 1), "n_bins is 1; expected 2"),
    "active latents by number": (
        lambda: disentanglement_scores(LATENT_NK, LABELS, [0, 1]),
        "active_k .* one bool for each of the 2",
    ),
    "other cells": (lambda: matched_correlation(LATENT_NK, LATENT_NK[1:]), "6 cells and factor_np 5"),
    "a constant factor": (lambda: matched_correlation(LATENT_NK, LATENT_NK * [1, 0]), "factor 1 is constant"),
    "a threshold below 0": (lambda: mean_included(LATENT_NK, -1), "threshold is -1; expected 0 or more"),
    "a single latent": (lambda: hoyer_sparsity(LATENT_NK[:, :1]), "1 latent; Hoyer's sparsity expects 2"),
    "a single seed": (lambda: program_reproducibility([LATENT_NK]), "holds 1 seeds; expected 2"),
    "other genes": (lambda: program_reproducibility([LATENT_NK, LATENT_NK[1:]]), r"\[6, 5\] genes"),
    "no threshold": (
        lambda: program_reproducibility([LATENT_NK] * 2, 0),
        "threshold is 0; expected a correlation",
    ),
    "a bad table": (lambda: latent_matching_score([1, 2]), r"score_kc has shape \(2,\)"),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_arrays_get_one_clear_error(name):
    call, message = WRONG_CALLS[name]
    with pytest.raises(ValueError, match=message):
        call()
