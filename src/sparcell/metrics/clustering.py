"""Scores: arrays in, floats out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

LIVE_VARIANCE = 0.01
"""A latent is live when its code varies over cells by more than this (Burda, Grosse & Salakhutdinov 2016, "active units")."""
LIVE_CELLS, LIVE_DISTANCE = 3, 1.0
"""With spikes a latent is live too when it is on in so many cells, by so much: the standard deviation of a slab."""


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


def live_latents(code_nk: NDArray[np.floating], on_nk: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Tell which latents carry anything, (k,): variance of the code over cells above LIVE_VARIANCE.

    A latent with a spike that is on in a share p of the cells, with value v, has the variance p (1 - p) v²: small for a rare kind of
    cell, however clear the latent is. So, where `on_nk` tells in which cells each is on, a latent also lives if it is on in LIVE_CELLS
    cells or more and its means over on and off cells lie LIVE_DISTANCE or more apart.
    """
    live_k = np.asarray(code_nk.var(axis=0) > LIVE_VARIANCE)
    if on_nk is None:
        return live_k
    n_on_k, n_off_k = on_nk.sum(axis=0), (~on_nk).sum(axis=0)
    on_k = (code_nk * on_nk).sum(axis=0) / np.maximum(n_on_k, 1)
    off_k = (code_nk * ~on_nk).sum(axis=0) / np.maximum(n_off_k, 1)
    apart_k = np.abs(on_k - off_k) >= LIVE_DISTANCE
    return np.asarray(live_k | (apart_k & (n_on_k >= LIVE_CELLS) & (n_off_k > 0)))


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


def expected_live(eigenvalues: ArrayLike, n_latent: int, *, beta: float, variance: float | None) -> int:
    """Predict, before training, how many latents of a linear beta-VAE with Gaussian expression will live.

    At the optimum of its bound latents are principal components, and one lives if its eigenvalue is above beta · variance (Lucas, Tucker,
    Grosse & Norouzi 2019). Deeper networks, counts and spikes are not covered: the number is then no more than a guide.

    Parameters
    ----------
    eigenvalues
        Of the covariance matrix of the data in the model's units, all of them, zeros too, (g,); any order.
    n_latent
        Latents that there are.
    beta
        Weight of the KL.
    variance
        Of the decoder; None for "analytic", which is best for the latents that live: with m of them, (sum of the other eigenvalues) /
        (g - beta · m). Of the m that hold, that with the lowest loss counts.
    """
    value_g = np.sort(np.asarray(eigenvalues, dtype=np.float64))[::-1]
    if variance is not None:
        return int(min(n_latent, (value_g > beta * variance).sum()))
    best, lowest = 0, np.inf
    for n_live in range(min(n_latent, len(value_g)) + 1):
        rest, genes_left = value_g[n_live:].sum(), len(value_g) - beta * n_live
        if rest <= 0 or genes_left <= 0:
            break
        noise = beta * rest / genes_left
        if (value_g[:n_live] <= noise).any():
            continue
        kl = 0.5 * np.log(value_g[:n_live] / noise).sum()
        loss = 0.5 * len(value_g) * np.log(noise / beta) + beta * kl
        if loss < lowest:
            best, lowest = n_live, loss
    return best
