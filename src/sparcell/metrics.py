"""Scores: arrays in, floats out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LIVE_VARIANCE = 0.01
"""A latent is live when its code varies over cells by more than this (Burda, Grosse & Salakhutdinov 2016, "active units")."""


def clustering_scores(labels: ArrayLike, partition: ArrayLike) -> dict[str, float]:
    """Compare a partition with known labels, as the seed study does.

    Parameters
    ----------
    labels, partition
        One value a cell, (n,).

    Returns
    -------
    nmi (arithmetic mean of the entropies), ari, homogeneity and completeness (Rosenberg & Hirschberg 2007).
    """
    from sklearn import metrics as sk

    return {
        "nmi": float(sk.normalized_mutual_info_score(labels, partition)),
        "ari": float(sk.adjusted_rand_score(labels, partition)),
        "homogeneity": float(sk.homogeneity_score(labels, partition)),
        "completeness": float(sk.completeness_score(labels, partition)),
    }


def live_latents(code_nk: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which latents carry anything, (k,): variance of the code over cells above LIVE_VARIANCE."""
    return np.asarray(code_nk.var(axis=0) > LIVE_VARIANCE)
