"""Which cells and genes caused a loss that is not finite.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparcell.errors import TrainingError

if TYPE_CHECKING:
    from sparcell.data.loader import Loader
    from sparcell.nn.network import Network

N_NAMED = 3
"""Cells and genes named in the message."""
INFERENCE_BATCH = 1024


@torch.no_grad()
def explain(
    error: TrainingError, network: Network, loader: Loader, cells: Sequence[str], genes: Sequence[str]
) -> TrainingError:
    """Return the error that names the cells with the highest loss and the genes with the largest values in them."""
    network.eval()
    losses, largest_g = [], np.zeros(len(genes))
    for batch in loader.all_cells(INFERENCE_BATCH):
        posterior = network.posterior(batch)
        nll_n = network.likelihood.nll(network.decode(posterior.mean, batch), batch)
        losses.append((nll_n + posterior.kl().sum(dim=1)).cpu().numpy())
    loss_n = np.concatenate(losses).astype(np.float64)
    bad_n = ~np.isfinite(loss_n)
    order = np.argsort(-np.where(bad_n, np.inf, loss_n), kind="stable")
    worst = order[: max(N_NAMED, min(int(bad_n.sum()), INFERENCE_BATCH))]
    for batch in loader.batches([worst]):
        largest_g = batch.x_ng.abs().amax(dim=0).cpu().numpy()
    top = np.argsort(-largest_g, kind="stable")[:N_NAMED]
    how = f"not finite for {int(bad_n.sum())} cell(s)" if bad_n.any() else "largest for the cells"
    named = ", ".join(repr(str(cells[index])) for index in worst[:N_NAMED])
    values = ", ".join(f"{genes[index]} (up to {largest_g[index]:.4g})" for index in top)
    return TrainingError(
        f"{error}; expected a finite number. With the last good weights the loss is {how} {named}, whose largest values are those of "
        f"{values}. Check these cells and genes, remove them if they are artifacts, or try a lower learning rate."
    )
