"""Sparsity of a latent representation: arrays in, floats out.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.metrics._arrays import as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def mean_included(value_nk: ArrayLike, threshold: float) -> float:
    """Return the mean number of latents per cell with an absolute value above a threshold.

    Parameters
    ----------
    value_nk
        Posterior inclusion probabilities, (n, k), usually with the threshold 0.5. Or latents with exact zeros, with the threshold 0.
    threshold
        0 or more, in the unit of the values.

    Raises
    ------
    ValueError
        If the threshold is below 0, or the values are no matrix of finite numbers.

    Examples
    --------
    >>> sp.metrics.mean_included([[0.9, 0.1], [0.8, 0.7]], threshold=0.5)
    1.5
    """
    value_nk = as_matrix(value_nk, "value_nk", "cells × latents")
    if not threshold >= 0:
        raise ValueError(
            f"threshold is {threshold}; expected 0 or more: 0.5 for inclusion probabilities, 0 for latents with exact zeros."
        )
    return float((np.abs(value_nk) > threshold).sum(axis=1).mean())


def hoyer_sparsity(latent_nk: ArrayLike) -> float:
    """Return the mean over cells of Hoyer's sparsity of their latents (Hoyer 2004, JMLR 5).

    ::

        (√k - Σ_k |z_k| / √Σ_k z_k²) / (√k - 1)        0: all latents equally large; 1: a single latent

    Hoyer's sparsity depends on the units of the latents. Divide each latent by its standard deviation first if the units carry no meaning.

    Parameters
    ----------
    latent_nk
        Latent representation, (n, k), of 2 latents or more. A cell whose latents are all 0 has no sparsity and does not enter the mean. The
        mean is NaN if no cell is left.

    Raises
    ------
    ValueError
        If there is a single latent, or the latents are no matrix of finite numbers.

    Examples
    --------
    >>> sp.metrics.hoyer_sparsity([[1, 1, -1, 1], [0, 0, 2, 0]])
    0.5
    """
    latent_nk = as_matrix(latent_nk, "latent_nk", "cells × latents")
    root = np.sqrt(latent_nk.shape[1])
    if root == 1:
        raise ValueError("latent_nk has 1 latent; Hoyer's sparsity expects 2 or more.")
    size_nk = np.abs(latent_nk[latent_nk.any(axis=1)])
    if not len(size_nk):
        return float("nan")
    size_nk = size_nk / size_nk.max(axis=1, keepdims=True)
    ratio_n = size_nk.sum(axis=1) / np.sqrt((size_nk**2).sum(axis=1))
    return float(((root - ratio_n) / (root - 1)).mean().clip(0, 1))
