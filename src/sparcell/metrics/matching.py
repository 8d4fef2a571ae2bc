"""One-to-one matching: true factors with latents, and the programs of one seed with those of another. Arrays in, floats or arrays out.

Suffixes: n cells, k latents, p true factors, g genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from sparcell.metrics._arrays import as_matrix

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]


class FactorMatch(NamedTuple):
    """True factors and the latents that they are matched to, one to one.

    Examples
    --------
    ::

        match = sp.metrics.matched_correlation(model.transform(adata), activity_np)
    """

    mean: float
    """Mean of `correlation_p`: the mean correlation coefficient (MCC)."""
    correlation_p: Floats
    """abs(Pearson r) of each factor with its latent; 0 for a factor without a latent."""
    latent_p: NDArray[np.intp]
    """Latent of each factor; -1 for a factor without a latent."""


class Reproducibility(NamedTuple):
    """How well the other seeds reproduce the programs of each seed; one array per seed, in the order of the input.

    Examples
    --------
    ::

        reproducibility = sp.metrics.program_reproducibility([first_nk, second_nk])
    """

    fraction: tuple[Floats, ...]
    """Fraction of the other seeds that reproduce each program, (k,)."""
    correlation: tuple[Floats, ...]
    """Correlation of each program with its match, mean over the other seeds, (k,); 0 where no program was left to match."""
    matches: tuple[Floats, ...]
    """The same correlation for each other seed, (other seeds, k), the other seeds in the order of the input."""


def matched_correlation(latent_nk: ArrayLike, factor_np: ArrayLike) -> FactorMatch:
    """Return the one-to-one matching of true factors and latents with the largest sum of abs(Pearson r).

    The mean is the MCC of the literature on identifiability (Hyvärinen & Morioka 2016), over all factors. A factor without a latent counts
    0, if there are fewer latents than factors. A constant latent correlates 0 with everything. The matching is Hungarian.

    Parameters
    ----------
    latent_nk
        Latent representation, (n, k).
    factor_np
        True factors, (n, p), for example the simulated activities; none is constant.

    Raises
    ------
    ValueError
        If the arrays have different numbers of cells, a factor is constant, or an array is no matrix of finite numbers.

    Examples
    --------
    >>> match = sp.metrics.matched_correlation([[0.0], [-1.0], [-2.0]], [[0.0], [1.0], [2.0]])
    >>> round(match.mean, 3), match.latent_p
    (1.0, array([0]))
    """
    latent_nk = as_matrix(latent_nk, "latent_nk", "cells × latents")
    factor_np = as_matrix(factor_np, "factor_np", "cells × factors")
    if len(latent_nk) != len(factor_np):
        raise ValueError(
            f"latent_nk has {len(latent_nk)} cells and factor_np {len(factor_np)}; expected the same cells."
        )
    constant = np.flatnonzero(np.ptp(factor_np, axis=0) == 0)
    if len(constant):
        raise ValueError(f"factor {constant[0]} is constant; expected factors that vary. Leave this one out.")
    correlation_pk = np.abs(_correlations(factor_np, latent_nk))
    factors, latents = linear_sum_assignment(correlation_pk, maximize=True)
    correlation_p = np.zeros(factor_np.shape[1])
    latent_p = np.full(factor_np.shape[1], -1, np.intp)
    correlation_p[factors], latent_p[factors] = correlation_pk[factors, latents], latents
    return FactorMatch(float(correlation_p.mean()), correlation_p, latent_p)


def program_reproducibility(
    effects: Sequence[ArrayLike], threshold: float = 0.8, *, signed: bool = False
) -> Reproducibility:
    """Return how well each seed's programs are reproduced in every other seed.

    The programs of two seeds are matched one to one so that the sum of the correlations of their gene effects is largest (Hungarian). A
    program is reproduced if the correlation with its match is at least the threshold. A program without a match has the correlation 0 and
    is not reproduced; the other seed then has fewer programs. A program whose effects are all equal is never reproduced.

    Parameters
    ----------
    effects
        Gene effects, one matrix (g, k) per seed, of the same genes in the same order; k may differ. Pass active latents only, because
        inactive latents count as programs that are not reproduced.
    threshold
        Correlation from which a program counts as reproduced, above 0 and up to 1.
    signed
        Use the correlation as it is, for nonnegative effects. Default: abs(r), because a latent may be reversed.

    Raises
    ------
    ValueError
        If there are fewer than two seeds, their numbers of genes differ, or the threshold is out of range.

    Examples
    --------
    >>> first_gk, second_gk = [[1, 0], [2, 0], [0, 3]], [[1], [2], [0]]
    >>> sp.metrics.program_reproducibility([first_gk, second_gk], signed=True).fraction[0]
    array([1., 0.])
    """
    matrices = [
        as_matrix(effect_gk, f"effects[{seed}]", "genes × programs") for seed, effect_gk in enumerate(effects)
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
        rows, columns = linear_sum_assignment(correlation, maximize=True)
        matched[one][other, rows] = matched[other][one, columns] = correlation[rows, columns]
    n_others = len(matrices) - 1
    return Reproducibility(
        tuple((match >= threshold).sum(axis=0) / n_others for match in matched),
        tuple(match.sum(axis=0) / n_others for match in matched),
        tuple(np.delete(match, seed, axis=0) for seed, match in enumerate(matched)),
    )


def _correlations(a_nk: Floats, b_np: Floats) -> Floats:
    """Return Pearson's r of every column of one matrix with every column of the other, (k, p); 0 for constant columns."""
    unit = []
    for x in (a_nk, b_np):
        varies = np.ptp(x, axis=0) > 0
        centered = np.where(varies, x - x.mean(axis=0), 0)
        unit.append(centered / np.where(varies, np.linalg.norm(centered, axis=0), 1))
    return np.asarray((unit[0].T @ unit[1]).clip(-1, 1))
