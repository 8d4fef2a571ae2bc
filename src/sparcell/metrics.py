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


def auc(values: ArrayLike, chosen: ArrayLike) -> float:
    """Probability that a value among the chosen is above one among the others, ties counted half (area under the ROC curve).

    Both (n,), `chosen` true or false; nan where either group is empty.
    """
    from scipy.stats import rankdata

    chosen_n = np.asarray(chosen, dtype=bool)
    n_chosen, n_others = int(chosen_n.sum()), int((~chosen_n).sum())
    if n_chosen == 0 or n_others == 0:
        return float("nan")
    ranks = rankdata(values)[chosen_n].sum(dtype=np.float64)
    return float((ranks - n_chosen * (n_chosen + 1) / 2) / (n_chosen * n_others))
