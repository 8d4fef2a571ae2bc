"""Sparsity of a latent representation: arrays in, numbers out.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sparcell.metrics._arrays import as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

MAX_MEAN_INCLUSION = 0.9
"""A latent is sparse if its mean inclusion probability is below this: the latent is off in a tenth of the cells or more."""
MIN_FRACTION_SPARSE = 0.5
"""A model is sparse if more than this fraction of its active latents is sparse."""


class SparsitySummary(NamedTuple):
    """Whether a model with spikes became sparse.

    Examples
    --------
    ::

        latents = model.latent_representation(adata)
        summary = sp.metrics.sparsity_summary(latents.inclusion_nk, latents.active_k)
        summary.is_sparse
    """

    n_active: int
    """Number of active latents."""
    n_sparse: int
    """Number of active latents with a mean inclusion probability below 0.9."""
    mean_inclusion: float
    """Mean inclusion probability over the cells and the active latents; NaN without active latents."""

    @property
    def is_sparse(self) -> bool:
        """Whether more than half of the active latents are sparse; False without active latents."""
        return self.n_sparse > MIN_FRACTION_SPARSE * self.n_active


def sparsity_summary(inclusion_nk: ArrayLike, active_k: ArrayLike) -> SparsitySummary:
    """Return how many active latents are off in a tenth of the cells or more, and whether the model became sparse.

    A spike-and-slab model can keep every active latent on in every cell. Its latents are then dense, as in a beta-VAE, and are no gene
    programs that are on in some cells and off in others.

    Parameters
    ----------
    inclusion_nk
        Posterior inclusion probabilities, (n, k), as from `Model.inclusion_probability`.
    active_k
        Which latents are active, (k,), bool, as `active_latents` returns.

    Raises
    ------
    ValueError
        If `active_k` is not one bool per latent, or the probabilities are no matrix of numbers from 0 to 1.

    Examples
    --------
    >>> summary = sp.metrics.sparsity_summary([[1.0, 0.0, 0.5], [1.0, 1.0, 0.5]], [True, True, False])
    >>> summary.n_active, summary.n_sparse, summary.is_sparse
    (2, 1, False)
    """
    inclusion_nk = as_matrix(inclusion_nk, "inclusion_nk", "cells × latents")
    active_k = np.asarray(active_k)
    n_latent = inclusion_nk.shape[1]
    if active_k.dtype != bool or active_k.shape != (n_latent,):
        raise ValueError(
            f"active_k has shape {active_k.shape} and type {active_k.dtype}; expected one bool for each of the "
            f"{n_latent} latents."
        )
    if inclusion_nk.size and not 0 <= inclusion_nk.min() <= inclusion_nk.max() <= 1:
        raise ValueError(
            f"inclusion_nk ranges from {inclusion_nk.min():g} to {inclusion_nk.max():g}; expected probabilities from 0 to 1."
        )
    mean_k = inclusion_nk.mean(axis=0)[active_k]
    mean = float(mean_k.mean()) if len(mean_k) else float("nan")
    return SparsitySummary(len(mean_k), int((mean_k < MAX_MEAN_INCLUSION).sum()), mean)


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
