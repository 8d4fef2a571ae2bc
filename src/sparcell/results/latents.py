"""The latent representation of some cells.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sparcell.metrics.active_latents import active_latents
from sparcell.metrics.sparsity import SparsitySummary, sparsity_summary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

MIN_INCLUSION = 0.5
"""A latent counts as on from this posterior inclusion probability."""


@dataclass(frozen=True)
class LatentRepresentation:
    """The latent representation of some cells."""

    mean_nk: Floats
    """Posterior means."""
    kl_k: NDArray[np.float64]
    """KL of each latent to the prior in nats, mean over the cells."""
    inclusion_nk: Floats | None
    """Posterior inclusion probabilities; None for a model without spikes."""

    @property
    def active_k(self) -> NDArray[np.bool_]:
        """Which latents are active: see `metrics.active_latents`."""
        return active_latents(self.mean_nk, None if self.inclusion_nk is None else self.on_nk)

    @property
    def on_nk(self) -> NDArray[np.bool_]:
        """In which cells each latent is on.

        With spikes: inclusion probability of ½ or more. Without: at least as far from 0 as its root mean square over the cells.
        """
        if self.inclusion_nk is not None:
            return np.asarray(self.inclusion_nk >= MIN_INCLUSION)
        square_nk = np.square(self.mean_nk, dtype=np.float64)
        return np.asarray(square_nk >= square_nk.mean(axis=0))

    @property
    def sparsity(self) -> SparsitySummary | None:
        """Whether the model became sparse in these cells: see `metrics.sparsity_summary`; None for a model without spikes."""
        return None if self.inclusion_nk is None else sparsity_summary(self.inclusion_nk, self.active_k)
