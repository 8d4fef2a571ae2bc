"""Batches of cells made by hand, for tests of what stands behind the loader.

Suffixes: n cells, g genes, b batches, c covariates.
"""

from __future__ import annotations

import torch

from sparcell.contracts import Batch


def cells(x_ng, batch_nb=None, covariates_nc=None):
    """The given expression, its totals as sizes, and no covariates unless given."""
    none = x_ng.new_zeros((len(x_ng), 0))
    size_n1 = x_ng.sum(dim=1, keepdim=True).clamp_min(1)
    batch_nb = none if batch_nb is None else batch_nb
    return Batch(x_ng, size_n1, batch_nb, none if covariates_nc is None else covariates_nc)


def alike(batch, n_cells):
    """The first cell of a batch, so many times."""
    return Batch(
        *(
            value[:1].expand(n_cells, -1)
            for value in (batch.x_ng, batch.size_n1, batch.batch_nb, batch.covariates_nc)
        )
    )


def generator(seed=0):
    return torch.Generator().manual_seed(seed)
