"""Which latents are active, and how many to expect: arrays in, arrays or numbers out.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ACTIVE_VARIANCE = 0.01
"""A latent is active if its posterior mean varies over cells by more than this (Burda, Grosse & Salakhutdinov 2016, "active units")."""
ACTIVE_CELLS, ACTIVE_DISTANCE = 3, 1.0
"""With spikes a latent is also active if it is on in so many cells, by so much: one standard deviation of a slab."""


def active_latents(
    latent_nk: NDArray[np.floating], on_nk: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Tell which latents carry anything, (k,): variance of the code over cells above LIVE_VARIANCE.

    A latent with a spike that is on in a share p of the cells, with value v, has the variance p (1 - p) v²: small for a rare kind of
    cell, however clear the latent is. So, where `on_nk` tells in which cells each is on, a latent also lives if it is on in LIVE_CELLS
    cells or more and its means over on and off cells lie LIVE_DISTANCE or more apart.
    """
    active_k = np.asarray(latent_nk.var(axis=0) > ACTIVE_VARIANCE)
    if on_nk is None:
        return active_k
    n_on_k, n_off_k = on_nk.sum(axis=0), (~on_nk).sum(axis=0)
    on_k = (latent_nk * on_nk).sum(axis=0) / np.maximum(n_on_k, 1)
    off_k = (latent_nk * ~on_nk).sum(axis=0) / np.maximum(n_off_k, 1)
    apart_k = np.abs(on_k - off_k) >= ACTIVE_DISTANCE
    return np.asarray(active_k | (apart_k & (n_on_k >= ACTIVE_CELLS) & (n_off_k > 0)))


def predict_active_latents(
    eigenvalues: ArrayLike, n_latent: int, *, beta: float, variance: float | None
) -> int:
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
    for n_active in range(min(n_latent, len(value_g)) + 1):
        rest, genes_left = value_g[n_active:].sum(), len(value_g) - beta * n_active
        if rest <= 0 or genes_left <= 0:
            break
        noise = beta * rest / genes_left
        if (value_g[:n_active] <= noise).any():
            continue
        kl = 0.5 * np.log(value_g[:n_active] / noise).sum()
        loss = 0.5 * len(value_g) * np.log(noise / beta) + beta * kl
        if loss < lowest:
            best, lowest = n_active, loss
    return best
