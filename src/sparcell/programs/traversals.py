"""Traversals: expected expression of a program's top genes along its latent.

Suffixes: n cells, g genes, k latents, s steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell.data.normalize import TARGET_SUM
from sparcell.results.programs import Traversal

if TYPE_CHECKING:
    from sparcell.models.fitted import Model
    from sparcell.results.latents import LatentRepresentation
    from sparcell.tl.programs import Programs

N_STEPS, N_GENES = 15, 6
"""Steps of a traversal, and genes that it shows."""
END_PERCENTILE = 99
"""A traversal ends at this percentile of the latent's distance from 0, over the cells in which the program is on."""


def traverse_programs(
    model: Model, latents: LatentRepresentation, programs: Programs
) -> dict[str, Traversal]:
    """Return the traversal of each program by key: its latent goes from 0 to the 99th percentile, the other latents stay at their means.

    The means are over the cells in which the program is on, because its effects hold beside the other programs of these cells.
    """
    traversals = {}
    columns = {gene: g for g, gene in enumerate(model.schema.genes)}
    latent_numbers = programs.summary["latent"].to_numpy(dtype=np.int64) - 1
    signs = np.where(programs.summary["direction"] == "+", 1, -1)
    for (key, ranked), latent, sign in zip(programs.ranked_genes.items(), latent_numbers, signs, strict=True):
        on_n = latents.on_nk[:, latent] & (sign * latents.mean_nk[:, latent] > 0)
        end = float(np.percentile(np.abs(latents.mean_nk[on_n, latent]), END_PERCENTILE))
        distance_s = np.linspace(0, end, N_STEPS)
        mean_k = latents.mean_nk[on_n].mean(axis=0, dtype=np.float64)
        z_sk = np.tile(mean_k, (N_STEPS, 1)).astype(np.float32)
        z_sk[:, latent] = sign * distance_s
        genes = tuple(ranked[:N_GENES])
        expected_sg = model.decode(z_sk)[:, [columns[gene] for gene in genes]].astype(np.float64)
        if model.schema.counts:
            expected_sg = np.log1p(expected_sg / model.schema.median_library_size * TARGET_SUM)
        traversals[key] = Traversal(distance_s, genes, expected_sg)
    return traversals
