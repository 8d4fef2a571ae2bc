"""Which cells and genes were at fault when the loss was not finite.

Suffixes: n cells, g genes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sparcell.data.sampler import in_order
from sparcell.errors import TrainingError

if TYPE_CHECKING:
    from sparcell.data.loader import Loader
    from sparcell.nn.network import Network

SHOWN = 3
"""Names told of each kind."""
READ_BATCH = 1024


@torch.no_grad()
def explain(
    error: TrainingError, network: Network, loader: Loader, cells: Sequence[str], genes: Sequence[str]
) -> TrainingError:
    """Make the error that names the cells with the worst loss and the genes with the largest values in them."""
    network.eval()
    losses, largest = [], np.zeros(len(genes))
    for batch in loader.batches(in_order(len(cells), READ_BATCH)):
        posterior = network.posterior(batch)
        nll_n = network.likelihood.nll(network.decode(posterior.mean, batch), batch)
        losses.append((nll_n + posterior.kl().sum(dim=1)).cpu().numpy())
    loss_n = np.concatenate(losses).astype(np.float64)
    bad_n = ~np.isfinite(loss_n)
    order = np.argsort(-np.where(bad_n, np.inf, loss_n), kind="stable")
    worst = order[: max(SHOWN, min(int(bad_n.sum()), READ_BATCH))]
    for batch in loader.batches([worst]):
        largest = batch.x_ng.abs().amax(dim=0).cpu().numpy()
    top = np.argsort(-largest, kind="stable")[:SHOWN]
    how = f"not finite for {int(bad_n.sum())} cell(s)" if bad_n.any() else "largest for the cells"
    named = ", ".join(repr(str(cells[index])) for index in worst[:SHOWN])
    values = ", ".join(f"{genes[index]} (up to {largest[index]:.4g})" for index in top)
    return TrainingError(
        f"{error}; expected a finite number. With the last good weights the loss is {how} {named}, whose largest values are those of "
        f"{values}. Look at these cells and genes, leave them out if they are artefacts, or try a smaller learning rate."
    )
