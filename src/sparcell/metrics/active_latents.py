"""Which latents are active, and how many to expect: arrays in, arrays or numbers out.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

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
    return active_of_blocks([(latent_nk, on_nk)])


def active_of_blocks(
    blocks: Iterable[tuple[NDArray[np.floating], NDArray[np.bool_] | None]],
) -> NDArray[np.bool_]:
    """Return which latents are active, (k,), of cells that come in blocks: see `active_latents`. At least one block."""
    first_k: Any = None
    total_k: Any = 0.0
    square_k: Any = 0.0
    n_on_k: Any = 0
    sum_on_k: Any = 0.0
    n = 0
    for latent_mk, on_mk in blocks:
        first_k = latent_mk[0].astype(np.float64) if first_k is None else first_k
        shifted_mk = latent_mk - first_k  # float64: sums of many cells, and the difference of two of them
        n, total_k = n + len(latent_mk), total_k + shifted_mk.sum(axis=0)
        square_k = square_k + np.einsum("mk,mk->k", shifted_mk, shifted_mk)
        if on_mk is not None:
            n_on_k = n_on_k + on_mk.sum(axis=0)
            sum_on_k = sum_on_k + np.einsum("mk,mk->k", shifted_mk, on_mk)
    active_k = np.asarray(square_k / n - (total_k / n) ** 2 > ACTIVE_VARIANCE)
    if np.ndim(n_on_k) == 0:
        return active_k
    n_off_k = n - n_on_k
    difference_k = sum_on_k / np.maximum(n_on_k, 1) - (total_k - sum_on_k) / np.maximum(n_off_k, 1)
    distant_k = np.abs(difference_k) >= ACTIVE_DISTANCE
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
