"""Batches of cells made by hand, for tests of what stands behind the loader.

Suffixes: n cells, g genes, b batches, c covariates.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse

from sparcell.data.sources import InMemoryCells
from sparcell.protocols import Minibatch


def cells(x_ng, batch_nb=None, covariates_nc=None):
    """The given expression, its totals as sizes, and no covariates unless given."""
    none = x_ng.new_zeros((len(x_ng), 0))
    library_size_n1 = x_ng.sum(dim=1, keepdim=True).clamp_min(1)
    batch_nb = none if batch_nb is None else batch_nb
    return Minibatch(x_ng, library_size_n1, batch_nb, none if covariates_nc is None else covariates_nc)


def sparse_rows(x_ng):
    """The cells as they come to the kernels: among others, in another order."""
    others = sparse.random(3, x_ng.shape[1], density=0.3, format="csr", dtype=np.float32, random_state=0)
    rows = InMemoryCells(sparse.csr_matrix(sparse.vstack([others, sparse.csr_matrix(x_ng)[::-1], others])))
    return rows.rows(np.arange(len(rows) - 4, 2, -1))


def alike(batch, n_cells):
    """The first cell of a batch, so many times."""
    return Minibatch(
        *(
            value[:1].expand(n_cells, -1)
            for value in (batch.x_ng, batch.library_size_n1, batch.batch_nb, batch.covariates_nc)
        )
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)
