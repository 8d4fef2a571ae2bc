"""Disentanglement: whether each category is captured by one latent, and by one only. Arrays in, floats or arrays out.

Suffixes: n cells, k latents, c categories, b bins or blocks of tied cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import entr

from sparcell.metrics._arrays import as_matrix, membership

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

N_BINS = 10
"""Default number of bins of equal width for the mutual information of a latent (Moinfar & Theis, DRVI)."""


def scaled_mutual_information(latent_nk: ArrayLike, labels: ArrayLike, n_bins: int = N_BINS) -> Floats:
    """Return the scaled mutual information (SMI) of every latent with every category, (k, c).

    ::

        SMI_kc = I(bin of z_k; 1[cell is in c]) / H(1[cell is in c])        from 0 to 1

    The bins have equal widths from the latent's minimum to its maximum. SMI therefore does not change when a latent is shifted, scaled or
    reversed, but it does change under other monotone transforms: one outlying cell makes all other cells share a bin. The mutual
    information of an unrelated latent is about (bins - 1) / (2n) nats, not 0.

    This is the definition of the DRVI package (`SMI`, version 3 of its benchmark). The preprint (Moinfar & Theis 2024) used the
    nearest-neighbor estimator of Ross 2014; the package dropped that estimator because of scikit-learn's issue 30772.

    Parameters
    ----------
    latent_nk
        Latent representation, (n, k). Latents are neither split into directions nor dropped: see `disentanglement_scores`.
    labels
        One value per cell, (n,), or membership, 0 or 1, (n, c). With membership, a cell may be in several categories or in none.
    n_bins
        Number of bins; 2 or more.

    Returns
    -------
    Scores, (k, c). Categories are in the order of `numpy.unique(labels)`, or of the columns of the membership.

    Raises
    ------
    ValueError
        If an array has the wrong shape or holds NaN, or a category is empty or holds all cells.

    Examples
    --------
    >>> z_nk = [[0.0], [0.1], [0.9], [1.0]]
    >>> sp.metrics.scaled_mutual_information(z_nk, ["a", "a", "b", "b"], n_bins=2)
    array([[1., 1.]])
    """
    latent_nk = as_matrix(latent_nk, "latent_nk", "cells × latents")
    member_nc = membership(labels, len(latent_nk), min_size=1)
    if n_bins < 2:
        raise ValueError(f"n_bins is {n_bins}; expected 2 or more.")
    fraction_c = member_nc.mean(axis=0)
    entropy_c = entr(fraction_c) + entr(1 - fraction_c)
    score_kc = np.empty((latent_nk.shape[1], len(fraction_c)))
    for latent, z_n in enumerate(latent_nk.T):
        edges = np.linspace(z_n.min(), z_n.max(), n_bins + 1)[1:-1]
        bin_n = np.searchsorted(edges, z_n, side="right")
        members_bc = np.eye(n_bins)[bin_n].T @ member_nc
        size_b1 = np.bincount(bin_n, minlength=n_bins)[:, None]
        fraction_bc = members_bc / np.maximum(size_b1, 1)
        conditional_c = (size_b1 / len(z_n) * (entr(fraction_bc) + entr(1 - fraction_bc))).sum(axis=0)
        score_kc[latent] = 1 - conditional_c / entropy_c
    return score_kc.clip(0, 1)


def same_process_neighbors(latent_nk: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the same-process neighbors score (SPN) of every latent with every category, (k, c) (Moinfar & Theis 2024, DRVI).

    ::

        a_kc   = number of adjacent pairs of cells that are both in c, when all cells are sorted by z_k
        SPN_kc = max(0, a_kc / (n_c - 1) - n_c / n) / (1 - n_c / n)        from 0 to 1

    n_c / n is the mean of a_kc / (n_c - 1) over random orders. SPN depends on the order only, so it does not change under strictly
    monotone transforms.

    Ties: a latent that is off in many cells is exactly 0 in all of them. DRVI's code keeps tied cells in the order of the sort. Here a_kc
    is the exact mean over all orders of the tied cells. A block of m tied cells with m_c cells of c holds m_c (m_c - 1) / m pairs, and
    two adjacent blocks add (m_c / m) (m'_c / m') pairs. A constant latent therefore scores 0 in any order of the cells. Without ties both
    definitions agree.

    Parameters
    ----------
    latent_nk, labels
        As for `scaled_mutual_information`; each category needs 2 cells or more.

    Returns
    -------
    Scores, (k, c), in the same order.

    Raises
    ------
    ValueError
        As for `scaled_mutual_information`.

    Examples
    --------
    >>> z_nk = [[0.0], [0.1], [0.9], [1.0]]
    >>> sp.metrics.same_process_neighbors(z_nk, ["a", "a", "b", "b"])
    array([[1., 1.]])
    """
    latent_nk = as_matrix(latent_nk, "latent_nk", "cells × latents")
    member_nc = membership(labels, len(latent_nk), min_size=2)
    size_c, chance_c = member_nc.sum(axis=0), member_nc.mean(axis=0)
    score_kc = np.empty((latent_nk.shape[1], len(size_c)))
    for latent, z_n in enumerate(latent_nk.T):
        order = np.argsort(z_n)
        start_b = np.flatnonzero(np.diff(z_n[order], prepend=-np.inf))
        members_bc = np.add.reduceat(member_nc[order], start_b, axis=0)
        fraction_bc = members_bc / np.diff(start_b, append=len(z_n))[:, None]
        within_c = (fraction_bc * (members_bc - 1)).sum(axis=0)
        between_c = (fraction_bc[:-1] * fraction_bc[1:]).sum(axis=0)
        pairs_c = within_c + between_c
        score_kc[latent] = (pairs_c / (size_c - 1) - chance_c) / (1 - chance_c)
    return score_kc.clip(0, 1)


def latent_matching_score(score_kc: ArrayLike) -> float:
    """Return the latent matching score (LMS): the mean score over categories, each matched to a latent of its own (DRVI).

    The Hungarian algorithm matches latents and categories one to one. A category without a latent counts 0, if there are fewer latents
    than categories (Moinfar & Theis 2024).

    Parameters
    ----------
    score_kc
        SMI, SPN or another score of latents and categories, (k, c).

    Examples
    --------
    >>> sp.metrics.latent_matching_score([[0.9, 0.8], [0.7, 0.2]])
    0.75
    """
    score_kc = as_matrix(score_kc, "score_kc", "latents × categories")
    latents, categories = linear_sum_assignment(score_kc, maximize=True)
    return float(score_kc[latents, categories].sum() / score_kc.shape[1])


def most_similar_averaging_score(score_kc: ArrayLike) -> float:
    """Return the most similar averaging score (MSAS): the mean over categories of the best latent's score (DRVI).

    One latent may serve several categories.

    Parameters
    ----------
    score_kc
        As for `latent_matching_score`.

    Examples
    --------
    >>> sp.metrics.most_similar_averaging_score([[0.5, 0.75], [0.25, 0.0]])
    0.625
    """
    return float(as_matrix(score_kc, "score_kc", "latents × categories").max(axis=0).mean())


def most_similar_gap_score(score_kc: ArrayLike) -> float:
    """Return the most similar gap score (MSGS): the mean over categories of the best latent's lead over the second best (DRVI).

    A single latent leads over 0; DRVI's code expects two latents or more.

    Parameters
    ----------
    score_kc
        As for `latent_matching_score`.

    Examples
    --------
    >>> sp.metrics.most_similar_gap_score([[0.5, 0.75], [0.25, 0.0]])
    0.5
    """
    score_kc = as_matrix(score_kc, "score_kc", "latents × categories")
    ranked_kc = np.sort(score_kc, axis=0)
    second_c = ranked_kc[-2] if len(ranked_kc) > 1 else 0
    return float((ranked_kc[-1] - second_c).mean())


def disentanglement_scores(
    latent_nk: ArrayLike, labels: ArrayLike, active_k: ArrayLike | None = None
) -> dict[str, float]:
    """Return LMS, MSAS and MSGS of SMI and of SPN: whether each category is in one latent, and in one only.

    Parameters
    ----------
    latent_nk, labels
        As for `scaled_mutual_information`; each category needs 2 cells or more.
    active_k
        Which latents count, (k,), bool, as `active_latents` returns for a model with a prior. Default: all latents, as in DRVI's
        benchmark. SMI and SPN do not see the scale of a latent, so without this argument an inactive latent that varies by a millionth is
        scored like any other. A latent that does not count scores 0, which is the same as dropping it.

    Returns
    -------
    Scores from 0 to 1 by name: lms_smi, msas_smi, msgs_smi, lms_spn, msas_spn, msgs_spn.

    Raises
    ------
    ValueError
        As for `scaled_mutual_information`, or if `active_k` is not one bool per latent.

    Examples
    --------
    >>> z_nk = [[0, 1], [0, 1], [1, 0], [1, 0]]
    >>> scores = sp.metrics.disentanglement_scores(z_nk, ["a", "a", "b", "b"])
    >>> scores["lms_smi"], scores["msgs_smi"]
    (1.0, 0.0)
    """
    latent_nk = as_matrix(latent_nk, "latent_nk", "cells × latents")
    n_latent = latent_nk.shape[1]
    counted_k = np.ones(n_latent, bool) if active_k is None else np.asarray(active_k)
    if counted_k.dtype != bool or counted_k.shape != (n_latent,):
        raise ValueError(
            f"active_k has shape {counted_k.shape} and type {counted_k.dtype}; expected one bool for each of the "
            f"{n_latent} latents."
        )
    return aggregate_scores(per_latent_scores(latent_nk, labels), counted_k)


def per_latent_scores(latent_nk: ArrayLike, labels: ArrayLike) -> dict[str, Floats]:
    """Return SMI and SPN of every latent with every category, (k, c) each; arguments as for `disentanglement_scores`."""
    return {
        "smi": scaled_mutual_information(latent_nk, labels),
        "spn": same_process_neighbors(latent_nk, labels),
    }


def aggregate_scores(scores: Mapping[str, Floats], active_k: NDArray[np.bool_]) -> dict[str, float]:
    """Return LMS, MSAS and MSGS of each of `per_latent_scores`, over the active latents."""
    aggregates = {}
    for name, score_kc in scores.items():
        counted_kc = np.where(active_k[:, None], score_kc, 0)
        aggregates[f"lms_{name}"] = latent_matching_score(counted_kc)
        aggregates[f"msas_{name}"] = most_similar_averaging_score(counted_kc)
        aggregates[f"msgs_{name}"] = most_similar_gap_score(counted_kc)
    return aggregates
