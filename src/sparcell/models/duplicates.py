"""Merge latents that duplicate each other, after training: one latent takes the effects of all, the others are switched off.

Near the point where a latent just pays for its KL, several latents often share one weak program: their values are nearly proportional,
and so are their effects. A reader would see one program many times. Consensus NMF (Kotliar et al. 2019) merges such copies too, by the
similarity of their effects.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

MIN_CORRELATION, MIN_COSINE = 0.9, 0.7
"""A latent duplicates another from this correlation of their values over cells, and this cosine of their effects on."""


def representatives(value_nk: ArrayLike, effect_gk: ArrayLike) -> NDArray[np.intp]:
    """Return for each latent the latent that represents it, (k,): itself, or the stronger latent that it duplicates.

    Latents are visited from the strongest contribution to the expression, mean z² · Σ effect², to the weakest. Each latent that is not a
    duplicate yet represents all weaker latents whose values and effects are similar to its own.

    Parameters
    ----------
    value_nk
        Posterior means, (n, k).
    effect_gk
        Effects of the latents, (g, k), of an additive decoder.
    """
    value_nk, effect_gk = (np.asarray(values, dtype=np.float64) for values in (value_nk, effect_gk))
    centered_nk = value_nk - value_nk.mean(axis=0)
    similar_kk = (_cosines(centered_nk) >= MIN_CORRELATION) & (_cosines(effect_gk) >= MIN_COSINE)
    strength_k = (value_nk**2).mean(axis=0) * (effect_gk**2).sum(axis=0)
    order = np.argsort(-strength_k, kind="stable")
    representative_k = np.arange(len(order))
    undecided_k = np.ones(len(order), dtype=bool)
    for latent in order:
        if undecided_k[latent]:
            undecided_k[latent] = False
            duplicates_k = similar_kk[latent] & undecided_k
            representative_k[duplicates_k] = latent
            undecided_k &= ~duplicates_k
    return representative_k


def merged_effects(value_nk: ArrayLike, effect_gk: ArrayLike, representative_k: NDArray[np.intp]) -> Floats:
    """Return effects, (g, k), with which the representatives alone decode nearly what all latents decode; 0 for duplicates.

    A duplicate is replaced by its regression on its representative, z_k ≈ b z_j with b = Σ z_j z_k / Σ z_j², so its effects join those of
    its representative times b.
    """
    value_nk, effect_gk = (np.asarray(values, dtype=np.float64) for values in (value_nk, effect_gk))
    merged_gk = effect_gk.copy()
    for latent in np.flatnonzero(representative_k != np.arange(len(representative_k))):
        by = representative_k[latent]
        ratio = (value_nk[:, by] @ value_nk[:, latent]) / (value_nk[:, by] @ value_nk[:, by])
        merged_gk[:, by] += ratio * effect_gk[:, latent]
        merged_gk[:, latent] = 0
    return merged_gk


def _cosines(x_mk: Floats) -> Floats:
    """Return the cosine of every pair of columns, (k, k); 0 for columns of zeros."""
    norm_k = np.linalg.norm(x_mk, axis=0)
    unit_mk = x_mk / np.where(norm_k > 0, norm_k, 1)
    return np.asarray(unit_mk.T @ unit_mk)
