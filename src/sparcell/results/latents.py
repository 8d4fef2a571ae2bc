"""The codes of some cells: what a model says of them.

Suffixes: n cells, k latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sparcell.metrics.clustering import live_latents

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

LEAST_GAMMA = 0.5
"""From this posterior probability on a latent counts as on."""


@dataclass(frozen=True)
class Codes:
    """The codes of some cells."""

    mean_nk: Floats
    """Posterior means."""
    kl_nk: Floats
    """KL to the prior in nats."""
    gamma_nk: Floats | None
    """Posterior probability that a latent is on; None for a model without spikes."""

    @property
    def kl_k(self) -> NDArray[np.float64]:
        """Mean KL of each latent over the cells, in nats."""
        return np.asarray(self.kl_nk.mean(axis=0, dtype=np.float64))

    @property
    def live_k(self) -> NDArray[np.bool_]:
        """Which latents vary over the cells."""
        return live_latents(self.mean_nk, None if self.gamma_nk is None else self.on_nk)

    @property
    def on_nk(self) -> NDArray[np.bool_]:
        """Where each latent is on: gamma ½ or more; without spikes, as far from 0 as its root mean square over the cells, or further."""
        if self.gamma_nk is not None:
            return np.asarray(self.gamma_nk >= LEAST_GAMMA)
        square_nk = np.square(self.mean_nk, dtype=np.float64)
        return np.asarray(square_nk >= square_nk.mean(axis=0))
