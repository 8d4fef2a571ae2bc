"""The training loop: one page, read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch

from sparcell.contracts import Epoch
from sparcell.errors import TrainingError
from sparcell.objective import negative_elbo

if TYPE_CHECKING:
    from sparcell.config import TrainConfig
    from sparcell.contracts import Batch
    from sparcell.network import Network


def train(
    network: Network,
    batches: Callable[[int], Iterable[Batch]],
    config: TrainConfig,
    beta: float,
    generator: torch.Generator,
) -> Iterator[Epoch]:
    """Train `network` in place and yield a record after each epoch; stop early by not asking for the next one.

    `batches(epoch)` gives the batches of an epoch, counted from 1. Raises TrainingError when the loss is not finite.
    """
    adam = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    network.train()
    for number in range(1, config.epochs + 1):
        started = time.perf_counter()
        exact = torch.float32 if generator.device.type == "mps" else torch.float64  # mps has no float64
        sums = torch.zeros(3, dtype=exact, device=generator.device)
        n_cells = 0
        for batch in batches(number):
            loss = negative_elbo(network(batch, generator), network.likelihood, batch, beta)
            adam.zero_grad()
            loss.total.backward()  # type: ignore[no-untyped-call]
            adam.step()
            size = batch.x_ng.shape[0]
            n_cells += size
            sums += size * torch.stack([loss.total.detach(), loss.nll.detach(), loss.kl.detach()])
        total, nll, kl = (sums / n_cells).tolist()  # the only wait for the device in an epoch
        if not math.isfinite(total):
            raise TrainingError(
                f"the loss became {total} in epoch {number} (reconstruction {nll:.4g}, KL {kl:.4g}); expected a finite number. "
                f"Try a smaller learning rate (now {config.learning_rate:g}), and check the data for extreme values."
            )
        yield Epoch(number, total, nll, kl, time.perf_counter() - started)
    network.eval()
