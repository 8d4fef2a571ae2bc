"""A small real data set for tests of the whole: some cells of PBMC3k, raw counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcell import datasets

if TYPE_CHECKING:
    from anndata import AnnData

N_CELLS = 420


def counts(n_cells: int = N_CELLS) -> AnnData:
    """Raw counts of `n_cells` cells of PBMC3k, the same ones each time."""
    adata = datasets.pbmc3k()
    chosen = np.sort(np.random.default_rng(0).choice(adata.n_obs, n_cells, replace=False))
    return adata[chosen].copy()
