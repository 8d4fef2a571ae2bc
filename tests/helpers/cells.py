"""Minibatches made by hand, for tests of what stands behind the loader.

Suffixes: n cells, g genes, b batches, c covariates.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import sparse

from sparcell.data.sources import InMemoryCells
from sparcell.protocols import AVERAGE_BATCH, Minibatch


def cells(x_ng, batch_nb=None, covariates_nc=None):
    """Return a minibatch of the expression, with its totals as library sizes and, by default, no batches and no covariates.

    `batch_nb` has one-hot rows. A row that is not one-hot makes its cell an average one, and holds the batch proportions.
    """
    none = x_ng.new_zeros((len(x_ng), 0))
    batch_nb = none if batch_nb is None else batch_nb
    n_batches = batch_nb.shape[1]
    batch_n, proportions_b = torch.zeros(len(x_ng), dtype=torch.int64), batch_nb.new_zeros(0)
    if n_batches:
        average_n = batch_nb.amax(dim=1) < 1
        batch_n = torch.where(average_n, AVERAGE_BATCH, batch_nb.argmax(dim=1))
        proportions_b = batch_nb[average_n][0] if average_n.any() else batch_nb.mean(dim=0)
    return Minibatch(
        x_ng,
        x_ng.sum(dim=1, keepdim=True).clamp_min(1),
        batch_n,
        none if covariates_nc is None else covariates_nc,
        proportions_b,
    )


def sparse_rows(x_ng):
    """Return the cells as the kernels read them: among other rows, in another order."""
    others = sparse.random(3, x_ng.shape[1], density=0.3, format="csr", dtype=np.float32, random_state=0)
    rows = InMemoryCells(sparse.csr_matrix(sparse.vstack([others, sparse.csr_matrix(x_ng)[::-1], others])))
    return rows.rows(np.arange(len(rows) - 4, 2, -1))


def first_cell_repeated(batch, n_cells):
    """Return the first cell of a minibatch `n_cells` times."""
    return batch.take(torch.zeros(n_cells, dtype=torch.int64))


def with_x(batch, x):
    """Return the minibatch with other expression and the same library sizes, batches and covariates."""
    return replace(batch, x=x)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)
