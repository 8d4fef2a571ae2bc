"""Cells that are decoded rather than measured, and cells moved to another batch.

Suffixes: n cells, g genes, k latents.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
import torch

from sparcell.errors import InputError, did_you_mean
from sparcell.protocols import AVERAGE_BATCH, Minibatch

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from torch import Tensor

    from sparcell.data.covariates import CategoricalCovariate
    from sparcell.data.schema import Schema
    from sparcell.nn.network import Network


def average_minibatch(schema: Schema, x_ng: NDArray[np.float32], device: torch.device) -> Minibatch:
    """Return a minibatch of cells that do not come from a loader, as cells of an average batch."""
    x = torch.from_numpy(np.asarray(x_ng, dtype=np.float32)).to(device)
    library_size_n1 = x.sum(dim=1, keepdim=True).clamp_min(1.0)
    return Minibatch(x, library_size_n1, *average_covariates(schema, len(x), device))


def average_covariates(schema: Schema, n_cells: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return batch numbers, further covariates and batch proportions of an average cell of the fit, `n_cells` times."""
    average = schema.covariates.average(n_cells)
    return (
        torch.from_numpy(average.batch_n).to(device),
        torch.from_numpy(average.covariates_nc).to(device),
        torch.from_numpy(average.batch_proportions_b).to(device),
    )


def in_batch(cells: Minibatch, name: str, column: CategoricalCovariate | None) -> Minibatch:
    """Return the cells as if they were of another batch, or of an average one."""
    names = () if column is None else column.names
    if column is None or name not in (*names, "average"):
        raise InputError(f"no batch {name!r} in the model; {did_you_mean(name, [*names, 'average'])}")
    number = names.index(name) if name in names else AVERAGE_BATCH
    return replace(cells, batch_n=torch.full_like(cells.batch_n, number))


@torch.no_grad()
def decoded_cells(
    network: Network, schema: Schema, z_nk: torch.Tensor, generator: torch.Generator | None
) -> AnnData:
    """Decode latents as cells of an average batch at the median library size of the fit.

    X is the expected expression, (n, g), or a draw from the likelihood with `generator`.
    """
    average = average_minibatch(schema, np.zeros((len(z_nk), len(schema.genes)), np.float32), z_nk.device)
    library_size_n1 = torch.full_like(average.library_size_n1, schema.median_library_size)
    batch = replace(average, library_size_n1=library_size_n1)
    distribution = network.likelihood.distribution(network.decode(z_nk, batch), batch)
    x_ng = distribution.mean if generator is None else distribution.sample(generator)
    return anndata.AnnData(
        schema.inverse_zscore(x_ng.cpu().numpy()), var=pd.DataFrame(index=list(schema.genes))
    )
