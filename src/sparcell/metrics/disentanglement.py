"""How readable a code is: arrays in, floats or arrays out.

Suffixes: n cells, k latents, c categories, b bins or blocks of tied cells, p planted factors, g genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import entr

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

N_BINS = 10
"""Bins of equal width into which a latent is cut for its mutual information (Moinfar & Theis, DRVI)."""


class FactorMatch(NamedTuple):
    """Planted factors and the latents they were matched to, one to one."""

    mean: float
    """Mean of `correlation_p`: MCC."""
    correlation_p: Floats
    """abs(Pearson r) of each factor with its latent; 0 for a factor without one."""
    latent_p: NDArray[np.intp]
    """The latent of each factor; -1 for a factor without one."""


class Reproducibility(NamedTuple):
    """What became of every program of every seed in the other seeds; one array (k,) a seed, in the order given."""

    share: tuple[Floats, ...]
    """Share of the other seeds in which the program was found."""
    correlation: tuple[Floats, ...]
    """Correlation with the program it was matched to, mean over the other seeds; 0 where there was none left."""
    matches: tuple[Floats, ...]
    """The same for each other seed, one matrix (others, k) a seed, the others in the order given."""


def scaled_mutual_information(latent_nk: ArrayLike, labels: ArrayLike, n_bins: int = N_BINS) -> Floats:
    """Scaled mutual information (SMI) of every latent with every category.

    ::

        SMI_kc = I(bin of z_k; 1[cell is in c]) / H(1[cell is in c])        from 0 to 1

    The bins have equal widths from the latent's least value to its greatest, so SMI keeps its value when a latent is shifted,
    scaled or turned round, but not under every monotone transform: where one cell lies far out, the others share a bin. By
    chance I is about (bins - 1) / (2n) nats, not 0.

    This is the definition of the DRVI package (`SMI`, version 3 of its benchmark). The preprint (Moinfar & Theis 2024) took
    I from the nearest-neighbour estimator of Ross 2014; the package left it because of scikit-learn's issue 30772.

    Parameters
    ----------
    code_nk
        Codes, (n, k). No latent is split into directions, and none is dropped: see `disentanglement_scores`.
    labels
        One value a cell, (n,), or membership, 0 or 1, (n, c): a cell may be in several categories or in none.
    n_bins
        2 or more.

    Returns
    -------
    (k, c); categories stand in the order of `numpy.unique(labels)`, or as the columns of the membership.
    """
    latent_nk = _matrix(latent_nk, "latent_nk", "cells × latents")
    member_nc = _membership(labels, len(latent_nk), least=1)
    if n_bins < 2:
        raise ValueError(f"n_bins is {n_bins}; expected 2 or more.")
    share_c = member_nc.mean(axis=0)
    entropy_c = entr(share_c) + entr(1 - share_c)
    score_kc = np.empty((latent_nk.shape[1], len(share_c)))
    for latent, code_n in enumerate(latent_nk.T):
        inner = np.linspace(code_n.min(), code_n.max(), n_bins + 1)[1:-1]
        bin_n = np.searchsorted(inner, code_n, side="right")
        inside_bc = np.eye(n_bins)[bin_n].T @ member_nc
        size_b = np.bincount(bin_n, minlength=n_bins)[:, None]
        share_bc = inside_bc / np.maximum(size_b, 1)
        left_c = (size_b / len(code_n) * (entr(share_bc) + entr(1 - share_bc))).sum(axis=0)
        score_kc[latent] = 1 - left_c / entropy_c
    return score_kc.clip(0, 1)


def same_process_neighbours(latent_nk: ArrayLike, labels: ArrayLike) -> Floats:
    """Same-process neighbours (SPN) of every latent and every category (Moinfar & Theis 2024, DRVI).

    ::

        a_kc   = number of pairs of cells of c that stand next to each other when all cells are sorted by z_k
        SPN_kc = max(0, a_kc / (n_c - 1) - n_c / n) / (1 - n_c / n)        from 0 to 1

    n_c / n is what a_kc / (n_c - 1) is on average over random orders. SPN depends on the order only: it keeps its value under
    every strictly monotone transform. Where cells tie (a latent that is off in many cells is exactly 0 in all of them) DRVI's
    code leaves them in the order of the sort; here a_kc is its exact mean over all orders of the tied cells. A block of m
    tied cells, m_c of them of c, holds m_c (m_c - 1) / m pairs, and between two blocks stand (m_c / m) (m'_c / m') more. So
    a constant latent scores 0 however the cells were sorted, and without ties nothing differs.

    Parameters
    ----------
    code_nk, labels
        As for `scaled_mutual_information`; each category has 2 cells or more.

    Returns
    -------
    (k, c), in the same order.
    """
    latent_nk = _matrix(latent_nk, "latent_nk", "cells × latents")
    member_nc = _membership(labels, len(latent_nk), least=2)
    size_c, chance_c = member_nc.sum(axis=0), member_nc.mean(axis=0)
    score_kc = np.empty((latent_nk.shape[1], len(size_c)))
    for latent, code_n in enumerate(latent_nk.T):
        order = np.argsort(code_n)
        first_b = np.flatnonzero(np.diff(code_n[order], prepend=-np.inf))
        inside_bc = np.add.reduceat(member_nc[order], first_b, axis=0)
        share_bc = inside_bc / np.diff(first_b, append=len(code_n))[:, None]
        pairs_c = (share_bc * (inside_bc - 1)).sum(axis=0) + (share_bc[:-1] * share_bc[1:]).sum(axis=0)
        score_kc[latent] = (pairs_c / (size_c - 1) - chance_c) / (1 - chance_c)
    return score_kc.clip(0, 1)


def latent_matching_score(score_kc: ArrayLike) -> float:
    """LMS: match latents and categories one to one (Hungarian) and average over categories what the matched pairs score.

    A category that finds no latent, where there are fewer latents than categories, counts 0 (Moinfar & Theis 2024, DRVI).

    Parameters
    ----------
    score_kc
        SMI, SPN or another score, (k, c).
    """
    score_kc = _matrix(score_kc, "score_kc", "latents × categories")
    latents, categories = linear_sum_assignment(score_kc, maximize=True)
    return float(score_kc[latents, categories].sum() / score_kc.shape[1])


def most_similar_averaging_score(score_kc: ArrayLike) -> float:
    """MSAS: what each category's best latent scores, averaged over categories; latents may serve several (DRVI)."""
    return float(_matrix(score_kc, "score_kc", "latents × categories").max(axis=0).mean())


def most_similar_gap_score(score_kc: ArrayLike) -> float:
    """MSGS: by how much each category's best latent is ahead of its second best, averaged over categories (DRVI).

    A latent that is alone is ahead of 0; DRVI's code expects two or more.
    """
    score_kc = _matrix(score_kc, "score_kc", "latents × categories")
    ranked_kc = np.sort(score_kc, axis=0)
    second_c = ranked_kc[-2] if len(ranked_kc) > 1 else 0
    return float((ranked_kc[-1] - second_c).mean())


def disentanglement_scores(
    latent_nk: ArrayLike, labels: ArrayLike, active_k: ArrayLike | None = None
) -> dict[str, float]:
    """LMS, MSAS and MSGS of SMI and of SPN: is each category in one latent, and in one only?

    Parameters
    ----------
    code_nk, labels
        As for `scaled_mutual_information`; each category has 2 cells or more.
    live_k
        Which latents count, (k,), as `sparcell.metrics.live_latents` tells for a model with a prior; None counts all, as
        DRVI's benchmark does. SMI and SPN do not see a latent's scale, so a vanished latent whose code still varies by a
        millionth is scored like any other. A latent that is left out scores 0, which is the same as dropping it.

    Returns
    -------
    lms_smi, msas_smi, msgs_smi, lms_spn, msas_spn, msgs_spn.
    """
    latent_nk = _matrix(latent_nk, "latent_nk", "cells × latents")
    live = np.ones(latent_nk.shape[1], bool) if active_k is None else np.asarray(active_k)
    if live.dtype != bool or live.shape != (latent_nk.shape[1],):
        found = f"live_k has shape {live.shape} and type {live.dtype}"
        raise ValueError(f"{found}; expected one bool for each of the {latent_nk.shape[1]} latents.")
    return averaged(single_latent_scores(latent_nk, labels), live)


def single_latent_scores(latent_nk: ArrayLike, labels: ArrayLike) -> dict[str, Floats]:
    """SMI and SPN of every latent with every category, (k, c) each; arguments as for `disentanglement_scores`."""
    return {
        "smi": scaled_mutual_information(latent_nk, labels),
        "spn": same_process_neighbours(latent_nk, labels),
    }


def averaged(scores: Mapping[str, Floats], active_k: NDArray[np.bool_]) -> dict[str, float]:
    """LMS, MSAS and MSGS of each of `single_latent_scores`, over the latents that are live."""
    found = {}
    for name, score_kc in scores.items():
        counted_kc = np.where(active_k[:, None], score_kc, 0)
        found[f"lms_{name}"] = latent_matching_score(counted_kc)
        found[f"msas_{name}"] = most_similar_averaging_score(counted_kc)
        found[f"msgs_{name}"] = most_similar_gap_score(counted_kc)
    return found


def matched_correlation(latent_nk: ArrayLike, factor_np: ArrayLike) -> FactorMatch:
    """Match planted factors to latents one to one, by abs(Pearson r), so that the sum is greatest (Hungarian).

    The mean is the MCC of the literature on identifiability (Hyvärinen & Morioka 2016), over all factors: one that finds no
    latent, where there are fewer latents than factors, counts 0. A constant latent correlates 0 with everything.

    Parameters
    ----------
    code_nk
        Codes, (n, k).
    factor_np
        What was planted, (n, p); none is constant.
    """
    latent_nk = _matrix(latent_nk, "latent_nk", "cells × latents")
    factor_np = _matrix(factor_np, "factor_np", "cells × factors")
    if len(latent_nk) != len(factor_np):
        raise ValueError(
            f"code_nk has {len(latent_nk)} cells and factor_np {len(factor_np)}; expected the same cells."
        )
    constant = np.flatnonzero(np.ptp(factor_np, axis=0) == 0)
    if len(constant):
        raise ValueError(f"factor {constant[0]} is constant, so nothing correlates with it; leave it out.")
    correlation_pk = np.abs(_correlations(factor_np, latent_nk))
    factors, latents = linear_sum_assignment(correlation_pk, maximize=True)
    correlation_p = np.zeros(factor_np.shape[1])
    latent_p = np.full(factor_np.shape[1], -1, np.intp)
    correlation_p[factors], latent_p[factors] = correlation_pk[factors, latents], latents
    return FactorMatch(float(correlation_p.mean()), correlation_p, latent_p)


def latents_on(value_nk: ArrayLike, threshold: float) -> float:
    """Mean number of latents that are on in a cell: those with abs(value) above the threshold.

    Parameters
    ----------
    value_nk
        Inclusion probabilities gamma, (n, k), usually with threshold .5; or codes with exact zeros, with threshold 0.
    threshold
        0 or more, in the unit of the values.
    """
    value_nk = _matrix(value_nk, "value_nk", "cells × latents")
    if not threshold >= 0:
        raise ValueError(
            f"threshold is {threshold}; expected 0 or more: .5 for gamma, 0 for codes with exact zeros."
        )
    return float((np.abs(value_nk) > threshold).sum(axis=1).mean())


def hoyer_sparsity(latent_nk: ArrayLike) -> float:
    """Hoyer's sparsity of a cell's code (Hoyer 2004, JMLR 5), mean over cells.

    ::

        (√k - Σ_k |z_k| / √Σ_k z_k²) / (√k - 1)        0: all latents equally large; 1: one latent alone

    It sees the latents' units: divide each by its standard deviation first where these say nothing.

    Parameters
    ----------
    code_nk
        Codes, (n, k), of 2 latents or more. A cell whose code is 0 throughout has no sparsity and is left out of the mean;
        where all are, the mean is NaN.
    """
    latent_nk = _matrix(latent_nk, "latent_nk", "cells × latents")
    root = np.sqrt(latent_nk.shape[1])
    if root == 1:
        raise ValueError("code_nk has 1 latent; Hoyer's sparsity expects 2 or more.")
    size_nk = np.abs(latent_nk[latent_nk.any(axis=1)])
    if not len(size_nk):
        return float("nan")
    size_nk = size_nk / size_nk.max(axis=1, keepdims=True)
    ratio_n = size_nk.sum(axis=1) / np.sqrt((size_nk**2).sum(axis=1))
    return float(((root - ratio_n) / (root - 1)).mean().clip(0, 1))


def program_reproducibility(
    effects: Sequence[ArrayLike], threshold: float = 0.8, *, signed: bool = False
) -> Reproducibility:
    """Look for each seed's programs in every other seed.

    The programs of two seeds are matched one to one by the correlation of their gene effects, so that the sum is greatest
    (Hungarian); a program is found where the correlation with its match reaches the threshold. With fewer programs in the
    other seed some find no match: not found, correlation 0. A program without effects is never found.

    Parameters
    ----------
    effects
        Gene effects, one matrix (g, k) a seed, of the same genes in the same order; k may differ. Give live latents only:
        vanished ones count as programs that are not found.
    threshold
        Least correlation, above 0 and up to 1.
    signed
        Take the correlation as it is, as for effects that are nonnegative; else abs(r), because a latent may be turned round.
    """
    matrices = [
        _matrix(effect_gk, f"effects[{seed}]", "genes × programs") for seed, effect_gk in enumerate(effects)
    ]
    if len(matrices) < 2:
        raise ValueError(f"effects holds {len(matrices)} seeds; expected 2 or more.")
    n_genes = [len(effect_gk) for effect_gk in matrices]
    if len(set(n_genes)) > 1:
        raise ValueError(f"effects have {n_genes} genes; expected the same genes in every seed.")
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold is {threshold}; expected a correlation above 0 and up to 1.")
    matched = [np.zeros((len(matrices), effect_gk.shape[1])) for effect_gk in matrices]
    for one, other in combinations(range(len(matrices)), 2):
        correlation = _correlations(matrices[one], matrices[other])
        correlation = correlation if signed else np.abs(correlation)
        mine, theirs = linear_sum_assignment(correlation, maximize=True)
        matched[one][other, mine] = matched[other][one, theirs] = correlation[mine, theirs]
    n_others = len(matrices) - 1
    return Reproducibility(
        tuple((found >= threshold).sum(axis=0) / n_others for found in matched),
        tuple(found.sum(axis=0) / n_others for found in matched),
        tuple(np.delete(found, seed, axis=0) for seed, found in enumerate(matched)),
    )


def _correlations(a_nk: Floats, b_np: Floats) -> Floats:
    """Pearson r of every column of one with every column of the other, (k, p); 0 where a column is constant."""
    unit = []
    for x in (a_nk, b_np):
        varies = np.ptp(x, axis=0) > 0
        centred = np.where(varies, x - x.mean(axis=0), 0)
        unit.append(centred / np.where(varies, np.linalg.norm(centred, axis=0), 1))
    return np.asarray((unit[0].T @ unit[1]).clip(-1, 1))


def _matrix(values: ArrayLike, name: str, axes: str) -> Floats:
    """The values as float64, once they are known to be a matrix of finite numbers with something in it."""
    try:
        matrix = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not a matrix of numbers; expected {axes}.") from None
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"{name} has shape {matrix.shape}; expected {axes}, with 1 or more of each.")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} holds NaN or infinite values; expected finite numbers.")
    return matrix


def _membership(labels: ArrayLike, n_cells: int, least: int) -> Floats:
    """Which cell is in which category, 0 or 1, (n, c), once each category has `least` cells or more and not all cells."""
    import pandas as pd

    given = np.asarray(labels)
    if given.ndim not in (1, 2) or len(given) != n_cells or not given.size:
        raise ValueError(
            f"labels have shape {given.shape}; expected one value for each of the {n_cells} cells, or cells × categories."
        )
    if given.ndim == 2:
        names = np.arange(given.shape[1])
        if not np.isin(given, (0, 1)).all():
            raise ValueError("labels of cells × categories hold other values than 0 and 1.")
        member_nc = given.astype(np.float64)
    else:
        missing = int(pd.isna(given).sum())
        if missing:
            raise ValueError(f"{missing} cells have no label; leave them out.")
        code_n, names = pd.factorize(given, sort=True)
        member_nc = np.eye(len(names))[code_n]
    for name, size in zip(names.tolist(), member_nc.sum(axis=0), strict=True):
        if size < least or size == n_cells:
            expected = f"expected {least} or more, and not all {n_cells}"
            raise ValueError(f"category {name!r} has {size:.0f} cells; {expected}.")
    return member_nc
