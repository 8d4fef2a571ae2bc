"""Scores of a partition against labels: arrays in, floats out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


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


def label_aucs(values: ArrayLike, label: ArrayLike) -> NDArray[np.float64]:
    """Probability that a value of each label is above one of the other labels, ties counted half: areas under ROC curves.

    Parameters
    ----------
    values
        One number a cell, (n,).
    label
        Its label as a number from 0, (n,): two labels or more, each of them occurs.

    Returns
    -------
    One area a label, (c,).
    """
    from scipy.stats import rankdata

    size_c = np.bincount(label).astype(np.float64)
    rank_c = np.bincount(label, weights=rankdata(values))
    return np.asarray((rank_c - size_c * (size_c + 1) / 2) / (size_c * (size_c.sum() - size_c)))
