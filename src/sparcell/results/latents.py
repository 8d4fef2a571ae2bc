"""The latent representation of some cells.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sparcell.metrics.active_latents import active_of_blocks
from sparcell.metrics.sparsity import SparsitySummary, sparsity_summary
from sparcell.results.large_arrays import row_blocks

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
        if self.inclusion_nk is None:
            return active_of_blocks((mean_mk, None) for (mean_mk,) in row_blocks(self.mean_nk))
        pairs = row_blocks(self.mean_nk, self.inclusion_nk)
        return active_of_blocks((mean_mk, inclusion_mk >= MIN_INCLUSION) for mean_mk, inclusion_mk in pairs)

    @property
    def on_nk(self) -> NDArray[np.bool_]:
        """In which cells each latent is on.

        With spikes: inclusion probability of ½ or more. Without: at least as far from 0 as its root mean square over the cells.
        """
        if self.inclusion_nk is not None:
            return np.concatenate(
                [block_mk >= MIN_INCLUSION for (block_mk,) in row_blocks(self.inclusion_nk)]
            )
        totals = [_squares(block_mk).sum(axis=0) for (block_mk,) in row_blocks(self.mean_nk)]
        mean_k = np.sum(totals, axis=0) / len(self.mean_nk)
        return np.concatenate([_squares(block_mk) >= mean_k for (block_mk,) in row_blocks(self.mean_nk)])

    @property
    def sparsity(self) -> SparsitySummary | None:
        """Whether the model became sparse in these cells: see `metrics.sparsity_summary`; None for a model without spikes."""
        if self.inclusion_nk is None:
            return None
        totals = [block_mk.sum(axis=0, dtype=np.float64) for (block_mk,) in row_blocks(self.inclusion_nk)]
        # The summary reads the mean over the cells only.
        mean_k = np.sum(totals, axis=0) / len(self.inclusion_nk)
        return sparsity_summary(mean_k[None], self.active_k)


def _squares(latent_mk: Floats) -> NDArray[np.float64]:
    return np.square(latent_mk, dtype=np.float64)
