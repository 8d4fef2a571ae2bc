"""The number of active latents that theory predicts from the data's covariance.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from sparcell.io.stored import StoredCells
from sparcell.metrics.active_latents import predict_active_latents

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from scipy import sparse

    from sparcell.models.fitted import Model

    Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Prediction:
    """A predicted number of active latents."""

    n_active: int | None
    """None for counts and for a model without a prior."""
    exact: bool
    """Whether the theory covers the model."""
    n_cells: int
    """Number of cells whose covariance was computed."""


def predict_active(model: Model, adata: AnnData) -> Prediction:
    """Return the predicted number of active latents.

    The theory covers a linear decoder of Gaussian expression with Gaussian latents. For other models of expression it is a guide. From a
    file that stays on disk, the covariance is that of `StoredCells.sample`: random cells from all over the file, or all that fit.
    """
    settings: Any = model.settings
    if model.schema.counts or not settings.generative:
        return Prediction(None, False, 0)
    cells = adata.sample() if isinstance(adata, StoredCells) else adata
    x_ng = model.schema.matrix(cells)
    n_latent = int(settings.n_latent)
    value_g = leading_eigenvalues(x_ng, n_latent)
    variance = settings.gaussian_variance if isinstance(settings.gaussian_variance, float | int) else None
    n_active = predict_active_latents(value_g, n_latent, beta=settings.kl_weight, gaussian_variance=variance)
    is_covered = model.network.decoder_type.additive and settings.gaussian_posterior
    return Prediction(n_active, is_covered, cells.n_obs)


def leading_eigenvalues(x_ng: sparse.csr_matrix, n_latent: int) -> Floats:
    """Return eigenvalues of the genes' covariance, (g,): the largest ones are exact, one more than `n_latent`, the others their mean."""
    n_cells, n_genes = x_ng.shape
    mean_g = np.asarray(x_ng.mean(axis=0)).ravel()
    sum_of_squares = float(x_ng.multiply(x_ng).sum())
    total_variance = sum_of_squares / n_cells - float(mean_g @ mean_g)
    n_exact = min(n_latent + 1, n_genes, n_cells)
    if n_exact >= n_genes - 1:
        dense_ng = x_ng.toarray() - mean_g
        return np.asarray(np.linalg.eigvalsh(dense_ng.T @ dense_ng / n_cells)[::-1])

    def covariance(v_g: Floats) -> Floats:
        flat_g = v_g.ravel()
        return np.asarray(x_ng.T @ (x_ng @ flat_g) / n_cells - mean_g * (mean_g @ flat_g))

    operator = LinearOperator((n_genes, n_genes), matvec=covariance, dtype=np.float64)
    largest = eigsh(operator, k=n_exact, return_eigenvectors=False, v0=np.ones(n_genes))
    rest = max(total_variance - float(largest.sum()), 0.0) / (n_genes - n_exact)
    return np.concatenate([np.sort(largest)[::-1], np.full(n_genes - n_exact, rest)])
