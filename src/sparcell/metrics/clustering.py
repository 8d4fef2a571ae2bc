"""Agreement of partitions and single values with labels: arrays in, floats or arrays out.

Suffixes: n cells, c labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def clustering_scores(labels: ArrayLike, partition: ArrayLike) -> dict[str, float]:
    """Return the agreement of a partition with labels, by the four scores of the 2019 study.

    Parameters
    ----------
    labels, partition
        One value per cell, (n,).

    Returns
    -------
    Scores by name: nmi (normalized by the arithmetic mean of the entropies), ari, homogeneity and completeness (Rosenberg & Hirschberg
    2007). 1 is perfect agreement.

    Examples
    --------
    >>> sp.metrics.clustering_scores(["B", "B", "NK"], [0, 0, 1])["nmi"]
    1.0
    """
    from sklearn import metrics as sk

    return {
        "nmi": float(sk.normalized_mutual_info_score(labels, partition)),
        "ari": float(sk.adjusted_rand_score(labels, partition)),
        "homogeneity": float(sk.homogeneity_score(labels, partition)),
        "completeness": float(sk.completeness_score(labels, partition)),
    }


def label_aucs(values: ArrayLike, label: ArrayLike) -> NDArray[np.float64]:
    """Return the area under the ROC curve of each label against all others, (c,).

    The area is the probability that a value of this label is above a value of another label; ties count half.

    Parameters
    ----------
    values
        One number per cell, (n,).
    label
        The label of each cell as a number from 0, (n,). There are two labels or more, and each of them occurs.

    Examples
    --------
    >>> sp.metrics.label_aucs([0.1, 0.2, 0.9], [0, 0, 1])
    array([0., 1.])
    """
    from scipy.stats import rankdata

    size_c = np.bincount(label).astype(np.float64)
    rank_c = np.bincount(label, weights=rankdata(values))
    return np.asarray((rank_c - size_c * (size_c + 1) / 2) / (size_c * (size_c.sum() - size_c)))
