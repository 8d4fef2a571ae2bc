"""Which latents are active, and how many to expect: arrays in, arrays or numbers out.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ACTIVE_VARIANCE = 0.01
"""A latent is active if its posterior mean varies over cells by more than this ("active units": Burda, Grosse & Salakhutdinov 2016)."""
ACTIVE_CELLS, ACTIVE_DISTANCE = 3, 1.0
"""A latent with spikes is also active if it is on in this many cells, by this distance: one standard deviation of a slab."""


def active_latents(
    latent_nk: NDArray[np.floating], on_nk: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return which latents are active, (k,): their variance over the cells is above 0.01.

    A latent with spikes that is on in a fraction p of the cells, with value v, has the variance p (1 - p) v². This is small for a rare cell
    type, however clear the latent is. So with `on_nk` a latent is also active under two conditions: the latent is on in 3 cells or more,
    and its means over the cells where it is on and off differ by 1 or more.

    Parameters
    ----------
    latent_nk
        Posterior means, (n, k).
    on_nk
        In which cells each latent is on, (n, k). Default: only the variance counts.

    Examples
    --------
    >>> import numpy as np
    >>> sp.metrics.active_latents(np.array([[0.0, 3.0], [1.0, 3.0]]))
    array([ True, False])
    """
    active_k = np.asarray(latent_nk.var(axis=0) > ACTIVE_VARIANCE)
    if on_nk is None:
        return active_k
    n_on_k, n_off_k = on_nk.sum(axis=0), (~on_nk).sum(axis=0)
    mean_on_k = (latent_nk * on_nk).sum(axis=0) / np.maximum(n_on_k, 1)
    mean_off_k = (latent_nk * ~on_nk).sum(axis=0) / np.maximum(n_off_k, 1)
    distant_k = np.abs(mean_on_k - mean_off_k) >= ACTIVE_DISTANCE
    return np.asarray(active_k | (distant_k & (n_on_k >= ACTIVE_CELLS) & (n_off_k > 0)))


def predict_active_latents(
    eigenvalues: ArrayLike, n_latent: int, *, beta: float, gaussian_variance: float | None
) -> int:
    """Return the number of latents of a linear beta-VAE that the theory predicts to be active, before training.

    At the optimum of the bound the latents are principal components. A latent is active if its eigenvalue is above beta · variance (Lucas,
    Tucker, Grosse & Norouzi 2019). The theory does not cover deeper networks, counts and spikes; the number is then a guide.

    Parameters
    ----------
    eigenvalues
        All eigenvalues of the covariance matrix of the data in the model's units, zeros included, (g,), in any order.
    n_latent
        Number of latents of the model.
    beta
        Weight of the KL.
    gaussian_variance
        Variance of the decoder. None stands for "analytic", the variance that is best for the active latents: with m of them, (sum of the
        other eigenvalues) / (g - beta · m). If several m are consistent, the m with the lowest loss counts.

    Examples
    --------
    >>> sp.metrics.predict_active_latents([8.0, 3.0, 1.4, 0.3], n_latent=4, beta=2.0, gaussian_variance=0.5)
    3
    """
    value_g = np.sort(np.asarray(eigenvalues, dtype=np.float64))[::-1]
    if gaussian_variance is not None:
        return int(min(n_latent, (value_g > beta * gaussian_variance).sum()))
    best, lowest_loss = 0, np.inf
    for n_active in range(min(n_latent, len(value_g)) + 1):
        rest, genes_left = value_g[n_active:].sum(), len(value_g) - beta * n_active
        if rest <= 0 or genes_left <= 0:
            break
        noise = beta * rest / genes_left
        if (value_g[:n_active] <= noise).any():
            continue
        kl = 0.5 * np.log(value_g[:n_active] / noise).sum()
        loss = 0.5 * len(value_g) * np.log(noise / beta) + beta * kl
        if loss < lowest_loss:
            best, lowest_loss = n_active, loss
    return best
